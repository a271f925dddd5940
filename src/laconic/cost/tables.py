"""The records of a network's cost. Counted, estimated and measured figures are different fields.

*Counted* is exact arithmetic on the graph and needs no device. *Estimated* is counted times a device file's
rates. *Measured* is a clock on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerCost:
    """One operation, counted.

    Attributes:
        name: The layer's name, or the operation's where it has no stored tensor.
        op: The operation's name in the graph.
        shape: Shape of its first output.
        weight_bits: Width of the stored operand in a product, in bits; 0 without MACs.
        activation_bits: Width of the activations that it reads, in bits.
        macs: Multiply-accumulates, those by zero weights included.
        macs_nonzero: Multiply-accumulates by weights that are not zero.
        other_ops: All other arithmetic, in operations of about one MAC each.
        weight_traffic: Bytes of weights that are read, in few-bit form.
        sparse_traffic: The same with the matrix in sparse form; None where there is no such path.
        activation_traffic: Bytes of activations that are read and written.
        live_bytes: Bytes of all activations that are alive while it runs.
        own_pass: False for what runs inside its neighbour, such as an activation after a layer.

    Example:
        >>> LayerCost("fc", "linear", (1, 2), 8, 8, 8, 6, 0, 8, None, 6, 6, True).macs_nonzero
        6
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
    """One operation on a device: seconds by the roofline model, energy by the device's tables.

    Attributes:
        name: The layer's name, as in :class:`LayerCost`.
        path: "dense" or "sparse", whichever the device runs faster; empty where no weights are read.
        arithmetic: Name of the device's arithmetic that runs it.
        weights_in: Name of the memory that holds the weights.
        activations_in: Name of the memory that holds the activations.
        moved_bytes: Bytes of weights and activations that are read and written on that path.
        compute_seconds: Seconds of arithmetic.
        traffic_seconds: Seconds of memory traffic.
        seconds: The longer of both, plus the device's overhead of a call.
        arithmetic_fj: Energy of the arithmetic, in femtojoules.
        memory_fj: Energy of the memory traffic, in femtojoules.

    Example:
        >>> LayerEstimate("fc", "dense", "int8", "flash", "ram", 14, 1e-6, 2e-6, 2e-6, 40, 60).energy_fj
        100
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
    """Whether a memory holds what it must.

    Attributes:
        memory: The memory's name.
        content: What lies in it: "weights", "activations" or "weights and activations".
        needed_bytes: Bytes that it must hold.
        available_bytes: Its size, in bytes.

    Example:
        >>> fit = Fit("ram", "activations", 300, 256)
        >>> fit.fits, fit.spare_bytes
        (False, -44)
    """

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

    ``device_joules`` is power times latency. ``table_joules`` adds up published energies of arithmetic and
    memory accesses (at 45 nm): a lower bound, by which variants of a network can be compared.

    Attributes:
        device: The device's name.
        layers: One row for each operation.
        fits: One row for each memory that must hold something.
        active_watts: Power of the whole device while it computes, in watts.

    Example:
        >>> row = LayerEstimate("fc", "dense", "int8", "flash", "ram", 14, 1e-6, 2e-6, 2e-6, 40, 60)
        >>> Estimate("board", (row, row), (), 0.5).device_joules
        2e-06
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
    """Measured latency of one call.

    Attributes:
        seconds: The median, in seconds.
        low_seconds: The 10th percentile, in seconds.
        high_seconds: The 90th percentile, in seconds.
        runs: Calls that were timed.
        threads: Threads that a call used.
        machine: The processor's name.

    Example:
        >>> Measured(0.002, 0.001, 0.003, runs=50, threads=1, machine="x86_64").seconds
        0.002
    """

    seconds: float
    low_seconds: float
    high_seconds: float
    runs: int
    threads: int
    machine: str


@dataclass(frozen=True)
class Cost:
    """What a network costs at one input shape.

    With ``precision`` "int8", ``weights_few_bit_bytes`` and ``weights_stored_bytes`` are int8 weights, a
    float32 scale for each row, int32 biases, and what stays float32.

    Attributes:
        input_shapes: A shape for each input.
        layers: One row for each operation.
        file_bytes: Length of the file in bytes; 0 for a network that is not in a file.
        weights: Entries of all tensors.
        weights_nonzero: Entries that are not zero.
        weights_dense_bytes: Bytes of all tensors in float32.
        weights_few_bit_bytes: Bytes of all tensors in few-bit form.
        weights_stored_bytes: Bytes of all tensors, each in the smaller of its few-bit and its sparse form.
        precision: "fp32" or "int8".
        estimated: Latency and energy on a device, where one was given.
        measured: Latency on this machine, where it was measured.

    Example:
        >>> Cost(((1, 4),), (), 0, 8, 6, 32, 8, 8).macs
        0
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
