"""Names of arithmetics become networks here, for ``laconic verify --arithmetic``. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from laconic.cli.trust import limits_of
from laconic.errors import InputError, at
from laconic.runtime import Arithmetic, Emulator, Int8, Int16x8, Network, Ternary, emulate, load
from laconic.runtime.reading import read_model

EMULATED: Mapping[str, Callable[[], Arithmetic]] = {
    "int8": Int8,
    "int8-single": lambda: Int8(single_rounding=True),
    "int16": Int16x8,
    "ternary": Ternary,
    "ternary-int16": lambda: Ternary(Int16x8()),
}
NAMES = ("fp32", *EMULATED)


def network_in(path: str | os.PathLike[str], name: str | None, trusted: bool = False) -> Network | Emulator:
    """A file as it says (no name), in float32, or emulated in a device's integer arithmetic.

    A calibrated file says int8, also where ``load`` would take float32 for its speed: a score must not
    depend on the machine's.
    """
    limits = limits_of(trusted)
    if name is None:
        with at(f"reading {os.fspath(path)!r}"):
            model = read_model(Path(path).read_bytes(), limits)
        return Network.from_packed(model, limits=limits)
    if name == "fp32":
        return load(path, precision="fp32", limits=limits)
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
