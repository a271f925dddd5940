"""Arguments of the kernels' calls: random numbers, and wrong values of every kind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fuzz.sanitized import Rng

SPECIAL = (np.inf, -np.inf, np.nan, 1e-45, -1e-40, 1.2e-38, 0.0, -0.0, 3.4e38, -3.4e38, 1e30)


def reals(rng: Rng, *shape: int) -> Any:
    """Float32 numbers; one array in four has special values among them."""
    x = rng.standard_normal(shape).astype(np.float32)
    if rng.random() < 0.25 and x.size:
        places = rng.integers(0, x.size, int(rng.integers(1, 4)))
        x.reshape(-1)[places] = rng.choice(SPECIAL, len(places))
    return x


def strided(x: Any) -> Any:
    """The same numbers with gaps between them."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]) if x.ndim else (2,), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def read_only(x: Any) -> Any:
    """The same numbers where nothing may be written."""
    return np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape)


def misplaced(x: Any) -> Any:
    """The same bytes at an address that is not aligned for float32."""
    return np.frombuffer(bytearray(b"\0" + x.tobytes()), np.uint8)[1:]


def wrong(rng: Rng, value: Any) -> Any:
    """A wrong value for an argument."""
    if isinstance(value, np.ndarray) and rng.random() < 0.85:
        changes: list[Callable[[Any], Any]] = [
            strided,
            read_only,
            lambda v: v.astype(np.float64),
            lambda v: v.astype(">f4"),
            lambda v: v.astype(np.int32).reshape(-1)[:-1],
            misplaced,
            lambda v: misplaced(v).view(v.dtype).reshape(v.shape),
            lambda v: np.resize(v, v.size + 1),
            lambda v: v.reshape(-1)[: v.size // 2],
            lambda v: v[None],
            lambda v: v.reshape(-1),
            lambda v: v.tobytes(),
        ]  # fmt: skip
        with np.errstate(all="ignore"):
            return changes[int(rng.integers(len(changes)))](value)
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.8:
        return int(rng.choice([-1, 0, 1, value + 1, 2 * value + 3, 2**16, 2**31 - 1, 2**31, 2**62, -(2**62)]))
    junk = [None, "text", 1.5, [], object(), 2**70, b"", np.zeros(0, np.float32), sys]
    return junk[int(rng.integers(len(junk)))]


def spoiled(rng: Rng, arguments: list[Any]) -> list[Any]:
    """The arguments; one call in four has a wrong one."""
    if rng.random() < 0.25:
        at = int(rng.integers(len(arguments)))
        arguments = [*arguments[:at], wrong(rng, arguments[at]), *arguments[at + 1 :]]
    return arguments if rng.random() < 0.995 else arguments[:-1]
