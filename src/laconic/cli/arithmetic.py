"""Names of arithmetics become networks here, for ``laconic verify --arithmetic``. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from laconic.errors import InputError
from laconic.pack import Limits
from laconic.runtime import Arithmetic, Emulator, Int8, Int16x8, Network, Ternary, emulate, load

EMULATED: Mapping[str, Callable[[], Arithmetic]] = {
    "int8": Int8,
    "int8-single": lambda: Int8(single_rounding=True),
    "int16": Int16x8,
    "ternary": Ternary,
    "ternary-int16": lambda: Ternary(Int16x8()),
}
NAMES = ("fp32", *EMULATED)


def limits_of(trusted: bool) -> Limits:
    """What a file may take: the default limits, or none for one that the user trusts (``--trusted``)."""
    return Limits.trusted() if trusted else Limits()


def network_in(path: str | os.PathLike[str], name: str | None, trusted: bool = False) -> Network | Emulator:
    """A file as the runtime runs it (no name), in float32, or emulated in a device's integer arithmetic."""
    limits = limits_of(trusted)
    if name is None or name == "fp32":
        return load(path, precision="auto" if name is None else "fp32", limits=limits)
    if name not in EMULATED:
        raise InputError(f"no arithmetic is called {name!r}. Cure: one of {', '.join(NAMES)}")
    return emulate(path, EMULATED[name](), limits=limits)


def says(net: Network | Emulator, name: str) -> str:
    """What was emulated and what was not, in words."""
    if not isinstance(net, Emulator):
        return f"arithmetic: {name}, as the runtime computes it"
    lines = [f"arithmetic: {name}, emulated bit for bit"]
    lines.append(f"in float32: {', '.join(net.float_steps)}" if net.float_steps else "in float32: nothing")
    if net.multiplied:
        lines.append(f"not ternary, so multiplied: {', '.join(net.multiplied)}")
    return "\n".join(lines)
