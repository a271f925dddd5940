"""``laconic compress`` and the commands that read its file, as a person runs them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from laconic import pack
from laconic.cli import main
from laconic.data import load
from laconic.data.images import as_input
from laconic.runtime import load as load_runtime

QUICK = ["--threads", "1", "--set", "reference.epochs=6", "--set", "fit.epochs=4"]
METHOD_SETTINGS = {
    "sparse-vd": ["--set", "warm_up.end=1", "--set", "hold_from=3"],
    "vnq": ["--set", "warm_up.start=0", "--set", "warm_up.end=2"],
    "magnitude": ["--set", "sparsity=0.8", "--set", "every=5"],
}


def laconic(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "laconic", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        check=False,
    )


def compress(method: str, out: Path) -> list[str]:
    """The words of a quick run."""
    return ["compress", "digits-mlp", "--method", method, "--out", str(out), *QUICK, *METHOD_SETTINGS[method]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(folder: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One finished run."""
    return folder / "sparse-vd", laconic(*compress("sparse-vd", folder / "sparse-vd"))


@pytest.fixture(scope="module")
def model(run: tuple[Path, subprocess.CompletedProcess[str]]) -> str:
    return str(run[0] / "model.lac")


def test_a_run_says_what_it_does_and_what_came_out(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, done = run
    assert done.returncode == 0, done.stderr
    assert re.search(r"training 4/4  loss \d+\.\d+  \d+:\d\d gone, 0:00 left", done.stderr)
    assert "training the reference digits-mlp" in done.stderr
    size = (out / "model.lac").stat().st_size
    assert f"{19240 / size:.1f}x smaller: 19240 -> {size} bytes" in done.stdout
    assert re.search(r"test error \d+\.\d\d % before, \d+\.\d\d % after, from the decoded file", done.stdout)
    assert str(out / "model.lac") in done.stdout
    assert size < 19240 / 5


def test_the_record_holds_settings_layers_and_the_error_from_the_file(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    record = json.loads((run[0] / "record.json").read_text())
    assert record["settings"]["fit"]["epochs"] == 4
    assert record["settings"]["method_settings"]["hold_from"] == 3.0
    assert [row["name"] for row in record["layers"]] == ["fc1.weight", "fc2.weight", "fc1.bias", "fc2.bias"]
    images = load("digits")
    logits = load_runtime(run[0] / "model.lac")(as_input(images.test_images, images.scale))
    wrong = int((np.asarray(logits).argmax(1) != images.test_labels).sum())
    assert record["metrics"]["test_wrong"] == wrong
    assert record["metrics"]["test_error_percent"] == pytest.approx(100 * wrong / 360)


@pytest.mark.parametrize("method", ["vnq", "magnitude"])
def test_the_other_methods_run_too(method: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(compress(method, folder / method)) == 0
    record = json.loads((folder / method / "record.json").read_text())
    assert record["metrics"]["test_error_percent"] < 60
    assert record["file_bytes"] == (folder / method / "model.lac").stat().st_size < 19240 / 5
    if method == "vnq":
        assert all(row["levels"] <= 3 for row in record["layers"] if row["name"].endswith("weight"))
    assert "x smaller" in capsys.readouterr().out


def test_the_rows_of_inspect_add_up_to_the_files_length(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    rule = [k for k, line in enumerate(lines) if set(line) == {"-"}]
    end = lines[0].index("bytes") + len("bytes")
    rows = [int(line[:end].split()[-1]) for line in lines[rule[0] + 1 : rule[1]]]
    size = Path(model).stat().st_size
    assert sum(rows) == size == int(lines[rule[1] + 1].split()[-1])
    assert f"{size} bytes, 4810 weights" in lines[-1]
    assert sum(row.bytes for row in pack.layout(Path(model).read_bytes())) == size


def test_verify_scores_the_file_without_torch(model: str) -> None:
    done = laconic("verify", model, "--data", "digits")
    assert done.returncode == 0, done.stderr
    assert "torch imported: no" in done.stdout
    assert re.search(r"test error \d+\.\d\d % \(\d+ of 360 wrong\)", done.stdout)


def test_verify_in_json_agrees_with_the_record(
    run: tuple[Path, subprocess.CompletedProcess[str]], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", model, "--data", "digits", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    metrics = json.loads((run[0] / "record.json").read_text())["metrics"]
    assert score["wrong"] == metrics["test_wrong"]
    assert score["nll"] == pytest.approx(metrics["test_nll"])
    assert score["bytes"] == Path(model).stat().st_size


def test_run_prints_or_saves_what_the_network_says(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    assert main(["run", model, str(tmp_path / "x.npy"), "--out", str(tmp_path / "y.npy")]) == 0
    assert "float32 (3, 10)" in capsys.readouterr().out
    assert np.array_equal(np.load(tmp_path / "y.npy"), load_runtime(model)(x))
    assert main(["run", model, str(tmp_path / "x.npy")]) == 0
    assert capsys.readouterr().out.count("[") == 4


def test_bench_prints_times(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", model, "--batch", "2", "8"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"load \(decode \+ build\) +\d+\.\d+ ms +\(\d+\.\d+ \.\. \d+\.\d+\)", out)
    assert "predict, batch 2 " in out
    assert "predict, batch 8 " in out


def test_export_writes_onnx_that_the_checker_accepts(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", model, str(tmp_path / "model.onnx")]) == 0
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    assert f"{(tmp_path / 'model.onnx').stat().st_size} bytes" in capsys.readouterr().out


def test_a_finished_run_is_shown_again_and_not_run_over(
    run: tuple[Path, subprocess.CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run
    before = (out / "model.lac").read_bytes(), (out / "record.json").read_bytes()
    assert main([*compress("sparse-vd", out), "--resume"]) == 0
    assert "is finished already" in capsys.readouterr().err
    assert main(compress("sparse-vd", out)) == 2
    assert "holds a run already. Cure: --resume" in capsys.readouterr().err
    assert main([*compress("sparse-vd", out), "--resume", "--seed", "1"]) == 2
    assert "Cure: resume with the same settings" in capsys.readouterr().err
    assert main([*compress("sparse-vd", out), "--resume", "--set", "data.batch_size=16"]) == 2
    assert "data.batch_size=None, not 16" in capsys.readouterr().err
    assert ((out / "model.lac").read_bytes(), (out / "record.json").read_bytes()) == before


# --- one's own network and data, and run files ------------------------------------------------------

_OWN = '''
import numpy as np
import torch
from torch import nn


class Branching(nn.Module):
    """Its path depends on the values: no graph."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x):
        return self.a(x) if bool((x.sum() > 1e6).item()) else self.b(x)


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def branching():
    torch.manual_seed(0)
    return Branching()


def nothing():
    return 7


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 5, generator=generator)
    y = x[:, :3].argmax(1)
    cut = lambda a, b: [(x[k : k + 10], y[k : k + 10]) for k in range(a, b, 10)]
    return cut(0, 50), cut(50, 70), cut(70, 90)


def test_set():
    x, y = zip(*data()[2])
    return torch.cat(x).numpy(), torch.cat(y).numpy()


def one_loader():
    return data()[0]
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of the user's own in the current folder."""
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(_OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_ones_own_network_and_data(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.toml").write_text(
        f'model = "{own}:plain"\ndata = "{own}:data"\nmethod = "magnitude"\nseed = 3\nthreads = 1\n'
        "[settings]\nsparsity = 0.25\nfit.epochs = 2\n[settings.grid]\nsteps = [1.0]\n"
    )
    torch.set_num_threads(2)
    assert main(["compress", "--config", "run.toml", "--out", "run", "--set", "fit.lr=0.002"]) == 0
    assert torch.get_num_threads() == 1
    record = json.loads(Path("run/record.json").read_text())
    assert record["seed"] == 3
    assert record["settings"]["method_settings"]["sparsity"] == 0.25
    assert record["settings"]["method_settings"]["grid"]["steps"] == [1.0]
    assert (record["settings"]["fit"]["lr"], record["settings"]["fit"]["epochs"]) == (0.002, 2)
    assert record["metrics"]["test_examples"] == 20
    capsys.readouterr()
    assert main(["verify", "run/model.lac", "--data", f"{own}:test_set", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["wrong"] == record["metrics"]["test_wrong"]


def test_a_network_without_a_graph_is_saved_and_the_user_is_told(
    own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compress", "--model", f"{own}:branching", "--data", f"{own}:data", "--method", "magnitude"]
    assert (
        main([*words, "--out", "run", "--set", "fit.epochs=1", "--set", "sparsity=0.2", "--threads", "1"])
        == 0
    )
    out = capsys.readouterr().out
    assert "note: " in out
    assert "the file holds weights only; load them with laconic.restore(path, into=module)" in out
    record = json.loads(Path("run/record.json").read_text())
    assert any("weights only" in note for note in record["notes"])
    assert "test_error_percent" in record["metrics"]
    np.save("x.npy", np.zeros((1, 5), np.float32))
    for words in (
        ["run", "run/model.lac", "x.npy"],
        ["verify", "run/model.lac", "--data", f"{own}:test_set"],
    ):
        assert main(words) == 2
        assert "WeightsOnlyError" in capsys.readouterr().err
    assert main(["inspect", "run/model.lac"]) == 0


def test_what_ones_own_functions_must_return(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        ([f"{own}:nothing", f"{own}:data"], "returned a int, not an nn.Module"),
        ([f"{own}:plain", f"{own}:one_loader"], "should return (train, validation)"),
        ([f"{own}:plain", f"{own}:absent"], "has no attribute 'absent'"),
        (["no_such_module:plain", f"{own}:data"], "No module named 'no_such_module'"),
        ([f"{own}:plain", "minst"], "no data set is called 'minst'"),
        ([":plain", f"{own}:data"], "should read package.module:function"),
    ]
    for (model, data), complaint in cases:
        assert main(["compress", "--model", model, "--data", data, "--out", "same"]) == 2
        err = capsys.readouterr().err
        assert complaint in err
        assert err.strip().splitlines()[-1].startswith("laconic: ")


# --- names and numbers that cannot be ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["compress", "lenet6"], "no network is called 'lenet6'. Cure: one of digits-cnn"),
        (["compress"], "name one network"),
        (["compress", "digits-mlp", "--model", "a:b"], "name one network"),
        (["compress", "--model", "a:b"], "--model needs --data"),
        (
            ["compress", "digits-mlp", "--method", "magic"],
            "no method is called 'magic'. Cure: one of magnitude",
        ),
        (["compress", "digits-mlp", "--data", "minst"], "no data set is called 'minst'. Cure: one of digits"),
        (["compress", "lenet5", "--data", "digits"], "(2, 1, 8, 8) does not fit: layer 'conv2'"),
        (
            ["compress", "digits-mlp", "--preset", "huge"],
            "no preset is called 'huge'. Cure: one of demo, full",
        ),
        (["compress", "digits-mlp", "--target", "0.3"], "target '0.3' is not understood. Cure: 0.3pt"),
        (["compress", "digits-mlp", "--target=-1pt"], "max_drop is in percentage points and must be >= 0"),
        (["compress", "digits-mlp", "--target", "xkB"], "is not understood"),
        (["compress", "digits-mlp", "--set", "fit.epoch=3"], "FitConfig has no setting 'epoch'"),
        (["compress", "digits-mlp", "--set", "colour=3"], "SparseVD has no setting 'colour'"),
        (["compress", "digits-mlp", "--set", "threshold.x=3"], "'threshold' of SparseVD has no parts"),
        (["compress", "digits-mlp", "--set", "fit.epochs=many"], "setting epochs: expected int, got 'many'"),
        (["compress", "digits-mlp", "--set", "epochs"], "--set 'epochs' should read KEY=VALUE"),
        (["compress", "digits-mlp", "--set", "data.size=3"], "no setting is called 'data.size'"),
        (["compress", "digits-mlp", "--set", "data.batch_size=x"], "data.batch_size: expected int, got 'x'"),
        (["compress", "digits-mlp", "--set", "kl_weight=0.0001"], "kl_weight=0.0001 looks like 1/data_size"),
        (["compress", "digits-mlp", "--seed", "-1"], "seed must be >= 0"),
        (["compress", "digits-mlp", "--threads", "0"], "threads >= 1"),
        (["compress", "--config", "absent.toml"], "run file absent.toml"),
        (["inspect", "absent.lac"], "cannot read absent.lac"),
        (["verify", "absent.lac", "--data", "digits"], "absent.lac"),
        (["run", "absent.lac", "x.npy"], "absent.lac"),
        (["bench", "absent.lac"], "absent.lac"),
        (["export", "absent.lac", "m.onnx"], "absent.lac"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line_and_status_2(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--set", "reference.epochs=1"] if words[0] == "compress" else words) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("laconic: ")
    assert complaint in err[-1]
    assert "Traceback" not in "".join(err)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("metod = 'vnq'", "unknown name 'metod'. Cure: one of network, model"),
        ("seed = 'one'", "seed must be int, got 'one'"),
        ("data = 3", "data must be str, got 3"),
        ("network = ", "run file run.toml"),
    ],
)
def test_a_run_file_that_cannot_be_is_refused(
    text: str,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(text)
    assert main(["compress", "digits-mlp", "--config", "run.toml"]) == 2
    assert complaint in capsys.readouterr().err


def test_a_damaged_file_is_one_line_for_every_reader(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(Path(model).read_bytes())
    data[len(data) // 2] ^= 4
    broken = tmp_path / "broken.lac"
    broken.write_bytes(data)
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    for words in (
        ["inspect", str(broken)],
        ["verify", str(broken), "--data", "digits"],
        ["run", str(broken), str(tmp_path / "x.npy")],
        ["bench", str(broken)],
        ["export", str(broken), str(tmp_path / "m.onnx")],
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith("laconic: ")
    assert not (tmp_path / "m.onnx").exists()


def test_inputs_and_outputs_that_cannot_be(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    np.save(tmp_path / "wrong.npy", np.zeros((1, 1, 9, 8), np.float32))
    good, wrong = str(tmp_path / "x.npy"), str(tmp_path / "wrong.npy")
    for words, complaint in (
        (["run", model, str(tmp_path / "absent.npy")], "cannot read the inputs"),
        (["run", model, wrong], "must have shape"),
        (["run", model, good, "--out", str(tmp_path / "no" / "y.npy")], "No such file or directory"),
        (["export", model, str(tmp_path / "m.txt")], "should end in .onnx"),
        (["export", model, str(tmp_path / "no" / "m.onnx")], "could not write"),
        (["bench", model, "--threads", "0"], "threads must be at least 1"),
        (["verify", model, "--data", "minst"], "no data set is called 'minst'"),
    ):
        assert main(words) == 2
        assert complaint in capsys.readouterr().err


def test_words_that_are_no_command_are_refused_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["squeeze"], ["inspect"], ["compress", "digits-mlp", "--seed", "x"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("laconic 0.")
