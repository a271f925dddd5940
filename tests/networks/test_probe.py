"""An example that does not fit is refused with what makes it fit, by the shapes of layer and input."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.networks.probe import check_model


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layer(x) + y


CONV, ONE = nn.Sequential(nn.Conv2d(3, 2, 3)), nn.Sequential(nn.Conv2d(1, 2, 3))
DENSE = nn.Sequential(nn.Linear(4, 2))
NORM = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3))


@pytest.mark.parametrize(
    ("model", "x", "cure"),
    [
        (DENSE, torch.zeros(3, 2, 2), "x.flatten(1)"),
        (DENSE, torch.zeros(3, 4, dtype=torch.float64), "x.float()"),
        (CONV, torch.zeros(2, 8, 9, 3), "x.movedim(-1, 1)"),
        (CONV, torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "x.float()"),
        (ONE, torch.zeros(2, 8, 8), "x[:, None]"),
        (NORM, torch.zeros(3, 8, 8), "x[None]"),
        (nn.Sequential(nn.Embedding(5, 4)), torch.zeros(2, 3), "x.long()"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_the_cure_makes_the_example_fit(model: nn.Module, x: Tensor, cure: str) -> None:
    with pytest.raises(InputError, match=f"Cure: .*{re.escape(cure)}(, scaled as in training .*)?$"):
        check_model(model, x)
    check_model(model, eval(cure, {"x": x}))


@pytest.mark.parametrize(
    ("model", "x", "said"),
    [
        (DENSE, torch.zeros(2, 5), "with 4 features on axis 1 at this layer, not 5"),
        (CONV, torch.zeros(2, 1, 8, 8), "with 3 channels on axis 1 at this layer, not 1"),
        (TwoInputs(), torch.zeros(2, 4), "inputs of the shapes and types that forward takes"),
    ],
    ids=["features", "channels", "an input is missing"],
)
def test_what_cannot_be_reshaped_is_told_the_size(model: nn.Module, x: Any, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        check_model(model, x)
