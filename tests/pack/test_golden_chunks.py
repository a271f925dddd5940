"""A golden file of tensors in chunks: both codecs, every grid, a dictionary. Never regenerate it: add one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic.pack import decode, decode_rows, layout, read
from laconic.pack.wire import grids
from laconic.records import Codebook, Grid, IntArray, IntTensor, PackedModel, UniformGrid
from tests.helpers.plain_decoder import plain_decode
from tests.pack.chunked import chunked_file
from tests.pack.strategies import assert_same

GOLDEN = Path(__file__).parent / "golden" / "chunks.lac"
STEPS = tuple(0.25 * (k % 3 + 1) for k in range(32))
ROWS = {"static.weight": 128, "sparse.weight": 32, "words": 4100}
"""Rows of a chunk; the other tensors are in the file's own stream."""


def _numbers(n: int, seed: int) -> IntArray:
    """Numbers 0..9999 of a linear congruential generator."""
    state, out = seed, []
    for _ in range(n):
        state = (state * 1103515245 + 12345) % 2**31
        out.append((state >> 12) % 10_000)
    return np.array(out, np.int32)


def _tensor(name: str, shape: tuple[int, ...], levels: list[tuple[int, int]], grid: Grid) -> IntTensor:
    """Integers of a tensor: for each (integer, share out of 10 000), the first is what is left over."""
    drawn = _numbers(int(np.prod(shape)), len(name)).reshape(shape)
    integers, start = np.full(shape, levels[0][0], np.int32), 0
    for integer, share in levels[1:]:
        integers[(drawn >= start) & (drawn < start + share)] = integer
        start += share
    if name == "sparse.weight":
        integers[::4] = levels[0][0]
    if name == "next.weight":  # whose columns read sparse.weight's rows
        integers[:, 16:] = 0
    return IntTensor(name, integers, grid)


MADE = PackedModel(
    (
        _tensor("static.weight", (300, 32), [(0, 0), (1, 3000), (-1, 3000), (2, 900)], UniformGrid(STEPS, 1)),
        _tensor("static.bias", (300,), [(3, 0), (-2, 4000)], UniformGrid(0.5)),
        _tensor(
            "sparse.weight",
            (64, 16, 3, 3),
            [(1, 0), (0, 200), (2, 300), (3, 40)],
            Codebook((-1.0, 0.0, 0.5, 3.0)),
        ),
        _tensor("next.weight", (40, 64), [(0, 0), (1, 300), (-4, 300)], UniformGrid(0.5)),
        _tensor("words", (8500,), [(0, 0), (-70_000, 900), (50_000, 900), (2**20, 90)], UniformGrid(1.0)),
    )
)


def test_the_file_decodes_to_the_same_tensors() -> None:
    assert_same(read(GOLDEN), MADE)


def test_the_number_of_threads_changes_nothing() -> None:
    for threads in (1, 2, 7):
        assert_same(decode(GOLDEN.read_bytes(), threads=threads), MADE)


def test_the_plain_decoder_reads_it() -> None:
    found, _ = plain_decode(GOLDEN.read_bytes())
    for plain, tensor in zip(found, MADE.tensors, strict=True):
        assert isinstance(tensor, IntTensor)
        assert plain.integers == tensor.integers.reshape(-1).tolist()
        assert np.array(plain.values, np.float32).tobytes() == tensor.values().tobytes()


def test_rows_are_those_of_the_whole() -> None:
    data = GOLDEN.read_bytes()
    for tensor in MADE.tensors:
        for first, last in ((0, 1), (10, 20), (0, tensor.shape[0]), (tensor.shape[0] - 1, tensor.shape[0])):
            found = decode_rows(data, tensor.name, first, last)
            assert found.values().tobytes() == tensor.values()[first:last].tobytes()


@pytest.mark.usefixtures("without_mixing")
def test_writing_it_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "coded_steps", lambda steps: None)  # the file has them in full
    made = [(tensor, ROWS.get(tensor.name, 0)) for tensor in MADE.tensors if isinstance(tensor, IntTensor)]
    assert chunked_file(made) == GOLDEN.read_bytes()


def test_inspect_names_chunks_and_both_codecs() -> None:
    rows = {row.name: row for row in layout(GOLDEN.read_bytes()) if row.section == "tensor"}
    assert sum(row.bytes for row in layout(GOLDEN.read_bytes())) == len(GOLDEN.read_bytes())
    assert rows["static.weight"].note.startswith("static in 3 chunks, header")
    assert rows["sparse.weight"].note.startswith("adaptive in 2 chunks, header")
    assert rows["words"].note.startswith("static in 3 chunks, header")
    assert rows["next.weight"].note.startswith("adaptive, header")
