"""Grids in a tensor's header: written in full, or that of an earlier tensor (FORMAT.md, "Grids")."""

from __future__ import annotations

import struct

from laconic.errors import CorruptFileError, TruncatedFileError
from laconic.pack.wire.steps import CodedSteps, coded_steps, get_steps
from laconic.records import Codebook, Grid, UniformGrid
from laconic.records.limits import Limits
from laconic.varint import Reader, Writer, fits_bfloat16, get_float, put_float

SHORT_FLOATS, CODEBOOK, PER_CHANNEL, SHARED = 4, 8, 64, 128
"""Bits of a header's first byte for the form of its grid."""
CODED = SHARED | PER_CHANNEL
"""Steps by channel, entropy-coded."""


class Grids:
    """The grids that headers have written in full, in order, so that later headers can refer to them."""

    def __init__(self) -> None:
        self._all: list[Grid] = []
        self._places: dict[tuple[object, ...], int] = {}

    def add(self, grid: Grid) -> None:
        """Add a grid that was written in full."""
        self._places[_bits_of(grid)] = len(self._all)
        self._all.append(grid)

    def distance(self, grid: Grid) -> int | None:
        """How many grids were written in full after this one; None for one that was not."""
        place = self._places.get(_bits_of(grid))
        return None if place is None else len(self._all) - 1 - place

    def at(self, distance: int) -> Grid:
        """The grid of :meth:`distance`. Raises ``CorruptFileError`` where there is none."""
        if distance >= len(self._all):
            raise CorruptFileError(f"a tensor takes a grid {distance + 1} back, {len(self._all)} came before")
        return self._all[-1 - distance]


def _bits_of(grid: Grid) -> tuple[object, ...]:
    """A key that tells grids apart bit for bit (0.0 and -0.0 are equal floats)."""
    sizes = tuple(map(len, grid.books)) if isinstance(grid, Codebook) else ()
    return type(grid), grid.axis, sizes, struct.pack(f"<{len(grid.numbers)}f", *grid.numbers)


def grid_bits(grid: Grid, grids: Grids) -> int:
    """The bits of the first byte for the shorter form."""
    distance, coded = grids.distance(grid), _coded(grid)
    least = min(spelled_bytes(grid), spelled_bytes(grid) if coded is None else coded.size)
    if distance is not None and _varint_bytes(distance) < least:
        return SHARED
    if coded is not None and least < spelled_bytes(grid):
        return CODED
    head = isinstance(grid, Codebook) * CODEBOOK | (grid.axis is not None) * PER_CHANNEL
    return head | _is_short(grid) * SHORT_FLOATS


def put_grid(out: Writer, grid: Grid, bits: int, grids: Grids) -> None:
    """Write a grid as :func:`grid_bits` says."""
    if bits == SHARED:
        out.varint(grids.distance(grid) or 0)
        return
    if grid.axis is not None:
        out.varint(grid.axis)
    coded = _coded(grid) if bits == CODED else None
    if coded is not None:
        coded.put(out)
        grids.add(grid)
        return
    short = bool(bits & SHORT_FLOATS)
    for book in grid.books if isinstance(grid, Codebook) else (grid.numbers,):
        if bits & CODEBOOK:
            out.varint(len(book))
        for number in book:
            put_float(out, number, short)
    grids.add(grid)


def get_grid(source: Reader, bits: int, shape: tuple[int, ...], limits: Limits, grids: Grids) -> Grid:
    """The grid of a tensor of this shape; one that is written in full is added to ``grids``."""
    if bits & SHARED and bits & (SHORT_FLOATS | CODEBOOK):
        raise CorruptFileError("a tensor both takes an earlier grid and describes its own")
    if bits == SHARED:
        grid = grids.at(source.varint())
    elif bits == CODED:
        axis, channels = _channels(source, shape, limits)
        grid = UniformGrid(get_steps(source, channels), axis)
        grids.add(grid)
    else:
        grid = _spelled(source, bits, shape, limits)
        if _is_short(grid) != bool(bits & SHORT_FLOATS):
            raise CorruptFileError("a grid is not in its shortest form")
        grids.add(grid)
    why = grid.unfit(shape)
    if why is not None:
        raise CorruptFileError(f"a tensor of shape {shape} does not fit its grid: {why}")
    return grid


def _spelled(source: Reader, bits: int, shape: tuple[int, ...], limits: Limits) -> Grid:
    short, axis, channels = bool(bits & SHORT_FLOATS), None, 1
    if bits & PER_CHANNEL:
        axis, channels = _channels(source, shape, limits)
        if 2 * channels > source.left:
            raise TruncatedFileError(f"a grid of {channels} channels is claimed in {source.left} bytes")
    if bits & CODEBOOK:
        books = tuple(_levels(source, short) for _ in range(channels))
        return Codebook(books if axis is not None else books[0], axis)
    steps = tuple(get_float(source, short) for _ in range(channels))
    for step in steps:
        if step <= 0:
            raise CorruptFileError(f"a grid step is {step}")
    return UniformGrid(steps if axis is not None else steps[0], axis)


def _channels(source: Reader, shape: tuple[int, ...], limits: Limits) -> tuple[int, int]:
    """The axis that has channels, and how many."""
    axis = source.varint()
    if axis >= len(shape):
        raise CorruptFileError(f"a grid has channels along axis {axis} of {len(shape)} dimensions")
    limits.check("channels of a grid", shape[axis], limits.levels)
    return axis, shape[axis]


def _coded(grid: Grid) -> CodedSteps | None:
    """The short form of steps by channel; None for other grids."""
    return coded_steps(grid.numbers) if isinstance(grid, UniformGrid) and grid.axis is not None else None


def _levels(source: Reader, short: bool) -> tuple[float, ...]:
    levels = tuple(get_float(source, short) for _ in range(source.count("levels")))
    if not levels or any(a >= b for a, b in zip(levels, levels[1:], strict=False)):
        raise CorruptFileError("codebook levels are not strictly increasing")
    return levels


def spelled_bytes(grid: Grid) -> int:
    """Bytes that the numbers of a grid take."""
    return len(grid.numbers) * (2 if _is_short(grid) else 4)


def _is_short(grid: Grid) -> bool:
    return all(map(fits_bfloat16, grid.numbers))


def _varint_bytes(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))
