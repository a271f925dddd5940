"""Which way each linear layer takes on this machine: measured, cached, and said in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from laconic.records import FloatArray
from laconic.runtime.engines import cache
from laconic.runtime.engines.few_bits import EXACT_WAYS, ROUNDING_WAYS, Way
from laconic.runtime.engines.layers import LinearLayer, stored
from laconic.runtime.engines.measure import cut_seconds, fastest_calls, layer_call
from laconic.runtime.engines.own import OwnWay, is_own, own_matrix

if TYPE_CHECKING:
    from laconic.runtime.workers import Workers

LayerWay = Literal["dense"] | OwnWay | Way

SMALL = 2**17
"""Weights below which a layer stays dense unmeasured: 512 KiB of float32 are read from a core's own cache."""

MOST_NONZERO = 0.5
"""The sparse kernel's break-even lies at 50 to 60 % zeros; with fewer it is not tried."""


WORTH = 0.9
"""A way is taken when it needs at most this share of the dense product's time; nearer is noise."""


@dataclass(frozen=True)
class LayerChoice:
    """How a linear layer runs and why; ``microseconds`` are the measured ways, alone and for ``batch`` rows.

    ``nbytes`` is the memory of its weights in the form that is multiplied.
    """

    name: str
    shape: tuple[int, int]
    nonzeros: int
    way: LayerWay
    reason: str
    batch: int
    microseconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def zeros(self) -> float:
        """The share of zeros."""
        return 1 - self.nonzeros / max(1, self.shape[0] * self.shape[1])

    def __str__(self) -> str:
        rows, cols = self.shape
        return f"{self.name} {rows}x{cols}, {100 * self.zeros:.0f} % zeros: {self.way} ({self.reason})"


class Chooser(NamedTuple):
    """What choices depend on: batch, threads, whether activations may be rounded, where times are kept."""

    batch: int
    threads: int | None
    rounding: bool
    file: Path | None
    workers: int = 1
    pool: Workers | None = None

    def choose(self, layers: Sequence[tuple[LinearLayer, int]]) -> list[LayerChoice]:
        """The way of each layer, given with the rows that one sample of the batch gives it.

        What was measured before on this machine is not measured again.
        """
        quick = [self._unmeasured(layer, rows) for layer, rows in layers]
        if None not in quick:
            return [choice for choice in quick if choice is not None]
        known, new = cache.read_choices(self.file), dict[str, dict[str, float]]()
        machine = cache.machine()
        found = []
        for (layer, rows), choice in zip(layers, quick, strict=True):
            if choice is not None:
                found.append(choice)
                continue
            key = f"{machine} | {self._key(layer, rows)}"
            times = known.get(key) or new.get(key)
            if times is None or set(times) - {"cut"} != set(self._ways(layer)):
                times = new[key] = self._measure(layer, rows)
            found.append(self._pick(layer, rows, times))
        cache.keep_choices(self.file, new)
        return found

    def forced(self, layers: Sequence[tuple[LinearLayer, int]]) -> list[LayerChoice]:
        """Every layer with enough zeros goes to the sparse kernel, unmeasured."""
        return [
            _choice(layer, "sparse", _asked_for(), self.batch * rows)
            if layer.nonzeros <= MOST_NONZERO * stored(layer.tensor).size
            else _choice(layer, "dense", _below_break_even(layer), self.batch * rows)
            for layer, rows in layers
        ]

    def _ways(self, layer: LinearLayer) -> list[LayerWay]:
        ways: list[LayerWay] = ["dense"]
        if layer.nonzeros <= MOST_NONZERO * stored(layer.tensor).size and _has_fast_code():
            ways.append("sparse")
        if self.rounding and _has_two_bit_code() and layer.two_bits:
            ways.append("2-bit-kernel")
        allowed = EXACT_WAYS + ROUNDING_WAYS if self.rounding else EXACT_WAYS
        return ways + [way for way in allowed if way in layer.fitting]

    def _unmeasured(self, layer: LinearLayer, rows: int) -> LayerChoice | None:
        size = stored(layer.tensor).size
        if size < SMALL:
            return _choice(layer, "dense", f"small: under {SMALL} weights", self.batch * rows)
        if len(self._ways(layer)) == 1:
            return _choice(layer, "dense", _below_break_even(layer), self.batch * rows)
        return None

    def _key(self, layer: LinearLayer, rows: int) -> str:
        """Layers that take as long share a key: non-zeros in percent, or tenths of it where they are few."""
        share = 100 * layer.nonzeros / stored(layer.tensor).size
        outputs, inputs = layer.shape
        ways = ",".join(self._ways(layer))
        return (
            f"{outputs}x{inputs}, {share:.{1 if share < 5 else 0}f} % non-zero, {ways}, "
            f"batch {self.batch * rows}, threads {self.threads}"
        )

    def _measure(self, layer: LinearLayer, rows: int) -> dict[str, float]:
        x = _example(self.batch * rows, layer.shape[1])
        calls: dict[str, Callable[[], object]] = {}
        for way in self._ways(layer):
            if is_own(way):
                matrix = own_matrix(layer.tensor, way, self.workers, self.pool)
                calls[way] = lambda matrix=matrix: matrix(x)  # type: ignore[misc]
            else:
                node_way = None if way == "dense" else way
                calls[way] = layer_call(layer.tensor, node_way, x, self.threads)[0]
        return {**fastest_calls(calls), "cut": cut_seconds()}

    def _pick(self, layer: LinearLayer, rows: int, times: Mapping[str, float]) -> LayerChoice:
        """The shortest; our own kernels pay for the cut, and no other way for a session of its own."""
        cost = {way: s + times["cut"] if is_own(way) else s - times["cut"] for way, s in times.items()}
        ways = [way for way in self._ways(layer) if way in times]
        best = min(ways, key=lambda way: cost[way])
        if cost[best] > WORTH * cost["dense"]:
            best = "dense"
        micro: dict[str, float] = {way: 1e6 * times[way] for way in ways}
        said = ", ".join(f"{name} {value:.0f}" for name, value in micro.items())
        reason = f"measured, us: {said}"
        if "sparse" not in ways:
            reason += f"; {_below_break_even(layer)}"
        return _choice(layer, best, reason, self.batch * rows, micro)


def _choice(
    layer: LinearLayer, way: LayerWay, reason: str, batch: int, times: Mapping[str, float] | None = None
) -> LayerChoice:
    return LayerChoice(layer.name, layer.shape, layer.nonzeros, way, reason, batch, times or {})


def _asked_for() -> str:
    from laconic.runtime.kernels import native

    return "asked for" if native.extension() is not None else "asked for; the compiled kernel is missing"


def _has_fast_code() -> bool:
    """NumPy alone is never faster than a dense product, so it is not tried."""
    from laconic.runtime.kernels import native, plain

    return native.extension() is not None or plain.scipy_sparse() is not None


def _has_two_bit_code() -> bool:
    from laconic.runtime.kernels import native

    return native.two_bit_extension() is not None


def _below_break_even(layer: LinearLayer) -> str:
    zeros = 100 - 100 * layer.nonzeros / max(1, stored(layer.tensor).size)
    if zeros >= 100 * (1 - MOST_NONZERO):
        return "the compiled kernel is missing, and SciPy too"
    return f"{zeros:.0f} % zeros, the sparse kernel's break-even is {100 * (1 - MOST_NONZERO):.0f} %"


def _example(batch: int, width: int) -> FloatArray:
    return np.random.default_rng(0).standard_normal((batch, width)).astype(np.float32)
