"""The parity helper fails where an answer is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.parity import assert_parity, worst_error


class Forgetful(nn.Module):
    """Adds one only while it is traced, so its graph is wrong on purpose."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if torch.compiler.is_exporting() else x * 1


def test_a_wrong_network_fails() -> None:
    with pytest.raises(AssertionError, match="batch 1"):
        assert_parity(Forgetful(), torch.ones(3, 2))


def test_wrong_shapes_types_counts_and_nan_are_infinitely_wrong() -> None:
    a = np.ones((2, 2), np.float32)
    assert worst_error([a], [a]) == 0.0
    assert worst_error([a], [a * 2]) == 0.5
    for wrong in ([a[:1]], [a.astype(np.int64)], [a, a], [a * np.nan]):
        assert worst_error(wrong, [a]) == float("inf")
