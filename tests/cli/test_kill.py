"""A run that is killed with SIGKILL at any moment goes on with --resume and ends in the same file."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from laconic.cli import main

# In order: within the reference's training, after it, within the method's, while deciding, while packing.
MOMENTS = ("training 2/4", "original: ", "training 2/5", "choosing the grid", "packing")


def _words(out: Path) -> list[str]:
    settings = ["reference.epochs=4", "fit.epochs=5", "warm_up.end=1", "hold_from=3"]
    flags = [word for text in settings for word in ("--set", text)]
    return ["compress", "digits-cnn", "--threads", "1", "--seed", "7", "--out", str(out), *flags]


def _killed_at(moment: str, words: list[str]) -> None:
    """Run the command in a process of its own, and kill it once it has said ``moment``."""
    with subprocess.Popen(
        [sys.executable, "-m", "laconic", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith(moment):
                process.kill()
                break
        assert process.wait(timeout=60) == -signal.SIGKILL, f"never said {moment!r}: {''.join(said)}"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(_words(out)) == 0
    return out


def test_a_run_killed_again_and_again_ends_in_the_same_file(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for k, moment in enumerate(MOMENTS):
        _killed_at(moment, [*_words(out), *(["--resume"] if k else [])])
        assert not (out / "record.json").exists(), "it had finished before it was killed"
    assert main([*_words(out), "--resume"]) == 0
    assert (out / "model.lac").read_bytes() == (uninterrupted / "model.lac").read_bytes()
    first, second = (json.loads((r / "record.json").read_text()) for r in (uninterrupted, out))
    assert first == second


def test_a_resumed_run_does_not_train_again_what_it_had(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    _killed_at("training 3/5", _words(out))
    capsys.readouterr()
    assert main([*_words(out), "--resume"]) == 0
    said = capsys.readouterr().err
    assert re.findall(r"training (\d)/5", said) == ["4", "5"]
    assert "training the reference" not in said
    log = (out / "log.txt").read_text()
    assert re.findall(r"epoch (\d)/5", log)[-2:] == ["4", "5"]
    assert (out / "model.lac").read_bytes() == (uninterrupted / "model.lac").read_bytes()
