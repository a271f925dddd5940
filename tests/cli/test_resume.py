"""``--resume --out FOLDER`` reads back the options that the run began with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laconic.cli import main
from tests.helpers.commands import compress

FEW = ["--set", "reference.epochs=2", "--set", "fit.epochs=2", "--no-picture"]
RUN = """
network = "digits-mlp"
threads = 1
picture = false
[settings]
reference.epochs = 1
[[stage]]
method = "distillation"
fit.epochs = 1
[[stage]]
method = "magnitude"
sparsity = 0.5
fit.epochs = 1
"""


def _interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def _again(out: Path, *words: str) -> int:
    return main(["compress", "--resume", "--out", str(out), *words])


def test_the_folder_alone_goes_on_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*compress("magnitude", tmp_path / "whole"), *FEW, "--target", "5kB"]
    assert main(words) == 0
    begun = tmp_path / "begun"
    words[words.index(str(tmp_path / "whole"))] = str(begun)
    with monkeypatch.context() as patch:
        patch.setattr("laconic.cli.compress.run_job", _interrupt)
        assert main(words) == 130
    assert f"interrupted; go on with --resume --out {begun}" in capsys.readouterr().err
    assert _again(begun) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("target 5kB met: ")
    for name in ("model.lac", "settings.json"):
        assert (begun / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (begun / "report.png").exists()


def test_a_contradiction_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main([*compress("magnitude", out), *FEW]) == 0
    for words, told in (
        (["--seed", "3"], "holds a run with reference.seed=0, not 3"),
        (["--set", "sparsity=0.7"], "method_settings.sparsity=0.8, not 0.7"),
        (["--method", "vnq"], "holds a run with method='magnitude', not 'vnq'. Cure: leave method out"),
        (["digits-cnn"], "holds a run with network='digits-mlp', not 'digits-cnn'"),
    ):
        capsys.readouterr()
        assert _again(out, *words) == 2
        assert told in capsys.readouterr().err
    assert _again(out, "--set", "sparsity=0.8", "digits-mlp") == 0


def test_stages_of_a_run_file_are_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.toml").write_text(RUN)
    out = tmp_path / "run"
    assert main(["compress", "--config", str(tmp_path / "run.toml"), "--out", str(out)]) == 0
    (tmp_path / "run.toml").unlink()
    assert _again(out) == 0
    assert "is finished already" in capsys.readouterr().err
    for name in ("model.lac", "record.json"):
        (out / name).unlink()
    assert _again(out) == 0
    record = json.loads((out / "record.json").read_text())
    assert [s["method"] for s in record["settings"]["stages"]] == ["Distillation", "MagnitudePruning"]


def test_a_folder_without_options_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _again(tmp_path / "none") == 2
    assert (
        f"--resume: {tmp_path / 'none'} does not hold the options of a run. Cure" in capsys.readouterr().err
    )
    assert not (tmp_path / "none").exists()
    assert main(["compress", "--resume"]) == 2
    assert "--resume: no run is named. Cure: --out FOLDER" in capsys.readouterr().err
    out = tmp_path / "run"
    words = [*compress("magnitude", out), *FEW]
    assert main(words) == 0
    settings = json.loads((out / "settings.json").read_text())
    del settings["request"]  # a run that an older version began
    (out / "settings.json").write_text(json.dumps(settings))
    assert _again(out) == 2
    assert "does not hold the options of a run" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    for text in ("[]", '{"request": 3}', '{"request": {"options": 1, "settings": {}, "stages": []}}', "{"):
        (out / "settings.json").write_text(text)
        assert _again(out) == 2
        assert "does not hold the options of a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": 5}, "target must be str, got 5"),
        ({"network": ["digits-mlp"]}, "network must be str, got ['digits-mlp']"),
        ({"data": 5}, "data must be str, got 5"),
        ({"seed": True}, "seed must be int, got True"),
        ({"keep": "head"}, "keep must be list, got 'head'"),
    ],
)
def test_an_option_of_another_type_in_the_folder_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, object], said: str
) -> None:
    request = {"options": {"network": "digits-mlp", **options}, "settings": {}, "stages": []}
    (tmp_path / "settings.json").write_text(json.dumps({"request": request}))
    assert _again(tmp_path) == 2
    err = capsys.readouterr().err
    assert f"settings.json: {said}. Cure: " in err
    assert "Traceback" not in err
