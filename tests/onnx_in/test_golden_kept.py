"""A golden file that keeps an ONNX graph: the model comes back byte for byte, in a plain decoder, too."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from laconic.pack import read
from laconic.runtime.onnx_model.kept import kept_in, restored
from tests.helpers.onnx_files import run
from tests.helpers.plain_decoder import plain_decode
from tests.helpers.plain_onnx import plain_restored

GOLDEN = Path(__file__).parents[1] / "pack" / "golden" / "kept.lac"
MODEL = "4968e1232a283080e20f278a23170bcd78a412b4c1c87afe0fd9216a0ca3bcf7"
"""SHA-256 of the restored ONNX model."""


def test_the_model_comes_back_byte_for_byte() -> None:
    assert sha256(restored(read(GOLDEN))).hexdigest() == MODEL


def test_the_plain_decoder_restores_it() -> None:
    tensors, aliases = plain_decode(GOLDEN.read_bytes())
    assert not aliases
    assert sha256(plain_restored(tensors)).hexdigest() == MODEL


def test_the_plain_decoder_sees_another_weight() -> None:
    """The comparison above can fail."""
    tensors, _ = plain_decode(GOLDEN.read_bytes())
    tensors[0].values[0] += 0.125
    assert sha256(plain_restored(tensors)).hexdigest() != MODEL


def test_what_is_in_it() -> None:
    """Weights of every type that a kept model may have, a constant that stays in the graph, and a run."""
    model = onnx.load_from_string(restored(read(GOLDEN)))
    types = {t.name: t.data_type for t in model.graph.initializer}
    assert types == {"h": 10, "b": 16, "d": 11, "w": 1, "shift": 1}
    stored = {t.name: t.values() for t in read(GOLDEN).tensors}
    assert set(stored) == {"h", "b", "d", "w", "@onnx"}
    assert kept_in(read(GOLDEN)) is not None
    for each in model.graph.initializer:
        if each.name in ("h", "d", "w"):
            values = stored[each.name].astype(numpy_helper.to_array(each).dtype)
            np.testing.assert_array_equal(numpy_helper.to_array(each), values)
    (y,) = run(restored(read(GOLDEN)), np.eye(8, dtype=np.float32))
    assert y.shape == (8, 8) and np.isfinite(y).all() and y.std() > 0.01
