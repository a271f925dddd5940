"""The records that say what a network costs. What was counted, estimated and measured are different fields.

*Counted* is exact arithmetic on the graph and needs no device. *Estimated* is counted times a device file's
rates. *Measured* is a clock on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerCost:
    """One operation, counted.

    ``macs`` counts zero weights, ``macs_nonzero`` does not. ``weight_bits`` is the width of the stored
    operand in a product (0 without MACs). ``weight_traffic`` are bytes of weights in few-bit form,
    ``sparse_traffic`` the same with the matrix in sparse form (None where there is no such path).
    ``live_bytes`` is the memory of all activations that are alive while it runs. ``own_pass`` is False for
    what runs inside its neighbour.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    weight_bits: int
    activation_bits: int
    macs: int
    macs_nonzero: int
    other_ops: int
    weight_traffic: int
    sparse_traffic: int | None
    activation_traffic: int
    live_bytes: int
    own_pass: bool


@dataclass(frozen=True)
class LayerEstimate:
    """One operation on a device: seconds by roofline, energy by the tables in whole femtojoules.

    ``path`` is "dense" or "sparse", whichever the device runs faster; empty where no weights are read.
    ``weights_in`` and ``activations_in`` name the memories where they lie, ``moved_bytes`` is the traffic of
    both on that path. ``seconds`` is the longer of compute and traffic, and the device's overhead of a call.
    """

    name: str
    path: str
    arithmetic: str
    weights_in: str
    activations_in: str
    moved_bytes: int
    compute_seconds: float
    traffic_seconds: float
    seconds: float
    arithmetic_fj: int
    memory_fj: int

    @property
    def energy_fj(self) -> int:
        """Arithmetic and memory together."""
        return self.arithmetic_fj + self.memory_fj


@dataclass(frozen=True)
class Fit:
    """Does it fit: what a memory must hold and what it can."""

    memory: str
    content: str
    needed_bytes: int
    available_bytes: int

    @property
    def fits(self) -> bool:
        """Whether there is room."""
        return self.needed_bytes <= self.available_bytes

    @property
    def spare_bytes(self) -> int:
        """Room left over; negative: what is missing."""
        return self.available_bytes - self.needed_bytes


@dataclass(frozen=True)
class Estimate:
    """A network on a device, estimated; the rows add up to the totals.

    ``active_watts`` is the power of the whole device while it computes; times the latency it gives
    ``device_joules``. ``table_joules`` prices arithmetic and memory accesses alone (published figures at
    45 nm), a lower bound that tells variants of a network apart.
    """

    device: str
    layers: tuple[LayerEstimate, ...]
    fits: tuple[Fit, ...]
    active_watts: float

    @property
    def seconds(self) -> float:
        """Latency of one call."""
        return sum(layer.seconds for layer in self.layers)

    @property
    def energy_fj(self) -> int:
        """Energy of arithmetic and memory accesses in femtojoules, exactly."""
        return sum(layer.energy_fj for layer in self.layers)

    @property
    def table_joules(self) -> float:
        """``energy_fj`` in joules."""
        return self.energy_fj * 1e-15

    @property
    def device_joules(self) -> float:
        """Active power times latency, in joules."""
        return self.active_watts * self.seconds

    @property
    def fits_all(self) -> bool:
        """Whether everything fits."""
        return all(fit.fits for fit in self.fits)


@dataclass(frozen=True)
class Measured:
    """Latency of one call by the clock: median, 10th and 90th percentile, in seconds."""

    seconds: float
    low_seconds: float
    high_seconds: float
    runs: int
    threads: int
    machine: str


@dataclass(frozen=True)
class Cost:
    """What a network costs at one input shape.

    ``weights_dense_bytes`` is all tensors in float32, ``weights_stored_bytes`` each in the smaller of its
    few-bit and its sparse form. ``file_bytes`` is 0 for a network that is not in a file. With ``precision``
    "int8" the last two are int8 weights, a float32 scale for each row, int32 biases, and what stays float32.
    """

    input_shapes: tuple[tuple[int, ...], ...]
    layers: tuple[LayerCost, ...]
    file_bytes: int
    weights: int
    weights_nonzero: int
    weights_dense_bytes: int
    weights_few_bit_bytes: int
    weights_stored_bytes: int
    precision: str = "fp32"
    estimated: Estimate | None = None
    measured: Measured | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates, zeros included."""
        return sum(layer.macs for layer in self.layers)

    @property
    def macs_nonzero(self) -> int:
        """Multiply-accumulates whose weight is not zero."""
        return sum(layer.macs_nonzero for layer in self.layers)

    @property
    def other_ops(self) -> int:
        """All other arithmetic, in operations of about one MAC each."""
        return sum(layer.other_ops for layer in self.layers)

    @property
    def macs_by_bits(self) -> Mapping[tuple[int, int], int]:
        """(weight bits, activation bits) -> MACs, zeros included."""
        found: dict[tuple[int, int], int] = {}
        for layer in self.layers:
            if layer.macs:
                key = (layer.weight_bits, layer.activation_bits)
                found[key] = found.get(key, 0) + layer.macs
        return found

    @property
    def peak_activation_bytes(self) -> int:
        """The most memory that activations take at any time, inputs and outputs included."""
        return max((layer.live_bytes for layer in self.layers), default=0)

    @property
    def traffic_bytes(self) -> int:
        """Bytes of weights (few-bit form) and activations moved in one call."""
        return sum(layer.weight_traffic + layer.activation_traffic for layer in self.layers)
