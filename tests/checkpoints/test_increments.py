"""What is stored against a parent keeps the rate that is asked for, and its error is the true one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.checkpoints import pack_checkpoint
from laconic.records import AnyArray, IntTensor, PackedModel

WEIGHT = np.random.default_rng(0).normal(size=(64, 128)).astype(np.float32)


def true_error(found: AnyArray, wanted: AnyArray) -> float:
    """Root mean square of the errors over that of the values."""
    difference = found.astype(np.float64) - wanted
    return float(np.sqrt(np.square(difference).mean() / np.square(wanted.astype(np.float64)).mean()))


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize(
    ("factor", "rate", "most"),
    [
        (0.1, {"bits": 4.0}, 0.09),  # on the parent's grid: all zero
        (1.0, {"bits": 12.0}, 0.001),  # on the parent's grid: 0.3
        (1.0, {"step": 0.01}, 0.004),
        (1.0, {"max_bits": 8.0}, 0.006),
        (1.0, {"max_bytes": 6000}, 0.04),
    ],
)
def test_a_coarser_parent_lowers_no_rate(
    tmp_path: Path, kind: str, factor: float, rate: dict[str, float], most: float
) -> None:
    old, new = tmp_path / "old.lac", tmp_path / "new.lac"
    weight = WEIGHT.astype(kind)
    pack_checkpoint({"w": weight}, old, bits=2.0)
    wanted = (factor * weight).astype(kind)
    report = pack_checkpoint({"w": wanted}, new, parent=old, **rate)
    error = true_error(pack.open(new, parent=old)["w"], wanted)
    assert error < most
    if kind == "float32":  # what float16 rounds back to the very value is not in the sampled error
        assert report.tensors[0].error == pytest.approx(error, rel=0.1)


def test_a_finer_parent_is_used_and_its_error_reported(tmp_path: Path) -> None:
    old, new = tmp_path / "old.lac", tmp_path / "new.lac"
    pack_checkpoint({"w": WEIGHT}, old, bits=6.0)
    near = WEIGHT.copy()
    near[0, :3] += np.float32(1)
    for wanted, form in ((WEIGHT, "as in the parent"), (near, "added to the parent")):
        report = pack_checkpoint({"w": wanted}, new, bits=4.0, parent=old)
        assert report.tensors[0].form == form
        error = true_error(pack.open(new, parent=old)["w"], wanted)
        assert report.tensors[0].error == pytest.approx(error, rel=1e-6)
        assert error < 0.02


def test_integers_of_a_parent_that_leave_the_range_are_not_added_to(tmp_path: Path) -> None:
    """Differences from integers near -2^31 would not fit in 32 bits."""
    old, new = tmp_path / "old.lac", tmp_path / "new.lac"
    pack_checkpoint({"w": WEIGHT}, old, bits=3.96)
    tensor = pack.open(old).tensor("w")
    assert isinstance(tensor, IntTensor)
    pack.write(old, PackedModel((replace(tensor, integers=np.full_like(tensor.integers, -(2**31) + 1)),)))
    pack_checkpoint({"w": WEIGHT}, new, bits=4.0, parent=old)
    assert true_error(pack.open(new, parent=old)["w"], WEIGHT) < 0.1


@pytest.mark.parametrize("kept", ["a", "b"])
def test_a_tensor_that_is_kept_is_no_alias_of_a_rounded_one(tmp_path: Path, kept: str) -> None:
    """The other way round one copy is enough: exact values serve both."""
    vector = WEIGHT[0]
    report = pack_checkpoint({"a": vector, "b": vector.copy()}, tmp_path / "k.lac", bits=3.0, keep=[kept])
    assert pack.open(tmp_path / "k.lac")[kept].tobytes() == vector.tobytes()
    assert report.aliases == ({"b": "a"} if kept == "a" else {})
