"""Runs that break: signals, folders that are half there, and words that are told before torch is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from laconic import pack
from laconic.cli import main
from laconic.records import PackedModel, RawTensor
from laconic.train.checkpoint import load_checkpoint, save_checkpoint
from tests.helpers.commands import QUICK
from tests.helpers.fresh import run_fresh

WORDS = [
    [],
    ["--help"],
    ["--version"],
    ["squeeze"],
    ["compress"],
    ["compress", "nosuch"],
    ["compress", "--help"],
    ["compress", "lenet5", "--data", "minst"],
    ["compress", "lenet5", "--data", ":loaders"],
    ["compress", "--model", "nets:", "--data", "digits"],
    ["compress", "lenet5", "--method", "magic"],
    ["compress", "lenet5", "--preset", "huge"],
    ["compress", "lenet5", "--target", "0.3x"],
    ["compress", "lenet5", "--task", "classificaton"],
    ["compress", "lenet5", "--set", "kl_wieght=3"],
    ["compress", "lenet5", "--set", "fit.epoch=3"],
    ["compress", "lenet5", "--set", "reference.epoch=3"],
    ["methods"],
    ["methods", "sparse"],
    ["tasks"],
    ["compress", "lenet5", "--seed", "-1"],
    ["compress", "lenet5", "--threads", "0"],
    ["compress", "lenet5", "--set", "epochs"],
    ["compress", "lenet5", "--set", "data.batch_size=0"],
    ["compress", "--config", "absent.toml"],
    *([command, "--help"] for command in ("inspect", "verify", "run", "bench", "cost", "export")),
    ["inspect"],
    ["inspect", "absent.lac"],
    ["verify", "absent.lac", "--data", "digits"],
    ["run", "absent.lac", "x.npy"],
    ["bench", "absent.lac"],
    ["cost", "absent.lac"],
    ["export", "absent.lac", "m.onnx"],
]


def test_what_is_wrong_with_the_words_is_told_without_torch(tmp_path: Path) -> None:
    """Importing torch takes seconds, and neither help nor the refusal of a word needs it."""
    code = f"""
import contextlib, io, os, sys
os.chdir({str(tmp_path)!r})
from laconic import pack
from laconic.cli import main
from laconic.records import PackedModel, RawTensor

def status(words):
    try:
        return main(words)
    except SystemExit as end:
        return end.code

for words in {WORDS!r}:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        found = status(words)
    heavy = sorted({{"torch", "lightning_fabric", "onnxruntime"}} & set(sys.modules))
    print(words, found, heavy)
"""
    for line, words in zip(run_fresh(code).splitlines(), WORDS, strict=True):
        fine = "--help" in words or "--version" in words or words in (["methods"], ["tasks"])
        assert line == f"{words} {0 if fine else 2} []"
    assert list(tmp_path.iterdir()) == []  # and no run folder was made


@pytest.mark.parametrize("data", ["minst", "no_such_module:loaders", "json:no_such_function", "json:dumps"])
def test_a_typo_in_data_leaves_no_folder(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compress", "digits-mlp", "--data", data]) == 2
    assert capsys.readouterr().err.startswith("laconic: InputError: ")
    assert list(tmp_path.iterdir()) == []


def _interruptible() -> None:
    """A shell starts background jobs with interruptions ignored, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _signalled(words: list[str], after: str, number: int) -> tuple[int, str]:
    """Run a command, send it a signal once it has said ``after``; its status and last line."""
    with subprocess.Popen(
        [sys.executable, "-m", "laconic", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=_interruptible,
    ) as process:
        assert process.stderr is not None
        last = ""
        for last in process.stderr:
            if last.startswith(after):
                process.send_signal(number)
                break
        rest = process.stderr.read().splitlines()
        return process.wait(timeout=60), rest[-1] if rest else last


def test_resume_is_offered_where_there_is_something_to_resume(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["compress", "digits-mlp", "--out", str(out), *QUICK, "--set", "reference.epochs=500"]
    found = _signalled(words, "training the reference", signal.SIGTERM)
    assert found == (128 + signal.SIGTERM, "laconic: terminated")
    assert list(tmp_path.iterdir()) == []
    found = _signalled(words, "training 3/500", signal.SIGINT)
    assert found == (128 + signal.SIGINT, f"laconic: interrupted; go on with --resume --out {out}")
    assert (out / "reference-checkpoint.pt").exists()
    assert main(["compress", "digits-mlp", "--out", str(out), *QUICK]) == 2  # other settings


def test_a_reference_of_another_network_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["compress", "digits-mlp", "--method", "magnitude", "--out", str(out), "--threads", "1"]
    words += ["--set", "reference.epochs=1", "--set", "fit.epochs=1", "--set", "every=5"]
    assert main(words) == 0
    (out / "record.json").unlink()
    good = load_checkpoint(out / "reference.pt")
    assert good is not None
    key = next(iter(good))
    wrong = {
        "keys": {f"other.{name}": value for name, value in good.items()},
        "shapes": {**good, key: torch.zeros(3)},
        "NaN": {**good, key: torch.full_like(good[key], float("nan"))},
        "types": {**good, key: "none"},
    }
    for state in wrong.values():
        save_checkpoint(out / "reference.pt", state)
        capsys.readouterr()
        assert main([*words, "--resume"]) == 2
        err = capsys.readouterr().err
        assert "reference.pt does not hold the weights of this DigitsMLP: " in err
        assert "Cure: delete it, and --resume: the reference is trained again" in err
    (out / "reference.pt").unlink()
    assert main([*words, "--resume"]) == 0


def test_a_saved_output_is_whole_or_untouched(relu: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "y.npy").symlink_to(victim)
    np.save(tmp_path / "x.npy", np.array([[-1, 0, 2]], np.float32))
    assert main(["run", relu, str(tmp_path / "x.npy"), "--out", str(tmp_path / "y.npy")]) == 0
    assert victim.read_text() == "precious"
    assert np.load(tmp_path / "y.npy").tolist() == [[0, 0, 2]]


def test_a_user_without_a_home_runs_files_and_data(relu: str, tmp_path: Path) -> None:
    """A container may run under a user number that nobody named, without HOME."""
    code = f"""
import os, pwd
def nobody(number): raise KeyError(number)
pwd.getpwuid = nobody
for name in ("HOME", "LACONIC_CACHE", "LACONIC_DATA"):
    os.environ.pop(name, None)
from laconic import pack
from laconic.cli import main
from laconic.records import PackedModel, RawTensor
from laconic.data.cache import cache_folder
from laconic.runtime.engines.cache import cache_file
print(cache_folder(), cache_file())
print(main(["run", {relu!r}, {str(tmp_path / "x.npy")!r}]))
os.environ["LACONIC_CACHE"] = "~nobody-here/x"
print(cache_file())
"""
    np.save(tmp_path / "x.npy", np.array([[-1, 0, 2]], np.float32))
    assert run_fresh(code).splitlines() == ["None None", "[[0. 0. 2.]]", "0", "None"]


def test_signals_are_left_to_those_who_mind_them(relu: str) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        assert main(["inspect", relu]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_names_that_the_terminal_cannot_print_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "model.lac"
    pack.write(path, PackedModel((RawTensor("größe", np.ones((2, 2), np.float32)),)))
    done = subprocess.run(
        [sys.executable, "-m", "laconic", "inspect", str(path)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert r"gr\xf6\xdfe" in done.stdout


def test_an_output_that_is_closed_or_full_is_no_crash(relu: str) -> None:
    for redirection, status, said in ((">&-", 0, ""), (">/dev/full", 2, "laconic: [Errno 28] No space left")):
        command = f"{sys.executable} -m laconic inspect {relu} {redirection}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert done.stderr.startswith(said)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"seed = {'9' * 5000}", "run file run.toml: Exceeds the limit"),
        ("[settings]\na = " + "[" * 5000, "run file run.toml: maximum recursion depth"),
        ("[settings]\n" + ".".join("a" * 3000) + " = 1", "its settings are nested too deeply"),
    ],
    ids=["digits", "brackets", "dots"],
)
def test_a_run_file_too_deep_or_too_long(
    text: str,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(text)
    assert main(["compress", "digits-mlp", "--config", "run.toml"]) == 2
    assert complaint in capsys.readouterr().err


_DATA = """
import os
import torch
from torch import nn

x = torch.eye(4).repeat(5, 1)
y = torch.arange(4).repeat(5)
good = [(x, y), (x, y)]
lost = [(x / torch.zeros(4), y)]


def net():
    torch.manual_seed(0)
    return nn.Linear(4, 4)


def lost_test(): return good, good, lost
def narrow(): return [*good, (x[:, :3], y)], good
def short(): return [*good, (x[:7], y)], good
def narrow_validation(): return good, [(x[:, :3], y)]


def elsewhere():
    os.makedirs("other", exist_ok=True)
    os.chdir("other")
    return good, good
"""


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("lost_test", "NaN"),
        (
            "narrow",
            "fit: batch 2 has inputs of shape (any, 3), the first one inputs of shape (any, 4)",
        ),
        ("short", "axis 0, the examples, is 7 in the outputs and 20 in the targets"),
        ("narrow_validation", "the network does not take a batch of shape (20, 3), float32"),
        ("elsewhere", ""),
    ],
)
def test_ones_own_data_that_break_are_named(
    data: str,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_breaks.py").write_text(_DATA)
    monkeypatch.delitem(sys.modules, "own_breaks", raising=False)
    words = ["compress", "--model", "own_breaks:net", "--data", f"own_breaks:{data}", "--method", "magnitude"]
    status = main([*words, "--threads", "1", "--out", "run", "--set", "fit.epochs=1", "--set", "every=1"])
    assert status == (2 if complaint else 0)
    assert complaint in capsys.readouterr().err
    assert (tmp_path / "run" / "model.lac").exists() == (data in ("elsewhere", "lost_test"))


def test_a_network_that_gives_nan_is_not_scored(
    relu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "nan_arrays.py").write_text(
        "import numpy as np\n"
        "def data(): return np.float32([[1, 0, 0], [np.nan, 0, 0], [0, 0, 1]]), np.arange(3)\n"
    )
    assert main(["verify", relu, "--data", "nan_arrays:data"]) == 2
    assert "the network gives NaN for 1 of 3 inputs" in capsys.readouterr().err
