"""Kinds of tensors by code and by name: what is refused, what a package of a user's own adds."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from laconic import __version__
from laconic.errors import CorruptFileError, FileFormatError, InputError, LimitError, UnsupportedVersionError
from laconic.pack import MAGIC, Limits, decode, encode, layout
from laconic.pack.codecs.symbols import StreamWriter
from laconic.records import (
    HashedTensor,
    IntTensor,
    PackedModel,
    ProductTensor,
    RandomCodeTensor,
    RawTensor,
    Tensor,
    UniformGrid,
)
from laconic.varint import Writer
from tests.pack.test_golden_kinds import MADE

DATA = encode(MADE)
ONE_BUCKET = RawTensor("", np.ones(1, np.float32))

OWN = """
import numpy as np
from laconic.pack.kinds import Kind
from laconic.records import RawTensor, Tensor, record

@record
class Ramp(Tensor):
    name: str
    shape: tuple
    step: float
    start: RawTensor
    def values(self):
        return np.arange(self.size, dtype=np.float32).reshape(self.shape) * np.float32(self.step)

class RampKind(Kind):
    record = Ramp
    part_names = ("start",)
    def put(self, out, tensor): out.varint(int(tensor.step))
    def get(self, source, shape): return (float(source.varint()),)
    def parts(self, tensor): return (tensor.start,)
    def steps(self, shape, fields, parts): return 10 * shape[0]
    def build(self, name, shape, fields, parts): return Ramp(name, shape, fields[0], parts[0])

KIND = RampKind()
"""


def made_by_hand(header: bytes) -> bytes:
    """A file of one tensor "w" with this header, whose length and checksum are right."""
    body = bytes([0, 1, 0]) + bytes([0x00, 0, 1]) + b"w" + header + StreamWriter().finish(0)
    head = Writer()
    head.raw(MAGIC + b"\x01")
    head.varint(len(body) + 4)
    data = bytes(head.data) + body
    return data + zlib.crc32(data).to_bytes(4, "little")


def raw_part(*values: float) -> bytes:
    return bytes([0, 0, 1, len(values)]) + struct.pack(f"<{len(values)}f", *values)


def hashed(shape: bytes, *buckets: float) -> bytes:
    return bytes([3]) + shape + bytes(8) + raw_part(*buckets)


def test_a_file_made_by_hand_is_read() -> None:
    tensor = decode(made_by_hand(hashed(b"\x01\x05", 2.0))).tensors[0]
    assert isinstance(tensor, HashedTensor)
    assert np.abs(tensor.values()).tolist() == [2.0] * 5


@pytest.mark.parametrize("code", [11, 30, 62])
def test_an_unknown_code_says_that_a_later_version_may_know_it(code: int) -> None:
    said = (
        f"tensor 'w': .* kind with code {code}, which laconic {__version__} does not know. Cure: pip install"
    )
    with pytest.raises(UnsupportedVersionError, match=said):
        decode(made_by_hand(bytes([3 | code << 2]) + b"\x01\x05"))


@pytest.mark.parametrize(
    ("header", "error", "said"),
    [
        (hashed(b"\x01\x05"), CorruptFileError, "has 0 buckets"),
        (bytes([3]) + b"\x01\x05" + bytes(8) + bytes([3]), CorruptFileError, "no integer or raw tensor"),
        (bytes([3]) + b"\x01\x05" + bytes(8) + bytes([0, 7, 1, 1, 9]), CorruptFileError, "buckets are uint8"),
        (bytes([7]) + b"\x01\x05" + bytes(8) + b"\x00", FileFormatError, "ends|entries"),
        (bytes([7]) + b"\x01\x05" + bytes(8) + b"\x01\x00" + raw_part(1.0), CorruptFileError, "raw elements"),
        (bytes([11]) + b"\x02\x02\x02" + 2 * (bytes([0, 0, 2, 1, 1]) + bytes(4)), CorruptFileError, "claims"),
        (bytes([255]) + b"\x02\xff\xff", CorruptFileError, "not UTF-8"),
        (bytes([255]) + b"\x00", CorruptFileError, "empty"),
        (bytes([255]) + b"\x04ramp" + b"\x01\x05", UnsupportedVersionError, "'ramp', which no package"),
        (hashed(b"\x02\xff\xff\xff\xff\xff\x01\xff\xff\x7f", 1.0), LimitError, "elements in one tensor"),
        (hashed(b"\x01\xff\xff\xff\x7f", 1.0), LimitError, "almost no bits"),
        (hashed(b"\x01\xff\xff\xff\x1f", 1.0), LimitError, "memory"),
    ],
)
def test_hostile_contents_behind_right_checksums(header: bytes, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        decode(made_by_hand(header))


def test_every_flipped_bit_and_every_cut_is_seen() -> None:
    for position in range(8 * len(DATA)):
        damaged = bytearray(DATA)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(FileFormatError):
            decode(bytes(damaged))
    for length in range(len(DATA)):
        with pytest.raises(FileFormatError):
            decode(DATA[:length])


def test_flipped_bits_behind_right_checksums_are_read_or_refused() -> None:
    """Nothing but an error of ours, and no value that another decoder would not have."""
    refused = 0
    for position in range(8 * 6, 8 * (len(DATA) - 4)):
        damaged = bytearray(DATA)
        damaged[position // 8] ^= 1 << position % 8
        damaged[-4:] = zlib.crc32(damaged[:-4]).to_bytes(4, "little")
        try:
            for tensor in decode(bytes(damaged), limits=Limits(elements=10_000)).tensors:
                assert tensor.values().shape == tensor.shape
        except FileFormatError:
            refused += 1
    assert refused > 1000


def test_inspect_says_kind_shape_and_bytes() -> None:
    rows = {row.name: row for row in layout(DATA) if row.section == "tensor"}
    assert sum(row.bytes for row in layout(DATA)) == len(DATA)
    assert rows["hashed"].note.startswith("hashed, header")
    assert rows["codes"].note.startswith("random codes")
    assert (rows["product"].shape, rows["product"].weights) == ((2, 3), 6)


def test_costs_count_what_is_stored() -> None:
    buckets = IntTensor("", np.array([-2, 1, 0, 1], np.int32), UniformGrid(1.0))
    facts = HashedTensor("w", (100, 100), 1, buckets).cost()
    assert (facts.bits, facts.value_bits, facts.table_bytes) == (0, 32, 4 * 2 // 8 + 4 + 8)
    assert facts.entries == 10_000


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: HashedTensor("w", (2,), -1, ONE_BUCKET), "seed must be in 0..2"),
        (lambda: HashedTensor("w", (2,), 0, RawTensor("", np.ones((1, 1), np.float32))), "1 dimension"),
        (lambda: HashedTensor("w", (2,), 0, RawTensor("", np.ones(2))), "buckets are float64"),
        (lambda: ProductTensor("w", ONE_BUCKET, ONE_BUCKET), "2 dimensions"),
        (lambda: codes(block=0), "block has 0 entries"),
        (lambda: codes(indices=[0]), r"of shape \(2,\)"),
        (lambda: codes(indices=[0, -1]), "index -1 is negative"),
        (lambda: codes(scales=(1.0, 1.0)), "2 scales"),
        (lambda: codes(scales=(-1.0,)), "float32 in 0"),
        (lambda: codes(scales=()), "0 scales"),
    ],
)
def test_bad_records_are_refused_by_name(make: Callable[[], Tensor], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        make()
    assert "'w'" in str(caught.value)


def codes(
    block: int = 3, indices: list[int] | None = None, scales: tuple[float, ...] = (1.0,)
) -> RandomCodeTensor:
    own = IntTensor("", np.array([0, 1] if indices is None else indices, np.int32), UniformGrid(1.0))
    return RandomCodeTensor("w", (5,), 7, block, own, scales)


def test_random_codes_are_standard_normal_and_independent() -> None:
    own = IntTensor("", np.arange(20_000, dtype=np.int32), UniformGrid(1.0))
    z = RandomCodeTensor("w", (20_000, 10), 5, 10, own, (1.0,)).values().astype(np.float64)
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.1
    assert np.abs(np.corrcoef(z.T) - np.eye(10)).max() < 0.03


def test_buckets_are_used_evenly_and_signs_are_fair() -> None:
    hashed = HashedTensor("w", (100_000,), 3, RawTensor("", np.arange(1, 9, dtype=np.float32)))
    values = hashed.values()
    assert np.abs(np.bincount(np.abs(values).astype(int))[1:] / 12_500 - 1).max() < 0.05
    assert abs(float(np.sign(values).mean())) < 0.02


class Lattice(RawTensor):
    """A tensor whose kind nobody registered."""


def test_an_unregistered_kind_is_refused_with_the_cure() -> None:
    model = PackedModel((Lattice("w", np.ones(2, np.float32)),))
    with pytest.raises(InputError, match="packing tensor 'w'.*kind Lattice.*laconic.kinds"):
        encode(model)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """A package with a kind of its own, as pip leaves it."""
    (folder / f"{module}.py").write_text(OWN)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[laconic.kinds]\nramp = {module}:KIND\n")
    monkeypatch.syspath_prepend(folder)


def test_a_kind_of_a_users_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "ramp_package")
    import ramp_package  # type: ignore[import-not-found]

    tensors = tuple(ramp_package.Ramp(f"w{k}", (4,), 2.0, ONE_BUCKET) for k in range(3))
    data = encode(PackedModel(tensors))
    monkeypatch.undo()
    with pytest.raises(UnsupportedVersionError, match="'ramp', which no package installed here registers"):
        decode(data)
    monkeypatch.syspath_prepend(tmp_path)
    found = decode(data).tensors
    assert [t.name for t in found] == ["w0", "w1", "w2"]
    assert found[2].values().tolist() == [0.0, 2.0, 4.0, 6.0]
