"""What this machine's processor does to int8 products."""

from __future__ import annotations

import platform
from pathlib import Path

_X86 = ("x86_64", "amd64", "i386", "i686")


def int8_saturates(machine: str | None = None, flags: str | None = None) -> bool:
    """Whether uint8 x int8 products may saturate in 16 bits: x86 processors without VNNI instructions.

    ``machine`` and ``flags`` stand for this machine's own, as ``platform.machine`` and ``/proc/cpuinfo`` tell
    them. Where nothing tells, an x86 processor is taken to be an old one.

    >>> int8_saturates("x86_64", "fpu avx2"), int8_saturates("x86_64", "fpu avx512_vnni")
    (True, False)
    >>> int8_saturates("aarch64")
    False
    """
    if (machine or platform.machine()).lower() not in _X86:
        return False
    return "vnni" not in (_own_flags() if flags is None else flags)


def _own_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")
