"""Attacks: files that are cut, flipped, forged or made up. Each must end in a named error, at once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import (
    ChecksumError,
    CorruptFileError,
    FileFormatError,
    LimitError,
    NotALaconicFileError,
    TruncatedFileError,
    UnsupportedVersionError,
)
from laconic.pack import MAGIC, Limits, decode, encode, layout
from laconic.pack.codecs.lines import code_lines
from laconic.pack.codecs.order0 import Table
from laconic.pack.codecs.settings import Settings
from laconic.pack.codecs.symbols import StreamWriter
from laconic.pack.graph.ops import make_node
from laconic.pack.wire.grids import Grids
from laconic.pack.wire.headers import Header, put_header
from laconic.records import (
    Codebook,
    Graph,
    IntTensor,
    PackedModel,
    RawTensor,
    UniformGrid,
    ValueSpec,
)
from laconic.varint import Writer


def _model() -> PackedModel:
    rng = np.random.default_rng(0)
    sparse = rng.choice([0, 1, -1, 3], (12, 2, 3, 5), p=[0.8, 0.1, 0.05, 0.05]).astype(np.int32)
    nodes = (
        make_node("conv", (0, -1, -2), padding=(1,)),
        make_node("max_pool", (1,), rank=2),
        make_node("mean", (2,), dims=(1, 2, 3)),
        make_node("einsum", (3, 3), equation="i,j->ij"),
        make_node("expand", (4,), shape=(2, 1, 1)),
        make_node("pad", (5,), pads=(0, 1), mode="constant"),
    )
    graph = Graph((ValueSpec("float32", (None, 2, 6, 6)),), nodes, (6,))
    return PackedModel(
        (
            IntTensor("conv.weight", sparse, UniformGrid(0.5)),
            IntTensor("conv.bias", np.arange(12, dtype=np.int32) % 5, Codebook((-1.0, 0.0, 1.0, 2.0, 3.0))),
            RawTensor("mask", np.array([True, False])),
        ),
        graph,
        {"tied.weight": "conv.weight"},
    )


DATA = encode(_model())
_HEAD_BYTES = layout(DATA)[0].bytes


def _content() -> bytearray:
    """What the length counts, without the checksum."""
    return bytearray(DATA[_HEAD_BYTES:-4])


def _forge(body: bytes) -> bytes:
    """A file with this content whose length and checksum are right."""
    head = Writer()
    head.raw(MAGIC + b"\x01")
    head.varint(len(body) + 4)
    data = bytes(head.data) + body
    return data + zlib.crc32(data).to_bytes(4, "little")


def _tensor_file(header: bytes, stream: bytes | None = None) -> bytes:
    """No graph, one tensor called "w" with a hand-made header, and a stream."""
    names = bytes([0, 1, 0]) + bytes([0x00, 0, 1]) + b"w"
    return _forge(names + header + (StreamWriter().finish(0) if stream is None else stream))


def _constant(*shape: int) -> bytes:
    """Header of a constant tensor: static model, float32 step in two bytes, one class."""
    out = Writer()
    out.byte(1 | 4)
    for value in (len(shape), *shape):
        out.varint(value)
    out.raw(b"\x80\x3f")  # 1.0
    out.signed(7)
    out.varint(1 << 1)
    return bytes(out.data)


def test_the_hand_made_file_is_right_but_for_what_follows() -> None:
    """The forgeries below fail for the reason they are made for, not for their frame."""
    out = Writer()
    out.raw(np.full(6, 7, "i1").tobytes())
    stream = StreamWriter().finish(zlib.crc32(bytes(out.data)) & (2**31 - 1))
    tensor = decode(_tensor_file(_constant(2, 3), stream)).tensors[0]
    assert tensor.name == "w"
    assert tensor.values().tolist() == [[7.0] * 3] * 2


def test_every_flipped_bit_is_seen() -> None:
    for position in range(8 * len(DATA)):
        damaged = bytearray(DATA)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(FileFormatError) as caught:
            decode(bytes(damaged))
        assert type(caught.value) is not FileFormatError


def test_every_truncation_is_seen() -> None:
    for length in range(len(DATA)):
        with pytest.raises((TruncatedFileError, NotALaconicFileError)):
            decode(DATA[:length])


def test_bytes_after_the_end_are_seen() -> None:
    with pytest.raises(CorruptFileError, match="3 bytes follow"):
        decode(DATA + b"abc")


def test_other_files_are_not_ours() -> None:
    for data in (b"", b"PK\x03\x04", b"\x93NUMPY", DATA[1:]):
        with pytest.raises(NotALaconicFileError):
            decode(data)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_refused_with_a_cure(version: int) -> None:
    with pytest.raises(UnsupportedVersionError, match=f"version {version}.*Cure"):
        decode(DATA[:3] + bytes([version]) + DATA[4:])


def test_damage_is_a_checksum_error() -> None:
    damaged = bytearray(DATA)
    damaged[len(DATA) // 2] ^= 0xFF
    with pytest.raises(ChecksumError, match="damaged"):
        decode(bytes(damaged))


def test_the_frame_of_forgeries_is_right() -> None:
    assert _forge(bytes(_content())) == DATA


def test_integers_have_a_checksum_of_their_own() -> None:
    """Where the file's checksum is made right again, the integers' still speaks."""
    body = _content()
    body[-9] ^= 0x10  # inside the symbol stream
    with pytest.raises(FileFormatError):
        decode(_forge(bytes(body)))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_forged_files_never_crash(data: st.DataObject) -> None:
    """Random edits under a right checksum: a named error, or a model."""
    body = _content()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        decode(_forge(bytes(body)), limits=Limits(elements=10**6))
        layout(_forge(bytes(body)), limits=Limits(elements=10**6))
    except FileFormatError as error:
        assert type(error) is not FileFormatError


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_content_never_crashes(content: bytes) -> None:
    for data in (content, MAGIC + content, _forge(content)):
        try:
            decode(data, limits=Limits(elements=10**6))
        except FileFormatError as error:
            assert type(error) is not FileFormatError


HUGE = [(10**12,), (10**6, 10**6), (2**40, 2**40), (2**63, 0), (0, 2**32, 2**32), (1, 2**33)]


@pytest.mark.parametrize("shape", HUGE)
def test_a_claim_of_huge_tensors_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LimitError, match="claims"):
        decode(_tensor_file(_constant(*shape)))


def test_constants_have_their_own_limit() -> None:
    with pytest.raises(LimitError, match="constant.*Cure"):
        decode(_tensor_file(_constant(2**27)))


def test_many_tensors_have_a_limit_together() -> None:
    tensor = IntTensor("w", np.arange(100, dtype=np.int32), UniformGrid(1.0))
    data = encode(PackedModel(tuple(IntTensor(f"{k}", tensor.integers, tensor.grid) for k in range(5))))
    assert len(decode(data, limits=Limits(elements=500)).tensors) == 5
    for limits in (Limits(elements=499), Limits(decoded_bytes=1999), Limits(tensors=4)):
        with pytest.raises(LimitError):
            decode(data, limits=limits)


def test_a_static_table_must_have_the_bits_it_claims() -> None:
    out = Writer()
    out.byte(1 | 4)
    for value in (1, 10**6):
        out.varint(value)
    out.raw(b"\x80\x3f")
    out.signed(0)
    for value in (2 << 1, 1, 1):
        out.varint(value)
    with pytest.raises(LimitError, match="1000000 entries of 1 bits"):
        decode(_tensor_file(bytes(out.data)))


def test_an_adaptive_tensor_has_a_size_limit() -> None:
    out = Writer()
    out.byte(2 | 4)
    for value in (2, 2**12, 2**11):
        out.varint(value)
    out.raw(b"\x80\x3f" + b"\x80" + b"\0\0")
    out.varint(1)
    with pytest.raises(CorruptFileError, match="too large for that codec"):
        decode(_tensor_file(bytes(out.data)))


def _many(headers: list[Header], stream: bytes) -> bytes:
    """A file without a graph of tensors called "0", "1", ... with these headers."""
    body = Writer()
    for value in (0, len(headers), 0):
        body.varint(value)
    for k in range(len(headers)):
        body.raw(b"\0\0")
        body.block(b"%d" % k)
    for header in headers:
        put_header(body, header, None, Grids())
    return _forge(bytes(body.data) + stream)


def test_entries_that_take_almost_no_bits_count_as_constants() -> None:
    header = Header((10**8,), UniformGrid(1.0), Table(0, 0, (2**17 - 1, 1)))
    with pytest.raises(LimitError, match="almost no bits"):
        decode(_many([header], b"\1" * 150))


def test_names_have_a_limit_together() -> None:
    """A path of 20 kB that 2,000 tensors share."""
    body = Writer()
    for value in (0, 2000, 0):
        body.varint(value)
    shared = 0
    for k in range(2000):
        body.byte(0xF0 if shared else 0x0F)
        body.varint(20_000 - 15)
        body.raw(b"" if shared else b"a" * 20_000)
        body.byte(0)
        body.block(b"%d" % k)
        shared = 20_000
    with pytest.raises(LimitError, match="bytes of names"):
        decode(_forge(bytes(body.data)))


def test_empty_tensors_cost_no_work() -> None:
    stream = StreamWriter()
    code_lines(stream, 65_535, None, 0, np.zeros(65_535, bool))
    with pytest.raises(CorruptFileError, match="nothing to code"):
        decode(_many([Header((65_535, 0), UniformGrid(1.0), Settings(0, 1))], stream.finish(0)))


def test_rows_and_columns_have_a_limit_together() -> None:
    headers = [Header((60_000, 1), UniformGrid(1.0), Settings(0, 1))] * 36
    with pytest.raises(LimitError, match="rows and columns"):
        decode(_many(headers, b"\1" * 9999))


ATTACK = """
    import resource, sys, time
    import laconic.pack
    from laconic.errors import FileFormatError
    room = 256 * 2**20
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))
    for line in sys.stdin:
        start = time.process_time()
        try:
            laconic.pack.decode(bytes.fromhex(line))
        except FileFormatError as error:
            print(type(error).__name__, time.process_time() - start < 5)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs an address-space limit")
def test_hostile_files_fit_in_little_memory() -> None:
    """Claims of 10^12 elements, of 2^26 + 1 constants and of 10^9 static symbols, under 256 MiB."""
    files = [_tensor_file(_constant(10**12)), _tensor_file(_constant(2**26 + 1)), DATA[:20], DATA[:-1] + b"?"]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ATTACK)],
        input="\n".join(f.hex() for f in files),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "LimitError",
        "True",
        "LimitError",
        "True",
        "TruncatedFileError",
        "True",
        "ChecksumError",
        "True",
    ]
