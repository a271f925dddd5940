"""Golden files of a checkpoint's kinds: exact and rounded elements, and a file that needs a parent.

Never regenerate one: add a new one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.pack.wire.notes import Notes, Parent
from laconic.records import AnyArray, IntTensor, RawTensor, Tensor, UniformGrid
from laconic.records.children import ExactDifference, SameTensor, ShiftedTensor, differences
from laconic.records.element_types import ELEMENT_TYPES, ByteArray, element_type
from laconic.records.typed import ExactTensor, RoundedTensor, elements_of
from tests.helpers.plain_decoder import plain_decode

GOLDEN = Path(__file__).parent / "golden"
PARENT, CHILD = GOLDEN / "checkpoint.lac", GOLDEN / "checkpoint_child.lac"


def drawn(n: int, seed: int) -> AnyArray:
    """Numbers 0..65535 of a linear congruential generator."""
    out, state = [], seed
    for _ in range(n):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(state >> 15)
    return np.array(out, np.int64)


def _bytes(n: int, seed: int) -> ByteArray:
    return (drawn(n, seed) >> 8).astype(np.uint8)


def _bell(n: int, seed: int) -> AnyArray:
    """About normal, of deviation about 0.02, as float32."""
    return ((drawn(4 * n, seed).reshape(n, 4).sum(1) - 131_072) * 2.0**-21).astype(np.float32)


def _integers(shape: tuple[int, ...], seed: int) -> AnyArray:
    return np.rint(_bell(int(np.prod(shape)), seed) * 100).astype(np.int32).reshape(shape)


WEIGHT = _bell(6000, 1)
CHANGE = np.where(drawn(3200, 5) < 3000, 1, 0).astype(np.int32).reshape(40, 80)
SOME = np.float32([1.5, -0.0, np.nan, np.inf, 65520.0, -1e38, 3.0000002, 1.00390625, 1.01171875])
OLD: tuple[Tensor, ...] = (
    *(ExactTensor(kind.name, (3,), kind.name, _bytes(3 * kind.bytes, 9)) for kind in ELEMENT_TYPES),
    ExactTensor("exact.weight", (60, 100), "float32", WEIGHT.view(np.uint8)),
    ExactTensor("exact.two", (5000,), "float16", WEIGHT[:5000].astype(np.float16).view(np.uint8)),
    ExactTensor("exact.none", (0, 7), "complex64", np.zeros(0, np.uint8)),
    ExactTensor("exact.point", (), "bool", np.ones(1, np.uint8)),
    RoundedTensor("rounded.bf16", IntTensor("", _integers((40, 80), 2), UniformGrid(0.0625)), "bfloat16"),
    RoundedTensor(
        "rounded.rows",
        IntTensor("", _integers((4, 30), 3), UniformGrid((0.5, 0.25, 0.10000000149011612, 2.0), 0)),
        "float16",
    ),
    RoundedTensor("rounded.half", RawTensor("", np.float16([1.5, -2.0])), "float32"),
    RoundedTensor("rounded.raw", RawTensor("", SOME), "bfloat16"),
    RoundedTensor("rounded.raw16", RawTensor("", SOME), "float16"),
    RoundedTensor("rounded.raw64", RawTensor("", SOME), "float64"),
    IntTensor("plain.weight", _integers((40, 80), 4), UniformGrid(0.5)),
)
MOVED = (WEIGHT * np.float32(1.0001)).view(np.uint8)
NEW: tuple[Tensor, ...] = (
    SameTensor("bfloat16", (3,), "bfloat16", "bfloat16"),
    SameTensor("renamed", (3,), "int64", "tied"),
    ShiftedTensor(
        "rounded.bf16", (40, 80), "bfloat16", "rounded.bf16", IntTensor("", CHANGE, UniformGrid(1.0))
    ),
    ShiftedTensor(
        "plain.weight", (40, 80), "float32", "plain.weight", IntTensor("", -CHANGE, UniformGrid(1.0))
    ),
    ExactDifference(
        "exact.weight",
        (60, 100),
        "float32",
        "exact.weight",
        differences(MOVED, WEIGHT.view(np.uint8), element_type("float32")),
    ),
    ExactTensor("fresh", (2,), "int8", np.array([1, 255], np.uint8)),
)


def test_the_files_decode_to_the_same_tensors() -> None:
    file = pack.open(PARENT)
    assert file.metadata == {"format": "pt", "made by": "hand"}
    for tensor in OLD:
        found = file.tensor(tensor.name)
        assert (found.shape, found.dtype) == (tensor.shape, tensor.dtype) == file.info(tensor.name)[:2]
        assert np.array_equal(elements_of(found), elements_of(tensor))
    child = pack.open(CHILD, parent=PARENT)
    for tensor in NEW:
        found = child.tensor(tensor.name)
        assert (found.shape, found.dtype) == (tensor.shape, tensor.dtype) == child.info(tensor.name)[:2]
    assert np.array_equal(elements_of(child.tensor("exact.weight")), MOVED)
    assert np.array_equal(child["plain.weight"], (_integers((40, 80), 4) - CHANGE) * np.float32(0.5))


def test_the_plain_decoder_reads_them() -> None:
    parent = PARENT.read_bytes()
    for data, file in ((parent, pack.open(PARENT)), (CHILD.read_bytes(), pack.open(CHILD, parent=PARENT))):
        found, aliases = plain_decode(data, parent)
        assert aliases == file.aliases
        for plain in found:
            tensor = file.tensor(plain.name)
            assert plain.shape == tensor.shape
            assert ELEMENT_TYPES[plain.type].name == tensor.dtype
            assert plain.data == elements_of(tensor).tobytes(), plain.name


def test_writing_them_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are older than codec 3."""
    monkeypatch.setattr("laconic.pack.file.choose.is_mixable", lambda *given: False)
    write_both(tmp_path)
    assert (tmp_path / PARENT.name).read_bytes() == PARENT.read_bytes()
    assert (tmp_path / CHILD.name).read_bytes() == CHILD.read_bytes()


def write_both(folder: Path) -> None:
    with pack.writing(folder / PARENT.name) as file:
        for tensor in OLD:
            file.add(tensor)
        file.aliases = {"tied": "int64"}
        file.notes = Notes(None, (("format", "pt"), ("made by", "hand")))
    with pack.writing(folder / CHILD.name) as file:
        for tensor in NEW:
            file.add(tensor)
        file.notes = Notes(Parent(pack.open(folder / PARENT.name).digest(), PARENT.name))
