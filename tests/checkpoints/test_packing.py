"""Checkpoints packed at a rate, bit for bit and against a parent, and given back."""

from __future__ import annotations

import math
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.checkpoints import pack_checkpoint, unpack_checkpoint
from laconic.checkpoints.safetensors import SafetensorsFile, write_safetensors
from laconic.errors import (
    ChecksumError,
    FileFormatError,
    InputError,
    LimitError,
    TruncatedFileError,
    WriteError,
)
from laconic.pack import Limits
from laconic.records import AnyArray, IntTensor
from laconic.records.children import ChildTensor
from laconic.records.element_types import ELEMENT_TYPES
from laconic.records.typed import elements_of
from tests.helpers.fresh import run_fresh

RNG = np.random.default_rng(0)
WEIGHT = (RNG.standard_t(6, (256, 300)) * 0.03).astype(np.float32)


def checkpoint() -> dict[str, AnyArray]:
    """Matrices, vectors, and what is neither."""
    return {
        "a.weight": WEIGHT,
        "a.bias": (WEIGHT[0] * 3),
        "half.weight": WEIGHT[:100].astype(np.float16),
        "conv.weight": WEIGHT[:32, :144].reshape(32, 16, 3, 3).copy(),
        "double": WEIGHT[:9, :50].astype(np.float64),
        "tied.weight": WEIGHT.copy(),
        "ids": np.arange(600, dtype=np.int64),
        "mask": WEIGHT > 0,
        "wave": WEIGHT[:2] + 1j * WEIGHT[2:4],
        "none": np.zeros((0, 4), np.float32),
        "point": np.float32(0.25),
        "zeros": np.zeros((40, 50), np.float32),
        "broken": np.where(WEIGHT[:20] > 0.05, np.nan, WEIGHT[:20]).astype(np.float32),
    }


def all_types(path: Path) -> Path:
    """Random bytes of every type that safetensors files have: NaN payloads, too."""
    kinds = [kind for kind in ELEMENT_TYPES if kind.name != "complex128"]
    data = {k.name: np.random.default_rng(1).integers(0, 256, 5001 * k.bytes).astype(np.uint8) for k in kinds}
    write_safetensors(path, [(k.name, (1667, 3), k.name) for k in kinds], data.__getitem__, {"format": "pt"})
    return path


def test_every_type_is_kept_bit_for_bit(tmp_path: Path) -> None:
    source, back = all_types(tmp_path / "x.safetensors"), tmp_path / "back.safetensors"
    pack_checkpoint(source, tmp_path / "x.lac", lossless=True)
    unpack_checkpoint(tmp_path / "x.lac", back)
    with SafetensorsFile(source) as one, SafetensorsFile(back) as two:
        assert one.metadata == two.metadata
        assert {n: e[:2] for n, e in one.entries.items()} == {n: e[:2] for n, e in two.entries.items()}
        for name in one.entries:
            assert np.array_equal(one.read(name), two.read(name)), name


def test_a_rate_is_kept_and_the_rest_is_exact(tmp_path: Path) -> None:
    source = checkpoint()
    report = pack_checkpoint(source, tmp_path / "x.lac", bits=3.0)
    assert report.bytes == (tmp_path / "x.lac").stat().st_size
    assert report.aliases == {"tied.weight": "a.weight"}
    rows = {row.name: row for row in report.tensors}
    assert 2.9 < 8 * rows["a.weight"].bytes / WEIGHT.size < 3.1
    file = pack.open(tmp_path / "x.lac")
    assert set(file) == set(source)
    for name, array in source.items():
        found, array = file[name], np.asarray(array)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        if rows.get(name, rows["a.weight"]).error == 0:
            assert found.tobytes() == array.tobytes(), name
    for name in ("a.weight", "half.weight", "conv.weight", "double", "a.bias"):
        error = file[name].astype(np.float64) - source[name]
        relative = math.sqrt(np.square(error).sum() / np.square(source[name].astype(np.float64)).sum())
        assert relative == pytest.approx(rows[name].error, rel=0.15), name
    assert rows["a.bias"].form == "float16"
    for name in ("zeros", "broken", "ids", "mask", "wave", "none"):
        assert rows[name].form.startswith("exact"), name


@pytest.mark.parametrize("rate", [{"lossless": True}, {"bits": 3.0}, {"bits": 20.0}])
@pytest.mark.parametrize("value", [0.0, -0.0, 0.3, np.nan])
def test_tensors_of_one_value_take_next_to_nothing(
    tmp_path: Path, value: float, rate: dict[str, float]
) -> None:
    """Matrices and vectors: 100 kB or more each, and some bytes in the file."""
    shapes = {"matrix": (300, 500), "vector": (50_000,), "kernel": (64, 32, 3, 3)}
    arrays = {name: np.full(shape, value, np.float32) for name, shape in shapes.items()}
    found = pack_checkpoint(arrays, tmp_path / "a.lac", **rate)  # type: ignore[arg-type]
    assert all(row.bytes <= 40 for row in found.tensors)
    back = pack.open(tmp_path / "a.lac")
    for name, array in arrays.items():
        if rate.get("lossless") or value != 0.3:
            np.testing.assert_array_equal(back[name].view(np.uint32), array.view(np.uint32))
        else:
            np.testing.assert_allclose(back[name], array, rtol=0.01)


def test_the_error_is_near_the_limit_of_gaussian_weights(tmp_path: Path) -> None:
    """At b bits no code has a relative squared error below 4^-b; a uniform grid loses up to 0.255 bit."""
    weight = np.random.default_rng(3).normal(size=(512, 512)).astype(np.float32)
    for bits in (1.5, 3.0, 5.0):
        report = pack_checkpoint({"w": weight}, tmp_path / "x.lac", bits=bits)
        loss = report.bits_per_weight + math.log2(report.tensors[0].error)
        assert 0 < loss < 0.28  # the table and the choice of the step by a sample included


def test_rows_of_unlike_size_get_steps_of_their_own(tmp_path: Path) -> None:
    """Where the largest rows have no longer tails than the others, one step for all wastes bits."""
    scales = np.where(np.arange(128) % 2, 1.0, 0.125).astype(np.float32)
    signs = np.sign(np.random.default_rng(2).normal(size=(128, 512))).astype(np.float32)
    report = pack_checkpoint({"w": signs * scales[:, None]}, tmp_path / "x.lac", bits=1.2)
    assert report.tensors[0].error < 0.5


@pytest.mark.parametrize(("max_bits", "max_bytes"), [(2.5, None), (None, 60_000)])
def test_a_target_is_met_and_nearly_used(
    tmp_path: Path, max_bits: float | None, max_bytes: int | None
) -> None:
    source = {f"{k}.weight": np.roll(WEIGHT, k) * np.float32(k + 1) for k in range(3)}
    source |= {f"{k}.bias": WEIGHT[k] for k in range(3)}
    report = pack_checkpoint(source, tmp_path / "x.lac", max_bits=max_bits, max_bytes=max_bytes)
    limit = max_bytes or report.weights * 2.5 / 8
    assert 0.98 * limit < report.bytes <= limit


def test_a_target_that_cannot_be_met_names_the_shortest_file(tmp_path: Path) -> None:
    (tmp_path / "x.lac").write_bytes(b"before")
    with pytest.raises(InputError, match=r"cannot be at most 300 bytes: the shortest that was tried has \d+"):
        pack_checkpoint(checkpoint(), tmp_path / "x.lac", max_bytes=300)
    assert (tmp_path / "x.lac").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_asked_for_wrongly(tmp_path: Path) -> None:
    out = tmp_path / "x.lac"
    for rate in ({}, {"bits": 3.0, "lossless": True}):
        with pytest.raises(InputError, match="one rate must be given"):
            pack_checkpoint(checkpoint(), out, **rate)
    for rate in ({"bits": -1.0}, {"step": math.nan}, {"max_bytes": 0}):
        with pytest.raises(InputError, match="finite( and whole)? number above 0"):
            pack_checkpoint(checkpoint(), out, **rate)
    with pytest.raises(InputError, match="no tensor is called 'absent.*'"):
        pack_checkpoint(checkpoint(), out, bits=3.0, keep=["absent.*"])
    with pytest.raises(InputError, match=r"tensor 'w'.*type object"):
        pack_checkpoint({"w": np.array([None])}, out, bits=3.0)
    with pytest.raises(WriteError, match="absent"):
        pack_checkpoint(checkpoint(), tmp_path / "absent" / "x.lac", bits=3.0)
    assert not list(tmp_path.iterdir())


def test_kept_tensors_and_steps(tmp_path: Path) -> None:
    report = pack_checkpoint(checkpoint(), tmp_path / "x.lac", step=0.5, keep=["half.*", "a.bias"])
    rows = {row.name: row.form for row in report.tensors}
    assert rows["half.weight"] == "exact float16"
    assert rows["a.bias"] == "exact float32"
    tensor = pack.open(tmp_path / "x.lac").tensor("a.weight")
    assert isinstance(tensor, IntTensor)
    assert tensor.grid.numbers[0] == pytest.approx(0.5 * np.sqrt(np.square(WEIGHT).mean()), rel=0.01)


def test_one_tensor_is_read_and_the_others_are_not(tmp_path: Path) -> None:
    """A damaged tensor does no harm to the others, and is named with its chunk."""
    large = np.random.default_rng(5).normal(size=(1500, 1000)).astype(np.float32)
    pack_checkpoint({"a": WEIGHT, "large": large, "z": -WEIGHT}, tmp_path / "x.lac", bits=3.0)
    data = bytearray((tmp_path / "x.lac").read_bytes())
    data[len(data) * 3 // 4] ^= 1
    (tmp_path / "x.lac").write_bytes(data)
    with pytest.raises(ChecksumError, match=r"the file is damaged: tensor 'large': chunk 2"):
        pack.open(tmp_path / "x.lac")
    file = pack.open(tmp_path / "x.lac", check=False)
    assert file["a"].shape == file["z"].shape == WEIGHT.shape
    with pytest.raises(ChecksumError, match=r"tensor 'large': chunk 2"):
        file["large"]


@pytest.mark.parametrize("lossless", [False, True])
def test_a_missing_chunk_is_named(tmp_path: Path, lossless: bool) -> None:
    large = np.random.default_rng(5).normal(size=(1500, 1000)).astype(np.float32)
    rate = {"lossless": True} if lossless else {"bits": 3.0}
    pack_checkpoint({"a": WEIGHT, "large": large}, tmp_path / "x.lac", **rate)
    data = (tmp_path / "x.lac").read_bytes()
    (tmp_path / "x.lac").write_bytes(data[: len(data) - 1000])
    with pytest.raises(FileFormatError, match=r"not whole: tensor 'large': .*[Cc]hunk 2 of 3 is missing"):
        pack.open(tmp_path / "x.lac")
    (tmp_path / "x.lac").write_bytes(data[:9])
    with pytest.raises(TruncatedFileError):
        pack.open(tmp_path / "x.lac")


def test_threads_change_nothing(tmp_path: Path) -> None:
    large = {"w": np.random.default_rng(5).normal(size=(1500, 1000)).astype(np.float32)}
    for threads in (1, 3):
        pack_checkpoint(large, tmp_path / f"{threads}.lac", bits=3.0, threads=threads)
    assert (tmp_path / "1.lac").read_bytes() == (tmp_path / "3.lac").read_bytes()
    values = [pack.open(tmp_path / "1.lac", threads=n)["w"] for n in (1, 3)]
    assert np.array_equal(*values)


def test_memory_is_bounded_by_the_largest_tensor(tmp_path: Path) -> None:
    """Ten tensors of 4 MB: far below the 40 MB of the checkpoint."""
    path, each = tmp_path / "x.safetensors", 1 << 20
    data = np.random.default_rng(0).normal(size=each).astype(np.float32).view(np.uint8)
    rows = [(f"w{k}", (1024, 1024), "float32") for k in range(10)]
    write_safetensors(path, rows, lambda name: np.roll(data, 4 * int(name[1:])), {})
    for rate in ({"bits": 3.5}, {"lossless": True}):
        tracemalloc.start()
        try:
            pack_checkpoint(path, tmp_path / "x.lac", threads=1, **rate)
            unpack_checkpoint(tmp_path / "x.lac", tmp_path / "y.safetensors", threads=1)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 5.5 * 4 * each


# --- increments ----------------------------------------------------------------------------------


def tuned() -> dict[str, AnyArray]:
    """One matrix moved a little, one vector changed, one tensor new, all else as it was."""
    new = checkpoint()
    new["half.weight"] = (new["half.weight"] * np.float16(1.002)).astype(np.float16)
    new["conv.weight"] = new["conv.weight"] + np.float32(1e-4)
    new["a.bias"] = new["a.bias"] * np.float32(1.5)
    new["head"] = np.roll(WEIGHT, 7)
    return new


@pytest.mark.parametrize("rate", [{"bits": 4.0}, {"lossless": True}])
def test_only_what_differs_is_stored(tmp_path: Path, rate: dict[str, float]) -> None:
    old, new = tmp_path / "old.lac", tmp_path / "new.lac"
    pack_checkpoint(checkpoint(), old, **rate)
    whole = pack_checkpoint(tuned(), tmp_path / "whole.lac", **rate)
    report = pack_checkpoint(tuned(), new, parent=old, **rate)
    forms = {row.name: row.form for row in report.tensors}
    assert forms["a.weight"] == forms["ids"] == forms["mask"] == "as in the parent"
    assert forms["conv.weight"] in ("added to the parent", "difference from the parent")
    assert forms["head"] not in ("as in the parent", "added to the parent")
    assert report.bytes < 0.75 * whole.bytes
    back, source = pack.open(new, parent=pack.open(old)), tuned()
    for name, array in source.items():
        if "lossless" in rate:
            assert back[name].tobytes() == np.asarray(array).tobytes(), name
        elif name.endswith("weight"):
            step = 2 * pack.open(old)[name].std() * 2.0**-3
            assert np.abs(back[name].astype(np.float32) - array).max() < step


def test_a_parent_that_is_missing_or_another(tmp_path: Path) -> None:
    old, new, other = (tmp_path / f"{name}.lac" for name in ("old", "new", "other"))
    pack_checkpoint(checkpoint(), old, bits=4.0)
    pack_checkpoint(checkpoint(), other, bits=4.1)
    pack_checkpoint(tuned(), new, bits=4.0, parent=old)
    alone = pack.open(new)
    assert alone["head"].shape == WEIGHT.shape
    with pytest.raises(InputError, match=r"'a.weight' of .*new.lac .* from its parent \(old.lac\)"):
        alone["a.weight"]
    with pytest.raises(InputError, match=r"other.lac is not the parent of .*new.lac: its SHA-256 is"):
        pack.open(new, parent=other)
    with pytest.raises(InputError, match="whole and needs no parent"):
        pack.open(old, parent=other)
    with pytest.raises(InputError, match="is the parent, which would be lost"):
        pack_checkpoint(tuned(), old, bits=4.0, parent=old)
    with pytest.raises(InputError, match="another file"):
        for tensor in pack.read(new).tensors:
            if isinstance(tensor, ChildTensor):
                tensor.values()


def test_a_file_that_is_read_is_never_written_over(tmp_path: Path) -> None:
    plain, small, child = (tmp_path / n for n in ("w.safetensors", "w.lac", "child.lac"))
    pack_checkpoint({"w": WEIGHT}, small, lossless=True)
    unpack_checkpoint(small, plain)
    pack_checkpoint(plain, child, lossless=True, parent=small)
    link = tmp_path / "link.safetensors"
    os.link(plain, link)
    before = {path: path.read_bytes() for path in (plain, small, child)}
    for out in (plain, link):
        with pytest.raises(InputError, match=r"is the checkpoint, which would be lost\. Cure: another"):
            pack_checkpoint(plain, out, bits=4.0)
    with pytest.raises(InputError, match="is the file that is read, which would be lost"):
        unpack_checkpoint(small, small)
    with pytest.raises(InputError, match="is the parent, which would be lost"):
        unpack_checkpoint(child, small, parent=small)
    assert before == {path: path.read_bytes() for path in before}


def test_a_parent_may_need_a_parent(tmp_path: Path) -> None:
    one, two, three = (tmp_path / f"{k}.lac" for k in range(3))
    pack_checkpoint({"w": WEIGHT, "v": WEIGHT[0]}, one, lossless=True)
    pack_checkpoint({"w": WEIGHT, "v": WEIGHT[1]}, two, lossless=True, parent=one)
    second = pack.open(two, parent=one)
    pack_checkpoint({"w": WEIGHT, "v": WEIGHT[1] * 2}, three, lossless=True, parent=second)
    third = pack.open(three, parent=second)
    assert elements_of(third.tensor("w")).tobytes() == WEIGHT.tobytes()
    assert np.array_equal(third["v"], WEIGHT[1] * 2)


def test_torch_is_not_needed(tmp_path: Path) -> None:
    said = run_fresh(
        f"""
import numpy as np, laconic
laconic.pack_checkpoint({{"w": np.eye(9, dtype=np.float32)}}, {str(tmp_path / "x.lac")!r}, bits=3.0)
print(laconic.unpack_checkpoint({str(tmp_path / "x.lac")!r}, {str(tmp_path / "x.safetensors")!r}) > 0)
""",
        without_torch=True,
    )
    assert said.split() == ["True"]


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A limit on the length of files, as a full disk: the old file stands, and nothing is left over."""
    (tmp_path / "x.lac").write_bytes(b"before")
    said = run_fresh(
        f"""
import resource, numpy as np, laconic
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
w = np.random.default_rng(0).normal(size=(1000, 500)).astype(np.float32)
try:
    laconic.pack_checkpoint({{"w": w}}, {str(tmp_path / "x.lac")!r}, bits=4.0)
except laconic.errors.WriteError as error:
    print(error)
"""
    )
    assert "could not write" in said
    assert "an existing file is unchanged. Cure: free space" in said
    assert [path.name for path in tmp_path.iterdir()] == ["x.lac"]
    assert (tmp_path / "x.lac").read_bytes() == b"before"


def test_a_small_file_of_a_large_parent_is_within_the_limits(tmp_path: Path) -> None:
    """A hundred bytes stand for tensors that the parent's bytes allow, not their own."""
    large = np.random.default_rng(0).normal(size=(3000, 1500)).astype(np.float32)
    old, new = tmp_path / "old.lac", tmp_path / "new.lac"
    source = {"a": large, "b": -large}
    pack_checkpoint(source, old, bits=3.5)
    source["b"] = -large
    source["b"][0, :3] += np.float32(9)
    report = pack_checkpoint(source, new, bits=3.5, parent=old)
    assert [row.form for row in report.tensors] == ["as in the parent", "added to the parent"]
    assert report.bytes < 5000
    back = pack.open(new, parent=old)
    assert np.array_equal(back["a"], pack.open(old)["a"])
    assert float(back["b"][0, 0]) == pytest.approx(9 - large[0, 0], abs=0.5)


def test_what_was_packed_is_read_with_the_default_limits(tmp_path: Path) -> None:
    """A bfloat16 matrix whose integers and values at once would be more than its file allows."""
    big = large_matrix()
    arrays = {"w": big}
    report = pack_checkpoint(arrays, tmp_path / "x.lac", max_bits=3.5)
    assert report.notes == ()
    file = pack.open(tmp_path / "x.lac")
    tracemalloc.start()
    found = file.elements("w")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= Limits().allowed_memory(report.bytes)
    assert np.array_equal(found, elements_of(file.tensor("w")))
    assert unpack_checkpoint(tmp_path / "x.lac", tmp_path / "x.safetensors") > 2 * big.size
    assert [row.name for row in pack.layout((tmp_path / "x.lac").read_bytes()) if row.weights] == ["w"]


def test_a_child_is_read_with_the_default_limits(tmp_path: Path) -> None:
    """Its integers are added to the parent's in place."""
    big = large_matrix()
    pack_checkpoint({"w": big}, tmp_path / "x.lac", max_bits=3.5)
    child = (big.astype(np.float32) * np.float32(1.01)).astype(big.dtype)
    report = pack_checkpoint({"w": child}, tmp_path / "y.lac", max_bits=3.5, parent=tmp_path / "x.lac")
    assert [row.form for row in report.tensors] == ["added to the parent"]
    (note,) = report.notes
    assert note.startswith(f"reading needs the parent {tmp_path / 'x.lac'} as well")
    file = pack.open(tmp_path / "y.lac", parent=tmp_path / "x.lac")
    found = file.elements("w")
    assert np.array_equal(found, elements_of(file.tensor("w")))
    wide = found.view("<u2").astype(np.uint32) << 16
    error = wide.view(np.float32).reshape(child.shape) - child.astype(np.float32)
    assert np.square(error).mean() < 0.02 * np.square(child.astype(np.float32)).mean()


def test_a_parent_that_shares_nothing_is_named(tmp_path: Path) -> None:
    pack_checkpoint({"other": WEIGHT}, tmp_path / "x.lac", bits=3.0)
    report = pack_checkpoint({"w": WEIGHT}, tmp_path / "y.lac", bits=3.0, parent=tmp_path / "x.lac")
    assert report.notes[0].startswith("no tensor is stored as what differs from the parent")


def test_a_file_that_readers_refuse_is_said_to_be_so(tmp_path: Path) -> None:
    """Nine million zeros take some kB of the file, and 72 MB to read."""
    arrays = {"w": np.zeros((3000, 3000)), "v": WEIGHT}
    report = pack_checkpoint(arrays, tmp_path / "x.lac", lossless=True)
    (note,) = report.notes
    assert note.startswith("readers who do not trust the file refuse 1 tensor, the first 'w': ")
    with pytest.raises(LimitError):
        pack.open(tmp_path / "x.lac")["w"]


def large_matrix() -> AnyArray:
    """4.2 million bfloat16 weights, from few random numbers."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    some = np.random.default_rng(0).normal(size=(256, 1024)).astype(np.float32)
    return np.tile(some, (16, 1)).astype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("bits", [16.0, 20.0, 40.0])
def test_rates_near_the_original(bits: float, tmp_path: Path) -> None:
    """A sample's entropy does not reach them; above what the tensor takes bit for bit it is exact."""
    report = pack_checkpoint({"w": WEIGHT, "small": WEIGHT[:16, :27]}, tmp_path / "x.lac", bits=bits)
    found = pack.open(tmp_path / "x.lac")["w"]
    error = np.square(found - WEIGHT, dtype=np.float64).mean() / np.square(WEIGHT, dtype=np.float64).mean()
    if bits == 40.0:
        assert all(row.form == "exact float32" for row in report.tensors)
        assert np.array_equal(found, WEIGHT)
    else:
        assert report.bits_per_weight == pytest.approx(bits, rel=0.05)
        assert math.sqrt(error) < 4 * 2.0**-bits


@pytest.mark.parametrize("limit", [17.0, 20.0, 26.0, 40.0])
def test_a_limit_near_the_original_is_kept(limit: float, tmp_path: Path) -> None:
    report = pack_checkpoint({"w": WEIGHT, "v": WEIGHT[:99] * 2}, tmp_path / "x.lac", max_bits=limit)
    assert report.bits_per_weight <= limit
    assert report.bits_per_weight > min(limit, 25.0) - 1.5
    if limit == 40.0:
        assert np.array_equal(pack.open(tmp_path / "x.lac")["w"], WEIGHT)


def test_a_step_that_leaves_no_weight_names_the_tensor(tmp_path: Path) -> None:
    """Zeros in place of a tensor's weights are no rounding that anyone asks for."""
    w = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    for kind in (np.float32, np.float16):
        with pytest.raises(InputError, match=r"^tensor 'w': a step of 1e\+30 .* to zero. Cure: a smaller"):
            pack_checkpoint({"w": w.astype(kind)}, tmp_path / "x.lac", step=1e30)
    assert not (tmp_path / "x.lac").exists()
    pack_checkpoint({"w": w}, tmp_path / "x.lac", step=2.0)


def test_a_step_that_is_too_small_names_the_tensor_once(tmp_path: Path) -> None:
    far = np.zeros((1100, 1100), np.float32)
    far[0, 0] = 1.0
    with pytest.raises(InputError, match=r"^tensor 'w': a step of \S+ is too small .* Cure: a larger step"):
        pack_checkpoint({"w": far}, tmp_path / "x.lac", step=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_weights_on_a_grid_of_their_own_are_exact(kind: type[np.floating], tmp_path: Path) -> None:
    """Ternary, constant, and a scale for each row: no error, at the entropy of the integers."""
    draw = np.random.default_rng(1)
    ternary = draw.integers(-1, 2, (256, 256)) * kind(0.037)
    rows = draw.integers(-1, 2, (64, 256)) * draw.uniform(0.1, 1, (64, 1)).astype(kind)
    arrays = {"w": ternary.astype(kind), "c": np.full((40, 50), -0.3, kind), "r": rows.astype(kind)}
    report = pack_checkpoint(arrays, tmp_path / "x.lac", bits=4.0)
    file = pack.open(tmp_path / "x.lac")
    for name, array in arrays.items():
        assert np.array_equal(file[name], array), name
    found = {row.name: row for row in report.tensors}
    assert 8 * found["w"].bytes / ternary.size < 1.62
    assert found["c"].form == "0.00 bits, one step"
    assert found["r"].form.endswith("a step per row")
    assert all(row.error == 0 for row in report.tensors)


def test_an_opened_file_says_what_it_is(tmp_path: Path) -> None:
    pack_checkpoint({"w": WEIGHT}, tmp_path / "x.lac", bits=3.0)
    with pack.open(tmp_path / "x.lac") as file:
        assert repr(file) == f"TensorFile({str(tmp_path / 'x.lac')!r}, 1 tensors)"
        assert file["w"].shape == WEIGHT.shape


@pytest.mark.filterwarnings("error")
def test_a_matrix_of_denormal_numbers_is_kept_bit_for_bit(tmp_path: Path) -> None:
    tensors = {"weight": WEIGHT, "tiny": np.full((40, 50), 1e-42, np.float32)}
    packed, back = tmp_path / "m.lac", tmp_path / "back.safetensors"
    pack_checkpoint(tensors, packed, bits=3.5)
    unpack_checkpoint(packed, back)
    with SafetensorsFile(back) as found:
        assert bytes(found.read("tiny")) == tensors["tiny"].tobytes()
        assert bytes(found.read("weight")) != WEIGHT.tobytes()
