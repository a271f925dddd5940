"""The description of a device for cost estimates: clock, memories, rates and energies of arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from laconic.errors import InputError

Content = Literal["weights", "activations", "both"]


@dataclass(frozen=True)
class Memory:
    """One memory of a device.

    Args:
        name: As messages and tables call it.
        holds: "weights", "activations" or "both".
        bytes: Its size, in bytes.
        bytes_per_second: Its rate, in bytes per second.
        fj_per_byte: Energy of one byte that is read or written, in femtojoules.

    Example:
        >>> Memory("flash", "weights", 2**20, 1e8, 50).may_hold("activations")
        False
    """

    name: str
    holds: Content
    bytes: int
    bytes_per_second: float
    fj_per_byte: int

    def may_hold(self, content: Content) -> bool:
        """Whether weights (or activations) may lie here."""
        return self.holds in (content, "both")


@dataclass(frozen=True)
class Arithmetic:
    """One kind of multiply-accumulate (MAC): its operands, its rate and its energy.

    Args:
        name: As messages and tables call it.
        weight_bits: Widest weight that it takes, in bits.
        activation_bits: Widest activation that it takes, in bits.
        macs_per_cycle: MACs per clock cycle.
        fj_per_mac: Energy of one MAC, in femtojoules.

    Example:
        >>> Arithmetic("int8", 8, 8, 2.0, 200).fj_per_mac
        200
    """

    name: str
    weight_bits: int
    activation_bits: int
    macs_per_cycle: float
    fj_per_mac: int


@dataclass(frozen=True)
class Device:
    """A device file, read and checked (see :func:`laconic.cost.read_device`).

    Args:
        name: As messages and tables call it.
        clock_hz: Clock rate, in hertz.
        active_watts: Power of the whole device while it computes, in watts.
        seconds_per_operation: Overhead of one call of a kernel, in seconds.
        sparse_macs_per_cycle: MACs per clock cycle when a linear layer's non-zero weights alone are
            multiplied; 0 where the device has no such kernel.
        memories: At least one that may hold weights and one that may hold activations.
        arithmetics: The kinds of multiply-accumulate that it has.

    Example:
        >>> from laconic.cost import read_device
        >>> read_device("cortex-m7").arithmetic(8, 8).weight_bits
        8
    """

    name: str
    clock_hz: float
    active_watts: float
    seconds_per_operation: float
    sparse_macs_per_cycle: float
    memories: tuple[Memory, ...]
    arithmetics: tuple[Arithmetic, ...]

    def arithmetic(self, weight_bits: int, activation_bits: int) -> Arithmetic:
        """The narrowest arithmetic that holds both operands.

        Raises ``InputError`` when the device has none.
        """
        fitting = [
            a
            for a in self.arithmetics
            if a.weight_bits >= weight_bits and a.activation_bits >= activation_bits
        ]
        if not fitting:
            raise InputError(
                f"device {self.name!r} has no arithmetic for {weight_bits}-bit weights and "
                f"{activation_bits}-bit activations. Cure: fewer bits (activations in 8), "
                "or one more [[arithmetic]] in the device file"
            )
        return min(fitting, key=lambda a: (a.activation_bits, a.weight_bits))

    def home(self, content: Content) -> Memory:
        """The largest memory for weights (or activations): where they must fit."""
        return max((m for m in self.memories if m.may_hold(content)), key=lambda m: m.bytes)

    def nearest(self, content: Content, needed_bytes: int, beside: int) -> Memory:
        """The smallest memory that holds so many bytes, or the largest if none does.

        A memory that may hold both must hold what lies ``beside``, too.
        """
        fitting = [
            m
            for m in self.memories
            if m.may_hold(content) and m.bytes >= needed_bytes + (beside if m.holds == "both" else 0)
        ]
        return min(fitting, key=lambda m: m.bytes) if fitting else self.home(content)
