"""Keep-masks from scores of weights."""

import numpy as np
import pytest
import torch

from laconic.errors import InputError, NonFiniteError
from laconic.sparsify.scores import random_weights
from laconic.sparsify.selection.magnitude import keep_largest
from laconic.sparsify.selection.weights import keep_best, keep_best_of_rows
from tests.helpers.networks import lenet300


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("per_layer", [False, True])
def test_magnitudes_give_the_masks_of_magnitude_pruning(sparsity, per_layer):
    weights = {n: p.detach() for n, p in lenet300().named_parameters()}
    masks = keep_best({n: w.abs() for n, w in weights.items()}, sparsity, per_layer=per_layer)
    arrays = {n: w.numpy() for n, w in weights.items()}
    expected = keep_largest(arrays, sparsity, per_layer=per_layer)
    assert all(np.array_equal(masks[n], expected[n]) for n in weights)


def test_negative_scores_are_the_lowest():
    assert keep_best({"w": torch.tensor([-5.0, 1.0, -0.1])}, 0.4)["w"].tolist() == [False, True, True]


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
