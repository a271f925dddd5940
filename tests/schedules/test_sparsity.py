"""Timetables by their formulas at every step, and what is no schedule."""

from __future__ import annotations

import pytest

from laconic.errors import InputError
from laconic.schedules.sparsity import Cubic, Iterative, OneShot, check_schedule
from laconic.schedules.steps import cubic, geometric, linear, steps

N = 20  # 0, 0.05, 0.1, ... 1


def shares(schedule, final):
    return [schedule(k / N, final) for k in range(N + 1)]


def test_one_shot_is_nothing_then_all():
    assert shares(OneShot(0.3), 0.7) == [0.0] * 6 + [0.7] * 15
    assert shares(OneShot(0.0), 0.7) == [0.7] * 21


def test_rounds_are_equal_and_the_last_is_at_the_end():
    # five rounds over [0.1, 0.6]: a cut at 0.2, 0.3, ... 0.6
    wanted = [0.0] * 4 + [0.16] * 2 + [0.32] * 2 + [0.48] * 2 + [0.64] * 2 + [0.8] * 9
    assert shares(Iterative(5, 0.1, 0.6), 0.8) == pytest.approx(wanted, abs=1e-15)
    for rounds in (1, 2, 3, 7, 10):
        schedule = Iterative(rounds, 0.0, 0.7)
        times = [0.7 * k / rounds for k in range(1, rounds + 1)]
        assert [schedule(t, 0.9) for t in times] == pytest.approx(steps(0.9, rounds))
        before = [schedule(t - 1e-6, 0.9) for t in times]
        assert before == pytest.approx([0.0, *steps(0.9, rounds)[:-1]])
        assert schedule(1.0, 0.9) == 0.9


def test_cubic_by_hand():
    schedule = Cubic(0.2, 0.6)
    assert [schedule(p, 0.8) for p in (0.0, 0.2)] == [0.0, 0.0]
    assert schedule(0.4, 0.8) == pytest.approx(0.8 * 7 / 8)
    assert schedule(0.5, 0.8) == pytest.approx(0.8 * 63 / 64)
    assert [schedule(p, 0.8) for p in (0.6, 1.0)] == [0.8, 0.8]


@pytest.mark.parametrize(
    "schedule", [OneShot(), Iterative(), Iterative(31), Cubic(), linear, geometric, cubic]
)
@pytest.mark.parametrize("final", [0.0, 0.3, 0.97])
def test_schedules_that_are_taken(schedule, final):
    check_schedule(schedule, final)


@pytest.mark.parametrize(
    ("schedule", "complaint"),
    [
        (0.5, r"a function of .* got 0\.5\. Cure: OneShot"),
        (lambda progress, final: final * (1 - progress), "that 0.8 is gone|must lie between"),
        (lambda progress, final: 2 * final * progress, "must lie between"),
        (lambda progress, final: final * progress / 2, "ends with 0.4 gone, not 0.8"),
        (lambda progress, final: float("nan"), "that nan is gone"),
        (lambda progress, final: -0.1, "that -0.1 is gone when 0 of training"),
    ],
)
def test_schedules_that_are_refused(schedule, complaint):
    with pytest.raises(InputError, match=complaint):
        check_schedule(schedule, 0.8)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: OneShot(1.0), r"at is a share of training in \[0, 1\), got 1\.0"),
        (lambda: OneShot(float("nan")), "got nan"),
        (lambda: Iterative(0), "rounds must be positive, got 0"),
        (lambda: Iterative(3, 0.6, 0.6), "0 <= start < end <= 1 .* got 0.6 and 0.6"),
        (lambda: Cubic(0.0, 1.1), "got 0.0 and 1.1"),
        (lambda: Cubic(-0.1, 0.5), "got -0.1 and 0.5"),
    ],
)
def test_settings_that_cannot_be(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()
