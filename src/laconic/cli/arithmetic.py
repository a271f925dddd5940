"""``laconic verify --arithmetic``: a file's network in an arithmetic that is given by name. No torch."""

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
    """A file's network: in float32, or emulated in a device's integer arithmetic.

    Without a name a calibrated file runs in int8, also where ``load`` would choose float32 because it is
    faster: a score must not depend on the machine's speed.
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
    """Text that lists what was emulated and what ran in float32."""
    if not isinstance(net, Emulator):
        return f"arithmetic: {name}, as the runtime computes it"
    lines = [f"arithmetic: {name}, emulated bit for bit"]
    lines.append(f"in float32: {', '.join(net.float_steps)}" if net.float_steps else "in float32: nothing")
    if net.multiplied:
        lines.append(f"not ternary, so multiplied: {', '.join(net.multiplied)}")
    return "\n".join(lines)
