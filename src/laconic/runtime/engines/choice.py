"""Chooses the implementation of each linear layer on this machine by measurement, and keeps the times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from laconic.records import Record, record
from laconic.runtime.engines import cache
from laconic.runtime.engines.few_bits import (
    EXACT_IMPLEMENTATIONS,
    ROUNDING_IMPLEMENTATIONS,
    PackedImplementation,
)
from laconic.runtime.engines.layers import LinearLayer
from laconic.runtime.engines.own import KernelImplementation, is_own, own_matrix

if TYPE_CHECKING:
    from laconic.runtime.engines.workers import Workers

Implementation = Literal["dense"] | KernelImplementation | PackedImplementation

SMALL = 2**17
"""Weights below which a layer stays dense unmeasured: 512 KiB of float32 fit a core's own cache."""

MOST_NONZERO = 0.5
"""The sparse kernel's break-even lies at 50 to 60 % zeros; with fewer it is not tried."""


MOST_PRODUCTS, MOST_ENTRIES = 2**30, 2**20
"""Multiply-adds of one measured call, and entries of its input or output: longer inputs are cut to these.

A file may claim any number of rows. Above these bounds all times grow in proportion to the rows.
"""

SECONDS = 1.0
"""Measuring the layers of a network ends after this long; the next load measures those that are left."""

WORTH = 0.9
"""An implementation is chosen when it needs at most this share of the dense product's time; a smaller
difference is noise."""


@record
class LayerChoice(Record):
    """How a linear layer runs, and why.

    Attributes:
        name: The weight's name.
        shape: (outputs, inputs).
        nonzeros: Entries of the weight that are not zero.
        implementation: "dense", a packed form of few bits in ONNX Runtime, or one of our kernels.
        reason: Why it was chosen.
        batch: Rows of a usual call.
        microseconds: Of one call of the layer alone on these rows, by implementation; empty if unmeasured.

    >>> choice = LayerChoice("fc", (10, 20), 50, "dense", "small: under 131072 weights", 1, {})
    >>> choice.zeros, str(choice)
    (0.75, 'fc 10x20, 75 % zeros: dense (small: under 131072 weights)')
    """

    name: str
    shape: tuple[int, int]
    nonzeros: int
    implementation: Implementation
    reason: str
    batch: int
    microseconds: Mapping[str, float]

    @property
    def zeros(self) -> float:
        """The share of zeros."""
        return 1 - self.nonzeros / max(1, self.shape[0] * self.shape[1])

    def __str__(self) -> str:
        rows, cols = self.shape
        zeros = f"{100 * self.zeros:.0f} % zeros"
        return f"{self.name} {rows}x{cols}, {zeros}: {self.implementation} ({self.reason})"


@record
class Chooser(Record):
    """Chooses implementations.

    Args:
        batch: Rows of a usual call.
        threads: The most cores of a call; None for all.
        rounding: Whether activations may be rounded to 8 bits.
        file: Where times are kept; None for nowhere.
        workers: Threads of our own kernels.
        pool: These threads.
    """

    batch: int
    threads: int | None
    rounding: bool
    file: str | None
    workers: int = 1
    pool: Workers | None = None

    def choose(self, layers: Sequence[LinearLayer]) -> list[LayerChoice]:
        """The implementation of each layer; times measured before on this machine are reused."""
        quick = [self._unmeasured(layer) for layer in layers]
        if None not in quick:
            return [choice for choice in quick if choice is not None]
        known, new = cache.read_choices(self.file), dict[str, dict[str, float]]()
        machine, start = cache.machine(), time.perf_counter()
        found = []
        for layer, choice in zip(layers, quick, strict=True):
            if choice is not None:
                found.append(choice)
                continue
            key = f"{machine} | {self._key(layer)}"
            times = known.get(key) or new.get(key)
            if times is None or set(times) - {"cut"} != set(self._implementations(layer)):
                if time.perf_counter() - start > SECONDS:
                    found.append(_choice(layer, "dense", _NO_TIME, self.batch * layer.rows))
                    continue
                times = new[key] = self._measure(layer)
            found.append(self._pick(layer, times))
        cache.keep_choices(self.file, new)
        return found

    def forced(self, layers: Sequence[LinearLayer]) -> list[LayerChoice]:
        """Every layer with enough zeros goes to the sparse kernel, unmeasured."""
        return [
            _choice(layer, "sparse", _asked_for(), self.batch * layer.rows)
            if layer.nonzeros <= MOST_NONZERO * layer.tensor.size
            else _choice(layer, "dense", _below_break_even(layer), self.batch * layer.rows)
            for layer in layers
        ]

    def _implementations(self, layer: LinearLayer) -> list[Implementation]:
        implementations: list[Implementation] = ["dense"]
        if layer.nonzeros <= MOST_NONZERO * layer.tensor.size and _has_fast_code():
            implementations.append("sparse")
        if self.rounding and _has_two_bit_code() and layer.two_bits:
            implementations.append("2-bit-kernel")
        allowed = EXACT_IMPLEMENTATIONS + ROUNDING_IMPLEMENTATIONS if self.rounding else EXACT_IMPLEMENTATIONS
        return implementations + [one for one in allowed if one in layer.fitting]

    def _unmeasured(self, layer: LinearLayer) -> LayerChoice | None:
        size = layer.tensor.size
        if size < SMALL:
            return _choice(layer, "dense", f"small: under {SMALL} weights", self.batch * layer.rows)
        if len(self._implementations(layer)) == 1:
            return _choice(layer, "dense", _below_break_even(layer), self.batch * layer.rows)
        return None

    def _key(self, layer: LinearLayer) -> str:
        """The key of the times: shape, non-zeros to 1 % (0.1 % below 5 %), implementations, rows, threads."""
        share = 100 * layer.nonzeros / layer.tensor.size
        outputs, inputs = layer.shape
        implementations = ",".join(self._implementations(layer))
        return (
            f"{outputs}x{inputs}, {share:.{1 if share < 5 else 0}f} % non-zero, {implementations}, "
            f"batch {self._rows(layer)}, threads {self.threads}"
        )

    def _rows(self, layer: LinearLayer) -> int:
        """The rows that are measured: those of a usual call, within the bounds on time and memory."""
        outputs, inputs = layer.shape
        most = min(MOST_PRODUCTS // max(1, outputs * inputs), MOST_ENTRIES // max(1, outputs, inputs))
        return min(self.batch * layer.rows, max(1, most))

    def _measure(self, layer: LinearLayer) -> dict[str, float]:
        from laconic.runtime.engines.measure import cut_seconds, fastest_calls, layer_call, waves

        x = waves((self._rows(layer), layer.shape[1]))
        calls: dict[str, Callable[[], object]] = {}
        for implementation in self._implementations(layer):
            if is_own(implementation):
                matrix = own_matrix(layer.tensor, implementation, self.workers, self.pool)
                calls[implementation] = lambda matrix=matrix: matrix(x)  # type: ignore[misc]
            else:
                packed = None if implementation == "dense" else implementation
                calls[implementation] = layer_call(layer.tensor, packed, x, self.threads)[0]
        return {**fastest_calls(calls), "cut": cut_seconds()}

    def _pick(self, layer: LinearLayer, times: Mapping[str, float]) -> LayerChoice:
        """The fastest; one more session is counted for our own kernels, and none for the others."""
        cost = {one: s + times["cut"] if is_own(one) else s - times["cut"] for one, s in times.items()}
        implementations = [one for one in self._implementations(layer) if one in times]
        best = min(implementations, key=lambda one: cost[one])
        if cost[best] > WORTH * cost["dense"]:
            best = "dense"
        micro: dict[str, float] = {one: 1e6 * times[one] for one in implementations}
        text = ", ".join(f"{name} {value:.0f}" for name, value in micro.items())
        measured, own = self._rows(layer), self.batch * layer.rows
        at = f" at {measured} of {own} rows" if measured < own else ""
        reason = f"measured{at}, us: {text}"
        if "sparse" not in implementations:
            reason += f"; {_below_break_even(layer)}"
        return _choice(layer, best, reason, self.batch * layer.rows, micro)


_NO_TIME = f"not measured yet: other layers took {SECONDS:.0f} s, the next load measures it"


def _choice(
    layer: LinearLayer,
    implementation: Implementation,
    reason: str,
    batch: int,
    times: Mapping[str, float] | None = None,
) -> LayerChoice:
    return LayerChoice(layer.name, layer.shape, layer.nonzeros, implementation, reason, batch, times or {})


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
    zeros = 100 - 100 * layer.nonzeros / max(1, layer.tensor.size)
    if zeros >= 100 * (1 - MOST_NONZERO):
        return "the compiled kernel is missing, and SciPy too"
    return f"{zeros:.0f} % zeros, the sparse kernel's break-even is {100 * (1 - MOST_NONZERO):.0f} %"
