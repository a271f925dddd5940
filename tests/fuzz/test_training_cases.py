"""The training modules' harness on the installed modules: it finds no fault, and detects a wrong draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from laconic.bayes.kl import mixture_sweep
from laconic.bayes.kl.native import extension
from laconic.bayes.layers.reparameterisation import compiled
from tests.fuzz.training_cases import draw_case, mixture_case, sweep_case

TABLE = np.random.default_rng(1).normal(size=2**16).astype(np.float32)


class Noise:
    """The installed module, or one whose draws are off."""

    def __init__(self, off: float = 0.0) -> None:
        self.off = off

    def draw(self, mean: Any, *others: Any) -> None:
        draw: Any = compiled()
        draw(mean, *others)
        if self.off:
            mean[...] = mean + np.float32(self.off)


def test_calls_are_refused_or_right() -> None:
    sweep, mixture = extension(), mixture_sweep.extension()
    if compiled() is None or sweep is None or mixture is None:
        pytest.skip("installed without a compiler")
    rng = np.random.default_rng(3)
    drawn = [draw_case(rng, Noise(), TABLE) for _ in range(1000)]
    swept = [sweep_case(rng, sweep, len(sweep.variants())) for _ in range(1000)]
    mixed = [mixture_case(rng, mixture, len(mixture.variants())) for _ in range(1000)]
    taken = [sum(drawn), sum(swept), sum(mixed)]
    assert min(taken) > 600
    assert max(taken) < 1000


def test_a_wrong_draw_is_seen() -> None:
    if compiled() is None:
        pytest.skip("installed without a compiler")
    rng = np.random.default_rng(3)
    with pytest.raises(RuntimeError, match="NumPy has another result"):
        for _ in range(100):
            draw_case(rng, Noise(0.5), TABLE)
