"""Limits on what an untrusted file may claim, and on the memory and work that a reader spends on it."""

from __future__ import annotations

from dataclasses import fields

from laconic.errors import LimitError
from laconic.records.base import Record, record

_UNBOUNDED = 2**62


@record
class Limits(Record):
    """Limits that a file's claims are checked against before anything is allocated.

    Memory and work are upper bounds, computed before anything is decoded or run. A small file of a large
    network needs more memory than the default: raise that limit. Lift all limits for a trusted file:

    Args:
        elements: Entries of all tensors together, and of one value of the graph.
        decoded_bytes: Bytes of all tensors in memory.
        constants: Entries of tensors whose entries are all equal, which take no bits in the file. Integers
            beyond 2,048 per byte of the symbol stream and the chunks count as such.
        tensors: Tensors and aliases.
        name_bytes: Bytes of all names, the paths of modules included.
        lines: Rows and columns of all tensors of the adaptive codec.
        levels: Levels of codebooks and values of dictionaries together.
        nodes: Inputs, nodes and outputs of the graph together.
        memory: Bytes that loading may take whatever the length of the file.
        memory_per_byte: Bytes that it may take in addition for each byte of the file.
        work: Steps of about a nanosecond that loading may take.
        call_memory: Bytes that one call of the network may take.
        call_work: Steps of about a nanosecond that one emulated call may take (``laconic.runtime.emulate``).
        seconds: Seconds of loading, or of a call, in a process of its own (``load(..., isolated=True)``).

    >>> Limits(memory=2**30).allowed_memory(file_bytes=1000), Limits.trusted().memory > 2**60
    (1073757824, True)
    """

    elements: int = 2**31
    decoded_bytes: int = 2**33
    constants: int = 2**26
    tensors: int = 2**15
    name_bytes: int = 2**22
    lines: int = 2**21
    levels: int = 2**20
    nodes: int = 2**16
    memory: int = 2**26
    memory_per_byte: int = 16
    work: int = 2**30
    call_memory: int = 2**32
    call_work: int = 2**37
    seconds: float = 60.0

    @classmethod
    def trusted(cls) -> Limits:
        """No limits: for files whose writer you trust."""
        return cls(**{field.name: _UNBOUNDED for field in fields(cls)})

    def check(self, what: str, claimed: int, allowed: int) -> None:
        """Raise ``LimitError`` when a file claims more than is allowed."""
        if claimed > allowed:
            raise LimitError(
                f"the file claims {claimed} {what}, the limit is {allowed}. "
                "Cure: if the file is trusted, pass larger laconic.pack.Limits"
            )

    def allowed_memory(self, file_bytes: int) -> int:
        """Bytes that loading a file of this length may take."""
        return self.memory + self.memory_per_byte * file_bytes

    def check_load(self, memory: int, work: int, file_bytes: int) -> None:
        """Raise ``LimitError`` when loading takes more than is allowed, saying how to allow it."""
        allowed = self.allowed_memory(file_bytes)
        if memory > allowed:
            raise LimitError(
                f"loading takes up to {memory} bytes of memory, the limit for {file_bytes} bytes of file is "
                f"{allowed}. Cure: if you trust the file, limits=laconic.pack.Limits(memory={memory}), or "
                "Limits.trusted(); --trusted at the command line"
            )
        if work > self.work:
            raise LimitError(
                f"loading takes up to {work} steps of about a nanosecond, the limit is {self.work}. "
                f"Cure: if you trust the file, limits=laconic.pack.Limits(work={work}), or Limits.trusted(); "
                "--trusted at the command line"
            )

    def check_call(self, memory: int, work: int = 0) -> None:
        """Raise ``LimitError`` when a call takes more than is allowed, saying how to allow it."""
        if memory > self.call_memory:
            raise LimitError(
                f"the call takes up to {memory} bytes of memory, the limit is {self.call_memory}. "
                f"Cure: fewer samples a call, or load with limits=laconic.pack.Limits(call_memory={memory})"
            )
        if work > self.call_work:
            raise LimitError(
                f"the call takes up to {work} steps of about a nanosecond, the limit is {self.call_work}. "
                "Cure: fewer samples a call, or, if you trust the file, limits=laconic.pack.Limits("
                f"call_work={work}) or Limits.trusted(); --trusted at the command line"
            )


DEFAULT = Limits()
