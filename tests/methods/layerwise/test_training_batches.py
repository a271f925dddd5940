"""Training batches: what an augmentation may do, and that labels stay with their inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.methods.layerwise.calibration import Calls, calibration_calls
from laconic.methods.layerwise.training_batches import augmented, training_batches
from laconic.tasks import Classification


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_labels_stay_with_their_inputs_which_are_mixed_beside_them() -> None:
    x = torch.arange(40.0)[:, None]
    calls = Calls((x[:25], x[25:]), (None, torch.ones(15, dtype=torch.bool)), 40, (x[:25, 0], x[25:, 0]))
    batches = training_batches(calls, 0, 8, 0.5, lambda x, g: x + 100, _generator())
    for _, batch in zip(range(6), batches, strict=False):
        assert torch.equal(batch.unmixed[:, 0], batch.target + 100)
        assert not torch.equal(batch.inputs, batch.unmixed)


def test_inputs_with_positions_that_are_no_terms_are_not_mixed() -> None:
    mask = torch.ones(25, dtype=torch.bool)
    mask[0] = False
    batches = training_batches(Calls((torch.randn(25, 3),), (mask,), 25), 0, 25, 0.5, None, _generator())
    batch = next(batches)
    assert torch.equal(batch.inputs, batch.unmixed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, g: x[:, 1:], r"\(2, 3\).*\(2, 4\).*Cure: keep shape"),
        (lambda x, g: x.double(), r"float64.*float32"),
        (lambda x, g: None, r"NoneType of another structure|a NoneType"),
        (lambda x, g: (x, x), "structure"),
        (lambda x, g: x / 0, r"8 values that are NaN or infinite"),
    ],
)
def test_an_augmentation_that_breaks_its_inputs_is_refused(
    change: Callable[[Any, torch.Generator], Any], message: str
) -> None:
    with pytest.raises(InputError, match=r"refine\.augment.*" + f"({message})"):
        augmented(torch.ones(2, 4), change, _generator())


def test_an_augmentation_in_place_leaves_the_calibration_inputs() -> None:
    x = torch.ones(2, 4)
    assert float(augmented({"x": x}, lambda tree, g: {"x": tree["x"].mul_(3)}, _generator())["x"].max()) == 3
    assert float(x.max()) == 1


class _Named(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("batches", "task"),
    [
        ([(torch.arange(24.0)[:, None], torch.arange(24))], Classification()),
        (
            [(torch.arange(24.0)[k : k + 8, None], torch.arange(24)[k : k + 8]) for k in (0, 8, 16)],
            Classification(),
        ),
        ([{"x": torch.arange(24.0)[:, None], "y": torch.arange(24)}], Classification(target="y")),
    ],
)
def test_calls_keep_their_labels_where_they_are_asked_for(batches: list[Any], task: Classification) -> None:
    for kept in (True, False):
        both = calibration_calls(_Named(), batches, task, 20, 0.25, 0, labels=kept)
        for calls in both:
            assert len(calls.targets) == (len(calls.inputs) if kept else 0)
            for inputs, target in zip(calls.inputs, calls.targets, strict=False):
                x = inputs["x"] if isinstance(inputs, dict) else inputs
                assert torch.equal(x[:, 0].long(), target)
        assert sum(calls.examples for calls in both) == 20
