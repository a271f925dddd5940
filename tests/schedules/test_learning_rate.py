"""Learning-rate schedules: their factors by hand, torch's scheduler from them, and what cannot be."""

from __future__ import annotations

import pytest
import torch

from laconic.errors import InputError
from laconic.schedules import LinearDecay


def test_the_learning_rate_is_flat_then_linear():
    quarter = LinearDecay(0.25).factor
    assert [quarter(p) for p in (0.0, 0.2, 0.25, 0.625, 1.0)] == [1.0, 1.0, 1.0, 0.5, 0.0]
    assert [LinearDecay(1.0).factor(p) for p in (0.0, 0.99)] == [1.0, 1.0]
    assert LinearDecay(0.0).factor(0.5) == 0.5


def test_torchs_scheduler_follows_it():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.8)
    scheduler = LinearDecay(0.5)(optimizer, 4)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.8, 0.8, 0.8, 0.4])


@pytest.mark.parametrize(
    ("settings", "said"), [({"flat": 1.5}, "0 <= flat <= 1"), ({"warmup": 1.0}, "0 <= warmup < 1")]
)
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        LinearDecay(**settings)
