"""Exit statuses, interruptions, closed pipes, and what the command imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from laconic.cli import main
from tests.helpers.fresh import run_fresh


def _interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "place", "said"),
    [
        (["compress", "digits-mlp"], "laconic.cli.compress.run_compress", "interrupted"),
        (["inspect", "m.lac"], "laconic.cli.readers.run_inspect", "interrupted"),
        (["verify", "m.lac", "--data", "digits"], "laconic.cli.readers.run_verify", "interrupted"),
        (["run", "m.lac", "x.npy"], "laconic.cli.readers.run_network", "interrupted"),
        (["bench", "m.lac"], "laconic.cli.bench.run_bench", "interrupted"),
        (["export", "m.lac", "m.onnx"], "laconic.cli.readers.run_export", "interrupted"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_interruption_is_130(
    words: list[str],
    place: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(place, _interrupt)
    assert main(words) == 130
    assert capsys.readouterr().err == f"laconic: {said}\n"


def test_a_reader_of_the_output_that_has_gone_is_no_error(relu: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with subprocess.Popen(
        [sys.executable, "-m", "laconic", "inspect", relu],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(write_end)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


@pytest.mark.parametrize("missing", ["torch", "lightning_fabric"])
def test_compress_on_the_plain_install_names_the_cure(missing: str) -> None:
    code = f"""
import contextlib, io, sys
sys.modules[{missing!r}] = None
from laconic.cli import main
err = io.StringIO()
with contextlib.redirect_stderr(err):
    status = main(["compress", "digits-mlp", "--out", "no-such-run"])
print(status, err.getvalue())
"""
    assert run_fresh(code).strip() == (
        f"2 laconic: InputError: laconic compress needs {missing}, which the plain install leaves out. "
        "Cure: pip install 'laconic[train]'"
    )


def test_another_missing_module_is_not_taken_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "laconic.cli.compress", raising=False)
    monkeypatch.delitem(sys.modules, "laconic.cli.loaders", raising=False)
    monkeypatch.setitem(sys.modules, "laconic.data", None)
    with pytest.raises(ModuleNotFoundError):
        main(["compress", "digits-mlp"])


@pytest.mark.parametrize("module", ["laconic", "laconic.runtime", "laconic.cli"])
def test_importing_is_light(module: str) -> None:
    heavy = {"torch", "lightning_fabric", "onnx", "onnxruntime", "google.protobuf", "matplotlib", "rich"}
    assert run_fresh(f"import sys, {module}; print(sorted({heavy!r} & set(sys.modules)))") == "[]\n"


def test_the_readers_work_where_there_is_no_torch(relu: str, tmp_path: Path) -> None:
    x = tmp_path / "x.npy"
    np.save(x, np.array([[-1, 0, 2]], np.float32))
    (tmp_path / "own_arrays.py").write_text(
        "import numpy as np\ndef data(): return np.eye(3, dtype=np.float32), np.arange(3)\n"
    )
    commands = [
        ["inspect", relu],
        ["run", relu, str(x)],
        ["verify", relu, "--data", "own_arrays:data"],
        ["bench", relu, "--batch", "400"],
        ["export", relu, str(tmp_path / "m.onnx")],
    ]
    code = f"""
import os
os.chdir({str(tmp_path)!r})
from laconic.cli import main
print([main(words) for words in {commands!r}])
"""
    said = run_fresh(code, without_torch=True)
    assert said.endswith("[0, 0, 0, 0, 0]\n")
    assert "test error 0.00 % over 3 examples" in said
    assert "torch imported: no (the file was decoded and run without PyTorch)" in said


def test_the_first_help_text_imports_little() -> None:
    """Half of what it took went to modules that it does not need."""
    code = """
import contextlib, io, sys
from laconic.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["--help"])
avoided = {"dataclasses", "inspect", "shutil", "json", "threading", "laconic.registry"}
print(sorted(avoided & set(sys.modules)))
"""
    assert run_fresh(code) == "[]\n"


def test_a_help_text_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("compress", "inspect", "verify", "run", "bench", "export", "cost", "methods"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80, command


def test_the_help_of_cost_says_what_its_columns_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["cost", "--help"])
    out = capsys.readouterr().out
    for column in ("bits", "MACs", "non-zero", "other", "moved, B", "live, B", "path", "us, nJ"):
        assert f"\n  {column} " in out


@pytest.mark.parametrize(
    ("setting", "cure"),
    [
        ("seed=3", "no setting 'seed' (from seed=3). Cure: --seed 3"),
        ("target=0.3", "Cure: --target 0.3"),
        ("int8=true", "Cure: --int8"),
        ("network=lenet5", "Cure: laconic compress lenet5"),
        ("fit=3", "setting fit=3 has parts. Cure: fit.epochs=3"),
        ("reference=3", "setting reference=3 has parts. Cure: reference.epochs=3"),
        ("lr=0.1", "Cure: fit.lr=0.1 for the training with the method"),
        (
            "stage2.fit.epochs=3",
            "setting stage2.fit.epochs=3: this run has one stage. Cure: fit.epochs=3, or",
        ),
        ("stage1=3", "setting stage1=3 names no field. Cure: stage1.fit.epochs=3"),
    ],
)
def test_a_setting_of_another_place_is_told_how_it_is_written(
    setting: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", "digits-mlp", "--out", "no-such-run", "--set", setting]) == 2
    assert cure in capsys.readouterr().err
