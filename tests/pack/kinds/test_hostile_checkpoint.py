"""Hostile notes, types, chunks and planes behind right checksums: each is a named error of the tensor."""

from __future__ import annotations

import math
import tracemalloc
import zlib
from pathlib import Path

import pytest

from laconic import pack
from laconic.errors import FileFormatError, InputError, LimitError
from laconic.pack import DEFAULT, decode
from laconic.pack.codecs.symbols import StreamWriter
from tests.pack.chunked import framed
from tests.pack.kinds.test_hostile_kinds import constant, file_of, floats, raw, shape, varints

HUGE = 2**40
INT8, F32, BF16, BOOL = 6, 0, 9, 8
EMPTY = StreamWriter().finish(0)


def chunk(*planes: bytes, elements: bytes) -> bytes:
    return b"".join(planes) + zlib.crc32(elements).to_bytes(4, "little")


def exact(dims: bytes, kind: int, entries: int, *chunks: bytes, lengths: tuple[int, ...] = ()) -> bytes:
    table = varints(entries, *(lengths or map(len, chunks)))
    return bytes([3 | 4 << 2]) + dims + bytes([kind]) + table + b"".join(chunks)


def plane(lowest: int, *counts: int, stream: bytes = EMPTY) -> bytes:
    return bytes([2, lowest, len(counts) - 1]) + varints(*counts, len(stream)) + stream


ZEROS = chunk(b"\1\0", elements=bytes(4))
ROUND, SAME, SHIFT, DIFFERENCE = (bytes([3 | code << 2]) for code in (5, 6, 7, 8))

REFUSED: dict[str, tuple[bytes, str]] = {
    "no such type": (exact(shape(4), 20, 4, ZEROS), "element type has code 20"),
    "chunks of nothing": (exact(shape(4), INT8, 0, ZEROS), "chunks of 0"),
    "chunks of more than there is": (exact(shape(4), INT8, 5, ZEROS), "chunks of 5"),
    "chunks that are too small": (exact(shape(5000), INT8, 4095, ZEROS, ZEROS), "chunks of 4095"),
    "a chunk that leaves the file": (
        exact(shape(4), INT8, 4, ZEROS, lengths=(90,)), "chunk 0 of 1 is missing"
    ),
    "a chunk of no bytes": (exact(shape(4), INT8, 4, ZEROS, lengths=(5,)), "chunk 0 has 5 bytes"),
    "more chunks than bytes": (exact(shape(2**30), INT8, 4096, ZEROS), "262144 chunks are claimed"),
    "huge dimension": (exact(shape(HUGE), INT8, HUGE, ZEROS), "elements in one tensor"),
    "elements beyond memory": (exact(shape(2**26), 16, 2**26, ZEROS), "memory|almost no"),
    "a huge dimension beside an empty one": (exact(shape(0, HUGE), INT8, 1), "elements"),
    "no such mode": (
        exact(shape(4), INT8, 4, chunk(b"\3\0", elements=bytes(4))), "chunk 0: no plane has mode 3"
    ),
    "a raw plane that ends early": (
        exact(shape(9), INT8, 9, chunk(b"\0abcd", elements=b"")), "chunk 0: it ends"
    ),
    "bytes after the planes": (
        exact(shape(4), INT8, 4, chunk(b"\1\0\0", elements=bytes(4))), "follow the planes"
    ),
    "a wrong checksum": (exact(shape(4), INT8, 4, chunk(b"\1\0", elements=bytes(5))), "chunk 0: .*damaged"),
    "no count": (exact(shape(4), INT8, 4, chunk(plane(0, 0, 0), elements=b"")), "add up to 0"),
    "one class": (exact(shape(4), INT8, 4, chunk(plane(0, 5), elements=b"")), "has 1 values"),
    "classes beyond a byte": (
        exact(shape(4), INT8, 4, chunk(plane(255, 1, 1), elements=b"")), "2 values from 255"
    ),
    "counts beyond 2^17": (exact(shape(4), INT8, 4, chunk(plane(0, 2**17, 1), elements=b"")), "131073"),
    "counts beyond 64 bits": (
        exact(shape(4), INT8, 4, chunk(plane(0, *[2**63] * 3), elements=b"")), "add up"
    ),
    "counts that end with 0": (exact(shape(4), INT8, 4, chunk(plane(0, 1, 0), elements=b"")), "end with 0"),
    "a stream that is empty": (
        exact(shape(4), INT8, 4, chunk(plane(0, 1, 1, stream=b""), elements=b"")), "stream is empty"
    ),
    "a stream that ends early": (
        exact(shape(400), INT8, 400, chunk(plane(0, 1, 1), elements=b"")), "stream ends"
    ),
    "a stream with symbols left": (
        exact(shape(1), INT8, 1, chunk(plane(0, 1, 1, stream=b"abcdefgh1234"), elements=b"")), "checksum"
    ),
    "a stream beyond its chunk": (
        exact(shape(4), INT8, 4, chunk(bytes([2, 0, 1, 1, 1, 120]), elements=b"")), "bytes of a plane"
    ),
    "rounded to bool": (ROUND + shape(2) + bytes([BOOL]) + raw([1, 2]), "rounded to bool"),
    "rounded to another shape": (ROUND + shape(2, 1) + bytes([BF16]) + raw([1, 2]), "rounded to shape"),
    "rounded bytes": (ROUND + shape(1) + bytes([BF16, 0, 7, 1, 1, 9]), "what is rounded"),
    "rounded exact elements": (
        ROUND + shape(4) + bytes([BF16]) + exact(shape(4), INT8, 4, ZEROS), "starts with"
    ),
    "rounded of huge size": (ROUND + shape(HUGE) + bytes([2]) + constant(1, HUGE), "elements"),
    "rounded beyond memory": (
        ROUND + shape(2**26) + bytes([2]) + constant(1, 2**26), "memory|almost no|constant"
    ),
    "a parent's name that is no text": (
        SAME + shape(2) + varints(2) + b"\xff\xfe" + bytes([F32]), "not UTF-8"
    ),
    "a parent's name without end": (SAME + shape(2) + varints(HUGE), "letters"),
    "a parent's type that is none": (SAME + shape(2) + bytes([0, 99]), "type has code 99"),
    "differences on another step": (
        SHIFT + shape(2) + bytes([0, F32]) + constant(1, 2, grid=b"\0\x3f"), "step 1"
    ),
    "differences of another shape": (SHIFT + shape(2) + bytes([0, F32]) + constant(1, 3), "of shape"),
    "raw differences": (SHIFT + shape(2) + bytes([0, F32]) + raw([1, 2]), "raw elements"),
    "differences that are damaged": (
        DIFFERENCE + exact(shape(4), INT8, 4, chunk(b"\1\0", elements=b""))[1:] + b"\0", "chunk 0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_tensor_and_field(name: str, tmp_path: Path) -> None:
    header, field = REFUSED[name]
    data = file_of(header)
    (tmp_path / "x.lac").write_bytes(data)
    for reading in (lambda: decode(data), lambda: pack.open(tmp_path / "x.lac")["w0"]):
        tracemalloc.start()
        try:
            with pytest.raises(FileFormatError, match=field) as caught:
                reading()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        said = str(caught.value)
        assert "'w0'" in said or "loading takes" in said or "elements" in said, said
        assert peak < DEFAULT.allowed_memory(len(data)) // 4


def test_a_file_with_a_graph_holds_no_such_kind() -> None:
    graph = bytes.fromhex("0102000502014000")  # two nodes, which read two tensors
    body = bytes([len(graph)]) + graph + bytes([2, 0]) + b"\0\0\2w0\0\0\2w1"
    body += exact(shape(4), INT8, 4, ZEROS) + raw([1.0]) + EMPTY
    with pytest.raises(FileFormatError, match="'w0'.*files without a graph alone"):
        decode(framed(body))


def noted(notes: bytes) -> bytes:
    block = b"\0\0" + notes
    return framed(varints(len(block)) + block + bytes([1, 0]) + b"\0\0\1w" + raw([1.0]) + EMPTY)


def text(words: bytes) -> bytes:
    return varints(len(words)) + words


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        (b"", "notes ends"),
        (b"\0", "flags 0"),
        (b"\4", "flags 4"),
        (b"\1" + bytes(31), "notes ends"),
        (b"\1" + bytes(32) + text(b"\xff"), "not UTF-8"),
        (b"\1" + bytes(32) + varints(HUGE), "letters"),
        (b"\2\0", "keys do not rise"),
        (b"\2\2" + text(b"b") + text(b"") + text(b"a") + text(b""), "keys do not rise"),
        (b"\2\2" + text(b"a") + text(b"") + text(b"a") + text(b""), "keys do not rise"),
        (b"\2\1" + text(b"a") + text(b"") + b"\0", "end in other bytes"),
        (b"\2" + varints(HUGE), "pairs"),
    ],
)
def test_hostile_notes(notes: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=said):
        decode(noted(notes))
    (tmp_path / "x.lac").write_bytes(noted(notes))
    with pytest.raises(FileFormatError, match=said):
        pack.open(tmp_path / "x.lac")


def test_notes_without_fault_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.lac").write_bytes(noted(b"\2\1" + text(b"format") + text(b"pt")))
    file = pack.open(tmp_path / "x.lac")
    assert file.metadata == {"format": "pt"}
    assert file["w"].tolist() == [1.0]
    with pytest.raises(KeyError):
        file["v"]
    with pytest.raises(InputError, match="no tensor 'v'. Cure: one of w"):
        file.info("v")


def test_a_parent_of_another_form(tmp_path: Path) -> None:
    """The parent's digest is right, but its tensor does not fit."""
    (tmp_path / "old.lac").write_bytes(
        file_of(raw([1.0, 2.0]), constant(2**31 - 1, 2), integers=b"\xff\xff\xff\x7f" * 2)
    )
    digest = pack.open(tmp_path / "old.lac").digest()
    headers = (
        SAME + shape(3) + text(b"w0") + bytes([F32]),
        SAME + shape(2) + text(b"w0") + bytes([BF16]),
        SAME + shape(2) + text(b"absent") + bytes([F32]),
        SHIFT + shape(2) + text(b"w0") + bytes([F32]) + constant(1, 2),
        SHIFT + shape(2) + text(b"w1") + bytes([F32]) + constant(1, 2),
    )
    names = b"".join(b"\0\0" + text(b"c%d" % k) for k in range(len(headers)))
    block = b"\0\0\1" + digest + text(b"old.lac")
    body = varints(len(block)) + block + bytes([len(headers), 0]) + names + b"".join(headers)
    sums = zlib.crc32(b"\1" * 4) & (2**31 - 1)
    (tmp_path / "new.lac").write_bytes(framed(body + StreamWriter().finish(sums)))
    child = pack.open(tmp_path / "new.lac", parent=tmp_path / "old.lac")
    for name, said in zip(
        ("c0", "c1", "c2", "c3", "c4"),
        (r"\(3,\)", "bfloat16", "no tensor 'absent'", "no uniform grid", "leave 32 bits"),
        strict=True,
    ):
        with pytest.raises(InputError, match=rf"tensor '{name}' from the parent .*{said}"):
            child[name]


def test_work_of_one_tensor_is_limited(tmp_path: Path) -> None:
    """Entries that take no bits, in one tensor: the totals of a file are not limited, each tensor is."""
    (tmp_path / "x.lac").write_bytes(file_of(constant(1, 2**27), raw([1.0])))
    file = pack.open(tmp_path / "x.lac")
    with pytest.raises(LimitError):
        file["w0"]


def test_floats_are_not_rounded_twice() -> None:
    """NaN and infinities through every type that values are rounded to."""
    for kind in (0, 1, 2, 9):
        part = bytes([0, 0]) + shape(3) + floats(math.nan, math.inf, -math.inf)
        (tensor,) = decode(file_of(ROUND + shape(3) + bytes([kind]) + part)).tensors
        values = [float(x) for x in tensor.values()]
        assert math.isnan(values[0])
        assert values[1:] == [math.inf, -math.inf]
