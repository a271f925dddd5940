"""Decoding needs numpy, nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.fresh import run_fresh

GOLDEN = Path(__file__).parent / "golden"


def test_a_file_decodes_where_importing_torch_raises() -> None:
    said = run_fresh(
        f"""
import numpy as np, sys
from laconic.pack import layout, read
model = read({str(GOLDEN / "lenet5_sparse.lac")!r})
arrays = np.load({str(GOLDEN / "lenet5_sparse.npz")!r})
print(all(np.array_equal(t.integers, arrays[t.name]) for t in model.tensors))
print(sum(row.bytes for row in layout(open({str(GOLDEN / "lenet5_sparse.lac")!r}, "rb").read())))
""",
        without_torch=True,
    )
    assert said.split() == ["True", str((GOLDEN / "lenet5_sparse.lac").stat().st_size)]


def test_importing_the_room_is_light() -> None:
    said = run_fresh(
        """
import sys
before = set(sys.modules)
import numpy
import laconic.pack
heavy = {"torch", "onnx", "onnxruntime", "google", "scipy", "matplotlib"}
print(sorted({name.partition(".")[0] for name in sys.modules} & heavy))
"""
    )
    assert said.strip() == "[]"
