"""Schedules rise to their end by their formulas; shares of what is left multiply to the whole."""

import pytest

from laconic.errors import InputError
from laconic.schedules.steps import cubic, cubic_sparsity, geometric, linear, of_what_is_left, one_shot, steps


@pytest.mark.parametrize("kind", [one_shot, linear, geometric, cubic])
@pytest.mark.parametrize("total", [0.0, 0.5, 0.97])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_schedules_rise_to_exactly_their_end(kind, total, n):
    shares = steps(total, n, kind)
    assert len(shares) == n and shares[-1] == total
    assert list(shares) == sorted(shares) and shares[0] >= 0


def test_each_kind_by_its_formula():
    assert steps(0.9, 3, one_shot) == (0.9, 0.9, 0.9)
    assert steps(0.9, 3) == pytest.approx((0.3, 0.6, 0.9))
    assert steps(0.9, 4, cubic) == pytest.approx([cubic_sparsity(k / 4, 0.9) for k in (1, 2, 3, 4)])
    assert steps(1 - 0.8**5, 5, geometric) == pytest.approx([1 - 0.8**k for k in (1, 2, 3, 4, 5)])


@pytest.mark.parametrize("kind", [one_shot, linear, geometric, cubic])
def test_shares_of_what_is_left_multiply_to_the_whole(kind):
    left = 1.0
    for share, gone in zip(of_what_is_left(steps(0.8, 6, kind)), steps(0.8, 6, kind), strict=True):
        left *= 1 - share
        assert left == pytest.approx(1 - gone)


def test_bad_schedules():
    for total, n in ((1.0, 3), (-0.1, 3), (0.5, 0), (float("nan"), 2)):
        with pytest.raises(InputError, match="at least one step"):
            steps(total, n)
    for shares in ((0.5, 0.4), (0.5, 1.0), (-0.1,)):
        with pytest.raises(InputError, match="must rise within"):
            of_what_is_left(shares)
