"""What a reader is willing to allocate for a file that it does not trust."""

from __future__ import annotations

from dataclasses import dataclass

from laconic.errors import LimitError


@dataclass(frozen=True)
class Limits:
    """Caps that are checked against a file's claims before anything is allocated.

    ``elements``: entries of all tensors together. ``decoded_bytes``: their bytes in memory.
    ``constants``: entries of tensors whose entries are all equal, which take no bits in the file.
    Integers beyond 2,048 per byte of the symbol stream count as such. ``tensors``: tensors and aliases.
    ``name_bytes``: their names together. ``lines``: rows and columns of all adaptively coded tensors, each
    of which costs a step. Raise them for larger networks:

    >>> Limits(elements=2**33, decoded_bytes=2**36).elements
    8589934592
    """

    elements: int = 2**31
    decoded_bytes: int = 2**33
    constants: int = 2**26
    tensors: int = 2**16
    name_bytes: int = 2**24
    lines: int = 2**21

    def check(self, what: str, claimed: int, allowed: int) -> None:
        """Raise ``LimitError`` when a file claims more than is allowed."""
        if claimed > allowed:
            raise LimitError(
                f"the file claims {claimed} {what}, the limit is {allowed}. "
                "Cure: if the file is trusted, pass larger laconic.pack.Limits"
            )


DEFAULT = Limits()
