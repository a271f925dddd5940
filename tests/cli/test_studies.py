"""The studies draw what the file says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from laconic.records import AnyArray
from laconic.zoo import LeNet5

SHAPES = {n: p.shape for n, p in LeNet5(generator=torch.Generator().manual_seed(0)).named_parameters()}


@pytest.fixture
def state() -> dict[str, Any]:
    """Posteriors whose every weight the published threshold would keep."""
    generator = torch.Generator().manual_seed(0)
    weights = {n: torch.randn(s, generator=generator) for n, s in SHAPES.items()}
    noise = {f"{n}_log_var": torch.full(s, -9.0) for n, s in SHAPES.items()}
    return {**weights, **noise, **{f"laconic_scale_{i}": torch.tensor(0.2003) for i in range(4)}}


@pytest.fixture
def decoded() -> dict[str, AnyArray]:
    """What a file may say instead: most weights removed, the rest at a rounded scale."""
    generator = np.random.default_rng(0)
    return {n: generator.choice(np.float32([0, 0, 0, 0.2001953125]), s) for n, s in SHAPES.items()}


def test_vnq_draws_the_decoded_values_after_the_decision(
    state: dict[str, Any], decoded: dict[str, AnyArray]
) -> None:
    study = pytest.importorskip("studies.vnq_lenet5")
    figure = study.draw_posteriors(state, decoded, [0.2003] * 4)
    for column, layer in enumerate(study.LAYERS):
        mean = state[f"{layer}.weight"].numpy().ravel()
        pick = np.random.default_rng(0).permutation(mean.size)[:8000]
        before, after = (figure.axes[4 * row + column].collections[0].get_offsets() for row in (0, 1))
        assert np.array_equal(np.asarray(before)[:, 0], mean[pick].astype(np.float64))
        assert np.array_equal(np.asarray(after)[:, 0], decoded[f"{layer}.weight"].ravel()[pick].astype(float))
    study.plt.close(figure)


def test_vnq_draws_the_decoded_filters(state: dict[str, Any], decoded: dict[str, AnyArray]) -> None:
    study = pytest.importorskip("studies.vnq_lenet5")
    reference = {n: state[n] for n in SHAPES}
    figure = study.draw_filters(reference, state, decoded, 0.2003)
    for column in range(20):
        shown = figure.axes[40 + column].images[0].get_array()
        assert np.array_equal(np.asarray(shown), decoded["conv1.weight"][column, 0])
    study.plt.close(figure)
