"""Whole files: round trips, canonical bytes, names and aliases."""

from __future__ import annotations

import numpy as np

from laconic.pack import decode, encode
from laconic.records import IntTensor, PackedModel, UniformGrid


def test_a_small_model_comes_back() -> None:
    weights = np.array([[0, 1, 0], [0, -1, 2]], np.int32)
    model = PackedModel((IntTensor("fc.weight", weights, UniformGrid(0.5)),))
    again = decode(encode(model)).tensors[0]
    assert isinstance(again, IntTensor)
    assert again.name == "fc.weight"
    assert np.array_equal(again.integers, weights)
