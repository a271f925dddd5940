"""Which way each linear layer takes on this machine: measured, cached, and said in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from laconic.records import Record, record
from laconic.runtime.engines import cache
from laconic.runtime.engines.few_bits import EXACT_WAYS, ROUNDING_WAYS, Way
from laconic.runtime.engines.layers import LinearLayer
from laconic.runtime.engines.own import OwnWay, is_own, own_matrix

if TYPE_CHECKING:
    from laconic.runtime.engines.workers import Workers

LayerWay = Literal["dense"] | OwnWay | Way

SMALL = 2**17
"""Weights below which a layer stays dense unmeasured: 512 KiB of float32 are read from a core's own cache."""

MOST_NONZERO = 0.5
"""The sparse kernel's break-even lies at 50 to 60 % zeros; with fewer it is not tried."""


MOST_PRODUCTS, MOST_ENTRIES = 2**30, 2**20
"""Multiply-adds of one measured call, and entries of its input or output: longer inputs are cut to these.

A file may claim any number of rows. From here on the ways' times are in proportion to them.
"""

SECONDS = 1.0
"""Measuring all layers of a network ends after this long; the next load goes on with those that are left."""

WORTH = 0.9
"""A way is taken when it needs at most this share of the dense product's time; nearer is noise."""


@record
class LayerChoice(Record):
    """How a linear layer runs, and why.

    Attributes:
        name: The weight's name.
        shape: (outputs, inputs).
        nonzeros: Entries of the weight that are not zero.
        way: "dense", a form of few bits that is multiplied by ONNX Runtime, or one of our own kernels.
        reason: Why, in words.
        batch: Rows of a usual call.
        microseconds: Of one call of the layer alone on these rows, by way; empty where none was measured.

    >>> choice = LayerChoice("fc", (10, 20), 50, "dense", "small: under 131072 weights", 1, {})
    >>> choice.zeros, str(choice)
    (0.75, 'fc 10x20, 75 % zeros: dense (small: under 131072 weights)')
    """

    name: str
    shape: tuple[int, int]
    nonzeros: int
    way: LayerWay
    reason: str
    batch: int
    microseconds: Mapping[str, float]

    @property
    def zeros(self) -> float:
        """The share of zeros."""
        return 1 - self.nonzeros / max(1, self.shape[0] * self.shape[1])

    def __str__(self) -> str:
        rows, cols = self.shape
        return f"{self.name} {rows}x{cols}, {100 * self.zeros:.0f} % zeros: {self.way} ({self.reason})"


@record
class Chooser(Record):
    """What choices depend on: batch, threads, whether activations may be rounded, where times are kept."""

    batch: int
    threads: int | None
    rounding: bool
    file: str | None
    workers: int = 1
    pool: Workers | None = None

    def choose(self, layers: Sequence[LinearLayer]) -> list[LayerChoice]:
        """The way of each layer.

        What was measured before on this machine is not measured again.
        """
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
            if times is None or set(times) - {"cut"} != set(self._ways(layer)):
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

    def _ways(self, layer: LinearLayer) -> list[LayerWay]:
        ways: list[LayerWay] = ["dense"]
        if layer.nonzeros <= MOST_NONZERO * layer.tensor.size and _has_fast_code():
            ways.append("sparse")
        if self.rounding and _has_two_bit_code() and layer.two_bits:
            ways.append("2-bit-kernel")
        allowed = EXACT_WAYS + ROUNDING_WAYS if self.rounding else EXACT_WAYS
        return ways + [way for way in allowed if way in layer.fitting]

    def _unmeasured(self, layer: LinearLayer) -> LayerChoice | None:
        size = layer.tensor.size
        if size < SMALL:
            return _choice(layer, "dense", f"small: under {SMALL} weights", self.batch * layer.rows)
        if len(self._ways(layer)) == 1:
            return _choice(layer, "dense", _below_break_even(layer), self.batch * layer.rows)
        return None

    def _key(self, layer: LinearLayer) -> str:
        """Layers that take as long share a key: non-zeros in percent, or tenths of it where they are few."""
        share = 100 * layer.nonzeros / layer.tensor.size
        outputs, inputs = layer.shape
        ways = ",".join(self._ways(layer))
        return (
            f"{outputs}x{inputs}, {share:.{1 if share < 5 else 0}f} % non-zero, {ways}, "
            f"batch {self._rows(layer)}, threads {self.threads}"
        )

    def _rows(self, layer: LinearLayer) -> int:
        """The rows that are measured: the call's own, as far as that is bounded in time and memory."""
        outputs, inputs = layer.shape
        most = min(MOST_PRODUCTS // max(1, outputs * inputs), MOST_ENTRIES // max(1, outputs, inputs))
        return min(self.batch * layer.rows, max(1, most))

    def _measure(self, layer: LinearLayer) -> dict[str, float]:
        from laconic.runtime.engines.measure import cut_seconds, fastest_calls, layer_call, waves

        x = waves((self._rows(layer), layer.shape[1]))
        calls: dict[str, Callable[[], object]] = {}
        for way in self._ways(layer):
            if is_own(way):
                matrix = own_matrix(layer.tensor, way, self.workers, self.pool)
                calls[way] = lambda matrix=matrix: matrix(x)  # type: ignore[misc]
            else:
                node_way = None if way == "dense" else way
                calls[way] = layer_call(layer.tensor, node_way, x, self.threads)[0]
        return {**fastest_calls(calls), "cut": cut_seconds()}

    def _pick(self, layer: LinearLayer, times: Mapping[str, float]) -> LayerChoice:
        """The shortest; our own kernels pay for the cut, and no other way for a session of its own."""
        cost = {way: s + times["cut"] if is_own(way) else s - times["cut"] for way, s in times.items()}
        ways = [way for way in self._ways(layer) if way in times]
        best = min(ways, key=lambda way: cost[way])
        if cost[best] > WORTH * cost["dense"]:
            best = "dense"
        micro: dict[str, float] = {way: 1e6 * times[way] for way in ways}
        said = ", ".join(f"{name} {value:.0f}" for name, value in micro.items())
        measured, own = self._rows(layer), self.batch * layer.rows
        at = f" at {measured} of {own} rows" if measured < own else ""
        reason = f"measured{at}, us: {said}"
        if "sparse" not in ways:
            reason += f"; {_below_break_even(layer)}"
        return _choice(layer, best, reason, self.batch * layer.rows, micro)


_NO_TIME = f"not measured yet: other layers took {SECONDS:.0f} s, the next load goes on"


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
    zeros = 100 - 100 * layer.nonzeros / max(1, layer.tensor.size)
    if zeros >= 100 * (1 - MOST_NONZERO):
        return "the compiled kernel is missing, and SciPy too"
    return f"{zeros:.0f} % zeros, the sparse kernel's break-even is {100 * (1 - MOST_NONZERO):.0f} %"
