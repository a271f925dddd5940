from __future__ import annotations

import io

import pytest

from laconic.progress import duration
from laconic.train.progress import LineProgress, SilentProgress, for_stream


class Clock:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_tick_is_a_line_with_the_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    with LineProgress(stream, clock).task("training", 4) as tick:
        for k in range(4):
            clock.now += 60
            tick(f"loss {k}")
    assert stream.getvalue().splitlines() == [
        "training 1/4  loss 0  1:00 elapsed, 3:00 left",
        "training 2/4  loss 1  2:00 elapsed, 2:00 left",
        "training 3/4  loss 2  3:00 elapsed, 1:00 left",
        "training 4/4  loss 3  4:00 elapsed, 0:00 left",
    ]


def test_a_resumed_task_counts_from_where_it_stood_and_times_its_own_ticks() -> None:
    stream, clock = io.StringIO(), Clock()
    with LineProgress(stream, clock).task("training", 10, done=7) as tick:
        clock.now += 30
        tick("")
    assert stream.getvalue() == "training 8/10    0:30 elapsed, 1:00 left\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (7325, "2:02:05"), (-3, "0:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_pipe_gets_lines_and_a_terminal_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert type(for_stream(io.StringIO())) is LineProgress
    screen = Terminal()
    progress = for_stream(screen)
    progress.say("hello")
    with progress.task("training", 2) as tick:
        tick("loss 1.0")
        tick("loss 0.5")
    assert "hello" in screen.getvalue()
    assert "2/2" in screen.getvalue()
    assert "loss 0.5" in screen.getvalue()


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with SilentProgress().task("training", 1) as tick:
        tick("loss")
    SilentProgress().say("nothing")
    assert capsys.readouterr() == ("", "")
