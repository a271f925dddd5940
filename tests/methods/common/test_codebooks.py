"""Codebooks of a mixture as candidates. Oracles: levels and centres by hand, the coded bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from laconic.errors import InputError
from laconic.methods import GridChoice, Judge, Score, choose_grid
from laconic.methods.common.codebooks import Book, mixture_books
from laconic.pack import coded_bytes
from laconic.quantize.components import Components
from laconic.records import Codebook, WeightStats

THREE = Components(
    np.array([0.0, -0.25, 0.5]), np.array([0.01, 0.05, 0.05]), np.array([0.9, 0.05, 0.05]), zero=0
)


def stats_of(name: str, weights: list[float]) -> WeightStats:
    return WeightStats(name, np.float32(weights), np.full(len(weights), 0.05**2, np.float32))


def books(limits: tuple[float, ...] = (1e-10,), components: Components = THREE) -> list[Book]:
    stats = {"a": stats_of("a", [0.001, -0.26, -0.2, 0.6]), "b": stats_of("b", [0.4, 0.0, 0.52])}
    keeps = {"a": np.array([False, True, True, True]), "b": np.array([True, False, True])}
    return list(mixture_books(stats, components, limits)(keeps))


def test_one_codebook_for_the_network_and_one_for_each_layer() -> None:
    shared, own = books()
    assert shared.facts == {"merge_kl": 1e-10, "levels": 2, "codebook": "network"}
    assert [t.grid for t in shared.tensors.values()] == [Codebook((-0.25, 0.0, 0.5))] * 2
    assert shared.tensors["a"].values().tolist() == [0.0, -0.25, -0.25, 0.5]
    assert own.facts["codebook"] == "layer"
    assert own.tensors["a"].values().tolist() == pytest.approx([0.0, -0.23, -0.23, 0.6], rel=1 / 256)
    assert own.tensors["b"].values().tolist() == pytest.approx([0.46, 0.0, 0.46], rel=1 / 256)


def test_each_limit_that_merges_more_is_two_more_candidates() -> None:
    assert len(books((1e-10, 1e-9))) == 2, "nothing more is merged"
    found = books((1e-10, 1e9))
    assert [b.facts["levels"] for b in found] == [2, 2, 1, 1]


def test_equal_levels_become_one() -> None:
    """Two components whose means are the same bfloat16, and one that rounds to zero itself."""
    means = np.array([0.0, 0.5, 0.5 + 1e-6, -1e-30])
    equal = Components(means, np.array([0.01, 0.05, 0.051, 0.002]), np.array([0.7, 0.1, 0.1, 0.1]), zero=0)
    shared, _ = books((0.0,), equal)
    levels = shared.tensors["b"].grid.numbers
    assert sorted(set(levels)) == list(levels) and 0.5 in levels


def test_nothing_kept_is_all_zero() -> None:
    stats = {"a": stats_of("a", [0.001, 0.002])}
    for book in mixture_books(stats, THREE, (1e-10,))({"a": np.zeros(2, bool)}):
        assert book.tensors["a"].values().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("limits", [(), (-1.0,), (float("nan"),), (float("inf"),)])
def test_limits_that_cannot_be(limits: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="merge_kl must be at least one number"):
        mixture_books({}, THREE, limits)


def network() -> tuple[nn.Module, dict[str, WeightStats], dict[str, np.ndarray]]:
    """60 x 40 weights at three levels, with a little noise."""
    rng = np.random.default_rng(0)
    net = nn.Linear(60, 40, bias=False)
    weights = rng.choice([0.0, -0.25, 0.5], (40, 60), p=[0.8, 0.1, 0.1])
    noisy = np.float32(weights + rng.normal(0, 0.004, weights.shape) * (weights != 0))
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(noisy))
    stats = {"weight": WeightStats("weight", noisy, np.full(noisy.shape, 0.01**2, np.float32))}
    return net, stats, {"weight": noisy != 0}


def judged(tolerance: float) -> Judge:
    """Errors rise by a point where a weight moves by more than ``tolerance`` from where it was."""
    before = network()[1]["weight"].mean

    def evaluate(module: nn.Module) -> Score:
        moved = float(np.abs(module.weight.detach().numpy() - before).max())  # type: ignore[operator, union-attr]
        return Score(1.0 + (moved > tolerance), 0.1, 1000)

    return Judge(evaluate)


def test_the_codebook_is_taken_where_it_is_smaller_and_the_uniform_grid_where_it_is_too_coarse() -> None:
    for tolerance, kind in ((0.05, "codebook"), (0.006, "step_in_sigmas")):
        net, stats, keeps = network()
        candidates = mixture_books(stats, THREE, (1e-10,))
        small = choose_grid(
            net,
            stats,
            keeps,
            {},
            GridChoice(prices=(0.0,)),
            judged(tolerance),
            torch.zeros(1, 60),
            books=candidates,
        )
        assert kind in small.facts
    net, stats, keeps = network()
    uniform = choose_grid(net, stats, keeps, {}, GridChoice(prices=(0.0,)), judged(0.05), torch.zeros(1, 60))
    book = mixture_books(stats, THREE, (1e-10,))(keeps)[0]
    assert coded_bytes(book.tensors["weight"]) < coded_bytes(uniform.tensors["weight"])  # type: ignore[arg-type]


def test_without_a_judge_the_first_codebook_is_taken() -> None:
    net, stats, keeps = network()
    small = choose_grid(
        net, stats, keeps, {}, GridChoice(), None, books=mixture_books(stats, THREE, (0.5, 1e9))
    )
    assert small.facts["merge_kl"] == 0.5


def test_a_tensor_outside_the_books_goes_on_its_finest_grid() -> None:
    net = nn.Sequential(nn.Linear(60, 40, bias=False), nn.Linear(40, 2, bias=False))
    _, stats, keeps = network()
    stats, keeps = {"0.weight": stats["weight"]}, {"0.weight": keeps["weight"]}
    candidates = mixture_books(stats, THREE, (1e-10,))
    rest = WeightStats("1.weight", net[1].weight.detach().numpy(), np.full((2, 40), 1e-4, np.float32))
    small = choose_grid(
        net,
        {**stats, "1.weight": rest},
        {**keeps, "1.weight": np.ones((2, 40), bool)},
        {},
        GridChoice(),
        None,
        books=candidates,
    )
    assert list(small.tensors) == ["0.weight", "1.weight"]
    assert small.tensors["1.weight"].grid.numbers == pytest.approx((0.005,), rel=0.01)  # type: ignore[attr-defined]
