"""Progress of long work: silent for two seconds, one line on a terminal, nothing elsewhere unless asked."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import pytest

import laconic
from laconic import progress
from laconic.errors import InputError
from laconic.progress import describe, show, steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(progress.PROGRESS_VARIABLE, raising=False)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.02)
    monkeypatch.setattr(progress, "LIVE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)


def said(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.1) -> str:
    """What lands on ``stream``, as standard error, while two nested blocks last so long."""
    monkeypatch.setattr(sys, "stderr", stream)
    with steps("saving"), steps("finding groups", total=4, text="conv1") as advance:
        advance("conv2")
        time.sleep(seconds)
    return stream.getvalue()


def test_a_terminal_sees_a_line_in_place_that_is_erased_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(Terminal(), monkeypatch)
    assert "\r\x1b[Klaconic: saving: finding groups 1/4  conv2  0:00 elapsed, about 0:00 left" in text
    assert text.endswith("\r\x1b[K")
    assert "\n" not in text


def test_short_work_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 30.0)
    started = time.monotonic()
    assert said(Terminal(), monkeypatch, seconds=0.0) == ""
    assert time.monotonic() - started < 10  # the end does not wait for the first line


def test_a_pipe_is_left_alone_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(io.StringIO(), monkeypatch) == ""
    with show(True):
        lines = said(io.StringIO(), monkeypatch).splitlines()
    assert lines[0].startswith("laconic: saving: finding groups 1/4  conv2")
    assert "\r" not in "".join(lines)
    monkeypatch.setenv("LACONIC_PROGRESS", "1")
    assert said(io.StringIO(), monkeypatch).startswith("laconic: saving")


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with laconic.progress.show(False):
        assert said(Terminal(), monkeypatch) == ""
    monkeypatch.setenv("LACONIC_PROGRESS", "0")
    assert said(Terminal(), monkeypatch) == ""


def test_an_environment_that_says_neither_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LACONIC_PROGRESS", "loud")
    with pytest.raises(InputError, match=r"LACONIC_PROGRESS must be 0 or 1, got 'loud'. Cure"), steps("x"):
        pass


def test_the_time_left_is_in_proportion() -> None:
    outer = progress._Part("saving", None, started=100.0)
    inner = progress._Part("finding groups", 10, "fc1", done=4, started=110.0)
    # 4 steps took 20 seconds, so 6 more take 30
    assert describe((outer, inner), 130.0) == (
        "laconic: saving: finding groups 4/10  fc1  0:30 elapsed, about 0:30 left"
    )


def test_the_line_stops_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(ZeroDivisionError), steps("dividing"):
        time.sleep(0.05)
        raise ZeroDivisionError
    text = terminal.getvalue()
    time.sleep(0.05)
    assert terminal.getvalue() == text


def test_a_closed_standard_error_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with steps("working"):
        terminal.close()
        time.sleep(0.05)
    with steps("working"):
        time.sleep(0.05)
    monkeypatch.setattr(sys, "stderr", None)
    with steps("working"):
        time.sleep(0.05)
        reached = True
    assert terminal.closed and reached


def test_it_brings_no_torch() -> None:
    code = "import sys, laconic.progress; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_long_verbs_say_how_far_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    from laconic.methods import MagnitudePruning
    from laconic.train.fit import FitConfig

    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.001)
    batches = [(torch.eye(4).repeat(8, 1), torch.arange(4).repeat(8))] * 20
    example = torch.eye(4)

    def run() -> str:
        net = laconic.prepare(torch.nn.Linear(4, 4), MagnitudePruning(0.5), example, data_size=640)
        net(example).sum().backward()
        laconic.step(net, terms=4)
        small = laconic.quantize_activations(laconic.convert(net), [example])
        laconic.save(small, tmp_path / "model.lac")
        laconic.compress(
            torch.nn.Linear(4, 4), batches, batches, MagnitudePruning(0.5), fit=FitConfig(epochs=3)
        )
        return capsys.readouterr().err

    assert run() == ""
    with show(True):
        text = run()
    for label in ("converting", "calibrating", "saving: capturing the graph", "training 0/3", "training 2/3"):
        assert f"laconic: {label}" in text
