"""A golden file of codec 3: geometries, orders, a background, a dictionary, chunks, large magnitudes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from laconic.pack import Limits, decode, decode_rows, encode, layout, read
from laconic.pack.codecs import compiled
from laconic.pack.codecs.compiled import coder, mixing
from laconic.pack.codecs.integers import CHECKSUM_MASK, checksum, encode_integers
from laconic.pack.codecs.layouts import Trail
from laconic.pack.codecs.mix_search import is_mixable, unmixed_note
from laconic.pack.codecs.settings import Mix
from laconic.pack.codecs.symbols import StreamReader, StreamWriter
from laconic.pack.file.choose import Plan
from laconic.pack.file.chunks import encode_chunks
from laconic.pack.file.container import take_apart
from laconic.pack.file.tensors import read_tensors
from laconic.pack.wire.grids import Grids
from laconic.pack.wire.headers import Header, put_header
from laconic.pack.wire.names import put_names
from laconic.records import IntArray, IntTensor, PackedModel, UniformGrid
from laconic.records.tensors import extremes
from laconic.varint import Writer
from tests.helpers.plain_decoder import plain_decode
from tests.pack.chunked import framed
from tests.pack.strategies import assert_same

GOLDEN = Path(__file__).parent / "golden" / "mixed.lac"
STEP = UniformGrid(0.5)


class Case(NamedTuple):
    """A tensor, how it is coded, and the rows of its chunks (0: none). ``words``: its dictionary."""

    tensor: IntTensor
    mix: Mix
    geometry: int = 0
    rows: int = 0
    words: tuple[int, ...] = ()


def drawn(n: int, seed: int) -> IntArray:
    """Numbers 0..9999 of a linear congruential generator, so that no library's generator matters."""
    state, out = seed + 1, np.zeros(n, np.int32)
    for k in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[k] = (state >> 33) % 10_000
    return out


def levels(shape: tuple[int, ...], seed: int, shift: int) -> IntArray:
    """Integers whose sizes vary by row and column; the larger ``shift``, the more zeros."""
    q = drawn(int(np.prod(shape)), seed).reshape(shape[0], -1).astype(np.int64)
    sizes = (q % 97) * (1 + np.arange(len(q))[:, None] % 5) >> shift
    sizes[:, ::7] = 0
    return np.ascontiguousarray((np.where(q % 2 == 0, sizes, -sizes)).astype(np.int32).reshape(shape))


def cases() -> list[Case]:
    wide = levels((9, 14), 5, 0).astype(np.int64) ** 2 * 6
    wide[4, 3], wide[8, 9] = 2**21 - 1, -(2**21) + 1
    words = (-70_000, 0, 12, 50_000)
    tensors = {
        "conv.weight": (levels((12, 4, 3, 3), 1, 6), Mix(), 1),
        "maps.weight": (levels((10, 12 * 4), 2, 6), Mix(0, True), 2),
        "image.weight": (levels((6, 49), 3, 5), Mix(), 3),
        "dense.weight": (levels((20, 30), 4, 4) + 3, Mix(3, True), 0),
        "wide.weight": (wide.astype(np.int32), Mix(), 0),
        "line.weight": (levels((1, 40), 6, 4), Mix(), 0),
        "vector": (levels((1, 33), 7, 4).reshape(33), Mix(), 0),
        "empty.weight": (np.zeros((3, 5), np.int32), Mix(), 0),
    }
    found = [Case(IntTensor(name, q, STEP), mix, g) for name, (q, mix, g) in tensors.items()]
    indices = drawn(8 * 11, 8).reshape(8, 11) % 4
    found.append(Case(IntTensor("words", np.array(words, np.int32)[indices], STEP), Mix(1), 0, 0, words))
    found.append(Case(IntTensor("parts.weight", levels((200, 48), 9, 6), STEP), Mix(), 0, 100))
    return found


def written(every: list[Case]) -> bytes:
    """The file of these cases."""
    body, grids, trail, stream, total = Writer(), Grids(), Trail(), StreamWriter(coder()), 0
    body.raw(bytes([0, len(every), 0]))
    put_names(body, [case.tensor.name for case in every])
    for tensor, mix, geometry, rows, words in every:
        q = tensor.integers
        header = Header(q.shape, tensor.grid, mix, words, geometry)
        own = np.searchsorted(words, q).astype(np.int32) if words else q
        plan = Plan(header, own, None, 0.0, *extremes(q))
        if rows:
            header = header._replace(chunks=encode_chunks(plan, q, rows, 1))
        put_header(body, header, trail.rows, grids)
        if rows:
            trail = trail.after_chunks(q.shape)
            continue
        encode_integers(stream, plan, trail)
        total = checksum(q, plan.lowest, plan.highest, total)
        trail = trail.after(q, tensor.grid.zero)
    body.raw(stream.finish(total & CHECKSUM_MASK))
    return framed(bytes(body.data))


MADE = PackedModel(tuple(case.tensor for case in cases()))


def test_the_file_decodes_to_the_same_tensors() -> None:
    assert_same(read(GOLDEN), MADE)


def test_the_plain_decoder_reads_it() -> None:
    found, _ = plain_decode(GOLDEN.read_bytes())
    assert len(found) == len(MADE.tensors)
    for plain, tensor in zip(found, MADE.tensors, strict=True):
        assert isinstance(tensor, IntTensor)
        assert plain.integers == tensor.integers.reshape(-1).tolist()


def test_it_is_read_without_compiled_code() -> None:
    parts = take_apart(GOLDEN.read_bytes(), Limits())
    found = read_tensors(StreamReader(parts.stream), parts.headers, parts.names)
    for one, tensor in zip(found, MADE.tensors, strict=True):
        assert one.tensor.values().tobytes() == tensor.values().tobytes()


def test_writing_it_gives_the_same_bytes() -> None:
    assert written(cases()) == GOLDEN.read_bytes()


def test_python_writes_what_compiled_code_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mixing() is not None
    monkeypatch.setattr("laconic.pack.codecs.mixed.mixing", lambda: None)
    assert written(cases()) == GOLDEN.read_bytes()


def test_another_symbol_is_another_file() -> None:
    """The comparisons above can fail."""
    every = cases()
    changed = every[3].tensor.integers.copy()
    changed[2, 3] += 1
    every[3] = every[3]._replace(tensor=IntTensor("dense.weight", changed, STEP))
    assert written(every) != GOLDEN.read_bytes()


def test_inspect_names_the_codec() -> None:
    rows = {row.name: row for row in layout(GOLDEN.read_bytes()) if row.section == "tensor"}
    assert rows["conv.weight"].note.startswith("mixed, header")
    assert rows["parts.weight"].note.startswith("mixed in 2 chunks, header")
    assert sum(row.bytes for row in layout(GOLDEN.read_bytes())) == GOLDEN.stat().st_size


def test_rows_of_chunks_are_read_alone() -> None:
    tensor = MADE.tensors[-1]
    found = decode_rows(GOLDEN.read_bytes(), "parts.weight", 90, 110)
    assert np.array_equal(found.values(), tensor.values()[90:110])


def test_the_writer_takes_the_smallest_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that differ by row and column: mixing pays, and the writer's own file says so."""
    q = levels((60, 80), 3, 5)
    model = PackedModel((IntTensor("w", q, STEP),))
    small = encode(model)
    assert layout(small)[-2].note.startswith("mixed")
    assert np.array_equal(decode(small).tensors[0].values(), model.tensors[0].values())
    monkeypatch.setattr("laconic.pack.file.choose.is_mixable", lambda *given: False)
    assert len(small) < 0.97 * len(encode(model))


def test_what_was_not_compiled_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "laconic.pack.codecs._mixed", None)
    monkeypatch.delattr("laconic.pack.codecs._mixed")
    assert compiled.mixing() is None


def test_small_tensors_get_the_same_bytes_without_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    model = PackedModel((IntTensor("w", levels((60, 80), 3, 5), STEP),))
    wanted = encode(model)
    assert layout(wanted)[-2].note.startswith("mixed")
    for where in ("mixed", "mix_search"):
        monkeypatch.setattr(f"laconic.pack.codecs.{where}.mixing", lambda: None)
    assert encode(model) == wanted


def test_a_note_says_what_missing_compiled_code_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(128, 128), (129, 128), (1 << 20,), (2048, 1024)]
    assert unmixed_note(shapes) == []
    monkeypatch.setattr("laconic.pack.codecs.mix_search.mixing", lambda: None)
    assert unmixed_note(shapes[:1]) == []
    (note,) = unmixed_note(shapes)
    assert note.startswith("1 weight of more than 16384 entries") and "Cure: a wheel" in note
    q = np.zeros((129, 128), np.int64)
    assert not is_mixable(q, q.shape) and is_mixable(q[:128], (128, 128))


def test_where_mixing_pays_the_adaptive_model_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    q = levels((90, 80), 3, 5)
    wanted = encode(PackedModel((IntTensor("w", q, STEP),)))

    def refused(*given: object) -> None:
        raise RuntimeError("searched")

    monkeypatch.setattr("laconic.pack.file.choose.best_settings", refused)
    assert encode(PackedModel((IntTensor("w", q, STEP),))) == wanted
    noise = (drawn(90 * 80, 9) % 9).astype(np.int32).reshape(90, 80)
    with pytest.raises(RuntimeError, match="searched"):  # nothing to learn: mixing is no shorter
        encode(PackedModel((IntTensor("w", noise, STEP),)))
