"""What tests of methods train on and compare with; the suite itself is ``laconic.testing.check_method``."""

from __future__ import annotations

import torch
from torch import Tensor

from laconic.testing.methods import digits, train

__all__ = ["assert_same_state", "digits", "train"]


def assert_same_state(got: dict[str, Tensor], wanted: dict[str, Tensor], text: str) -> None:
    """Two state dicts hold the same names and bits."""
    assert list(got) == list(wanted), f"{text}: other names"
    for name, tensor in wanted.items():
        assert torch.equal(got[name], tensor), f"{text}: {name}"
