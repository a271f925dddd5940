"""Sparsity schedules by their formulas at every step, what they refuse, and steps along them."""

from __future__ import annotations

import pytest

from laconic.errors import InputError
from laconic.schedules import (
    Cubic,
    Geometric,
    Iterative,
    Linear,
    OneShot,
    check_schedule,
    of_what_is_left,
    removed_share,
    steps,
)

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


@pytest.mark.parametrize("kind", [Linear, Geometric, Cubic])
def test_a_span_is_flat_outside_and_runs_from_nothing_to_all_inside(kind):
    whole, part = kind(end=1.0), kind(0.2, 0.7)
    assert [part(p, 0.9) for p in (-0.5, 0.0, 0.2)] == [0.0] * 3
    assert [part(p, 0.9) for p in (0.7, 1.0, 2.0)] == pytest.approx([0.9] * 3)
    assert [part(0.2 + 0.5 * k / N, 0.9) for k in range(N)] == pytest.approx(
        [whole(k / N, 0.9) for k in range(N)]
    )


def test_cubic_is_zhu_and_guptas_equation_1():
    # s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3 with s_i = 0
    final, start, end = 0.9, 0.2, 0.7
    for k in range(N):
        progress = start + (end - start) * k / N
        published = final + (0.0 - final) * (1 - (progress - start) / (end - start)) ** 3
        assert Cubic(start, end)(progress, final) == pytest.approx(published)


def test_what_differs_by_rounding_is_final_and_what_lies_beyond_training_is_its_end():
    assert removed_share(lambda p, f: f - 1e-10, 0.5, 0.3) == 0.3
    assert removed_share(lambda p, f: f - 1e-6, 0.5, 0.3) == 0.3 - 1e-6
    assert removed_share(Linear(end=1.0), 7.0, 0.3) == 0.3


def test_cubic_by_hand():
    schedule = Cubic(0.2, 0.6)
    assert [schedule(p, 0.8) for p in (0.0, 0.2)] == [0.0, 0.0]
    assert schedule(0.4, 0.8) == pytest.approx(0.8 * 7 / 8)
    assert schedule(0.5, 0.8) == pytest.approx(0.8 * 63 / 64)
    assert [schedule(p, 0.8) for p in (0.6, 1.0)] == [0.8, 0.8]


@pytest.mark.parametrize(
    "schedule", [OneShot(), Iterative(), Iterative(31), Cubic(), Linear(), Geometric(), Cubic(end=1.0)]
)
@pytest.mark.parametrize("final", [0.0, 0.3, 0.97])
def test_schedules_that_are_taken(schedule, final):
    check_schedule(schedule, final)


@pytest.mark.parametrize(
    ("schedule", "complaint"),
    [
        (0.5, r"a function of .* got 0\.5\. Cure: OneShot"),
        (lambda progress, final: final * (1 - progress), "that 0.8 is removed|must lie between"),
        (lambda progress, final: 2 * final * progress, "must lie between"),
        (lambda progress, final: final * progress / 2, "ends with 0.4 removed, not 0.8"),
        (lambda progress, final: float("nan"), "that nan is removed"),
        (lambda progress, final: -0.1, "that -0.1 is removed when 0 of training"),
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


# --- steps --------------------------------------------------------------------------------------

KINDS = [OneShot(0.0), Linear(end=1.0), Geometric(end=1.0), Cubic(end=1.0)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("total", [0.0, 0.5, 0.97])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_schedules_rise_to_exactly_their_end(kind, total, n):
    shares = steps(total, n, kind)
    assert len(shares) == n and shares[-1] == total
    assert list(shares) == sorted(shares) and shares[0] >= 0


def test_each_kind_by_its_formula():
    assert steps(0.9, 3, OneShot(0.0)) == (0.9, 0.9, 0.9)
    assert steps(0.9, 3) == pytest.approx((0.3, 0.6, 0.9))
    assert steps(0.9, 4, Cubic(end=1.0)) == pytest.approx(
        [0.9 * (1 - (1 - k / 4) ** 3) for k in (1, 2, 3, 4)]
    )
    assert steps(1 - 0.8**5, 5, Geometric(end=1.0)) == pytest.approx([1 - 0.8**k for k in (1, 2, 3, 4, 5)])


@pytest.mark.parametrize("kind", KINDS)
def test_shares_of_what_is_left_multiply_to_the_whole(kind):
    left = 1.0
    for share, removed in zip(of_what_is_left(steps(0.8, 6, kind)), steps(0.8, 6, kind), strict=True):
        left *= 1 - share
        assert left == pytest.approx(1 - removed)


def test_bad_schedules():
    for total, n in ((1.0, 3), (-0.1, 3), (0.5, 0), (float("nan"), 2)):
        with pytest.raises(InputError, match="at least one step"):
            steps(total, n)
    for shares in ((0.5, 0.4), (0.5, 1.0), (-0.1,)):
        with pytest.raises(InputError, match="must rise within"):
            of_what_is_left(shares)
