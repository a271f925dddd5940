"""Keep-masks from scores of weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import InputError, NonFiniteError
from laconic.records import FloatArray
from laconic.sparsify.scores import random_weights
from laconic.sparsify.selection.weights import keep_best, keep_best_of_rows


def test_negative_scores_are_the_lowest():
    assert keep_best({"w": torch.tensor([-5.0, 1.0, -0.1])}, 0.4)["w"].tolist() == [False, True, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_of_any_precision(dtype):
    scores = torch.tensor([3.0, -1.0, 2.0, 0.5], dtype=dtype)
    assert keep_best({"w": scores}, 0.5)["w"].tolist() == [True, False, True, False]


def test_rows_lose_equally_many():
    scores = random_weights(torch.nn.Conv2d(4, 6, 3), torch.Generator().manual_seed(0))
    masks = keep_best_of_rows({"weight": scores["weight"]}, 0.5)["weight"]
    assert masks.shape == (6, 4, 3, 3)
    rows = scores["weight"].flatten(1).numpy()
    for row, keep in zip(rows, masks.reshape(6, -1), strict=True):
        assert keep.sum() == 18 and row[~keep].max() <= row[keep].min()


def test_bad_input():
    with pytest.raises(InputError, match="no scores to choose by"):
        keep_best({}, 0.5)
    with pytest.raises(InputError, match="sparsity must lie"):
        keep_best_of_rows({"w": torch.ones(1, 2)}, 1.0)
    with pytest.raises(NonFiniteError, match="selection: 1 of 2 scores of 'w'"):
        keep_best({"w": torch.tensor([1.0, float("nan")])}, 0.5)


# --- magnitudes --------------------------------------------------------------------------------


def largest(weights, sparsity, **settings):
    """Magnitude pruning: keep the best by magnitude."""
    return keep_best({n: torch.from_numpy(np.abs(w)) for n, w in weights.items()}, sparsity, **settings)


def _weights(seed: int = 0) -> dict[str, FloatArray]:
    generator = np.random.default_rng(seed)
    shapes = {"conv": (4, 3, 3, 3), "fc": (10, 7), "small": (3,)}
    return {
        n: generator.normal(size=s).astype(np.float32) * (k + 1) for k, (n, s) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("sparsity", [0.0, 0.001, 0.25, 0.5, 0.9, 0.999])
def test_over_all_tensors_exactly_the_smallest_go(sparsity: float) -> None:
    weights = _weights()
    keeps = largest(weights, sparsity)
    assert {n: k.shape for n, k in keeps.items()} == {n: w.shape for n, w in weights.items()}
    magnitudes = np.concatenate([np.abs(w).ravel() for w in weights.values()])
    kept = np.concatenate([k.ravel() for k in keeps.values()])
    assert int((~kept).sum()) == int(sparsity * magnitudes.size)
    assert magnitudes[~kept].max(initial=0.0) <= magnitudes[kept].min()


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.95])
def test_by_layer_every_tensor_loses_its_own_share(sparsity: float) -> None:
    weights = _weights(1)
    for name, keep in largest(weights, sparsity, per_layer=True).items():
        magnitudes = np.abs(weights[name])
        assert int((~keep).sum()) == int(sparsity * keep.size)
        assert magnitudes[~keep].max(initial=0.0) <= magnitudes[keep].min()


def test_global_and_by_layer_differ_where_scales_do() -> None:
    weights = _weights(2)
    together, apart = largest(weights, 0.5), largest(weights, 0.5, per_layer=True)
    assert together["conv"].mean() < apart["conv"].mean()


def test_ties_go_by_position_and_counts_stay_exact() -> None:
    keeps = largest({"a": np.ones(3, np.float32), "b": -np.ones((2, 2), np.float32)}, 5 / 7)
    assert keeps["a"].tolist() == [False, False, False]
    assert keeps["b"].tolist() == [[False, False], [True, True]]
    many = largest({"w": np.tile(np.float32([1, 2]), 500)}, 0.2)["w"]
    assert not many[:400:2].any()
    assert many[1::2].all()
    assert many[400:].all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 2.0]), min_size=1, max_size=30), st.floats(0, 0.99))
def test_counts_are_exact_whatever_repeats(values: list[float], sparsity: float) -> None:
    keep = largest({"w": np.asarray(values, np.float32)}, sparsity)["w"]
    assert int((~keep).sum()) == int(sparsity * len(values))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_cannot_be_is_refused(sparsity: float) -> None:
    with pytest.raises(InputError, match="sparsity must lie in"):
        largest(_weights(), sparsity)
