"""What a device is, as far as cost goes: clock, memories, rates and prices of arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from laconic.errors import InputError

Content = Literal["weights", "activations", "both"]


@dataclass(frozen=True)
class Memory:
    """One memory: what it may hold, its size in bytes, its rate, its price a byte in femtojoules."""

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
    """One kind of multiply-accumulate: the operands that it takes, its rate and its price."""

    name: str
    weight_bits: int
    activation_bits: int
    macs_per_cycle: float
    fj_per_mac: int


@dataclass(frozen=True)
class Device:
    """A device file, read and checked (see :func:`laconic.cost.read_device`).

    ``sparse_macs_per_cycle`` is the rate at which a linear layer's non-zeros can be taken alone; 0: the
    device has no such kernel. ``seconds_per_operation`` is what each call of a kernel costs beside its work.
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
