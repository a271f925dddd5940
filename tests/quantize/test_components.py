"""Components of a mixture as a codebook. Oracles: moments by hand, a search over all components."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.quantize.components import Components, merge, most_responsible


def mixture(
    means: list[float], stds: list[float], shares: list[float], zero: int | None = None
) -> Components:
    return Components(np.array(means), np.array(stds), np.array(shares), zero)


def test_close_components_merge_into_one_of_the_same_moments() -> None:
    merged = merge(mixture([0.0, 0.30, 0.32], [0.01, 0.1, 0.05], [0.9, 0.075, 0.025], zero=0), 2.0)
    assert merged.shares.tolist() == pytest.approx([0.9, 0.1])
    assert merged.means.tolist() == pytest.approx([0.0, 0.305])
    second = 0.75 * (0.1**2 + 0.30**2) + 0.25 * (0.05**2 + 0.32**2)
    assert merged.stds[1] == pytest.approx(np.sqrt(second - 0.305**2))


def test_nothing_merges_below_the_limit() -> None:
    three = mixture([0.0, 0.3, 0.32], [0.01, 0.01, 0.01], [0.9, 0.05, 0.05], zero=0)
    assert merge(three, 0.0).means.tolist() == merge(three, 3.9).means.tolist() == [0.0, 0.3, 0.32]
    assert merge(three, 4.1).means.size == 2, "(0.02 / 0.01)^2 = 4 nats apart"


def test_equal_components_merge_at_once_and_all_can_become_one() -> None:
    equal = mixture([0.2, 0.2, 0.2, 0.0], [0.1] * 4, [0.1, 0.2, 0.3, 0.4], zero=3)
    merged = merge(equal, 1e-10)
    assert merged.means.tolist() == pytest.approx([0.2, 0.0])
    assert merged.zero == 1
    one = merge(equal, 1e9)
    assert (one.means.tolist(), one.zero) == ([0.0], 0), "what merges with zero is at zero"


def test_each_weight_takes_the_component_of_the_largest_term() -> None:
    rng = np.random.default_rng(0)
    some = Components(rng.normal(size=6), rng.uniform(0.05, 0.4, 6), rng.dirichlet(np.ones(6)))
    weights, noise = (
        rng.normal(size=(5, 7)).astype(np.float32),
        rng.uniform(0, 0.1, (5, 7)).astype(np.float32),
    )
    for variance in (None, noise):
        found = most_responsible(weights, some, variance)
        for place, w in np.ndenumerate(weights):
            v = 0.0 if variance is None else variance[place]
            terms = [
                np.log(p) - np.log(s) - ((w - m) ** 2 + v) / (2 * s**2)
                for p, m, s in zip(some.shares, some.means, some.stds, strict=True)
            ]
            assert found[place] == int(np.argmax(terms))


@pytest.mark.parametrize(
    ("means", "stds", "told"),
    [([], [], "at least one component"), ([0.0], [0.0], "above 0"), ([0.0, 1.0], [0.1], "2 means, 1 stds")],
)
def test_what_is_no_codebook(means: list[float], stds: list[float], told: str) -> None:
    with pytest.raises(InputError, match=told):
        mixture(means, stds, [1.0] * len(means))
