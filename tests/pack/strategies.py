"""Random models for the tests of this room."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from laconic.records import Codebook, IntTensor, PackedModel, RawTensor, Tensor, UniformGrid

NAMES = st.lists(
    st.one_of(
        st.from_regex(r"[a-z0-9]{1,4}(\.[a-z0-9]{1,4}){0,2}\.(weight|bias|running_mean)", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    ),
    max_size=6,
    unique=True,
)
SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple)
RAW_TYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")


@st.composite
def integer_arrays(draw: st.DrawFn, low: int = -(2**31), high: int = 2**31 - 1) -> np.ndarray:
    """Sparse, dense, constant and wild arrays of any shape."""
    shape = draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    span = draw(st.sampled_from([0, 1, 3, 200, 5000, 2**32]))
    lowest = draw(st.integers(low, high))
    highest = min(high, lowest + span)
    values = rng.integers(lowest, highest, shape, endpoint=True)
    background = draw(st.integers(lowest, highest))
    keep = rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return np.ascontiguousarray(np.where(keep, values, background), dtype=np.int32).reshape(shape)


@st.composite
def tensors(draw: st.DrawFn, name: str) -> Tensor:
    """An integer tensor on either grid, or a raw tensor of any stored type."""
    kind = draw(st.sampled_from(["uniform", "codebook", "raw"]))
    if kind == "uniform":
        step = draw(st.sampled_from([1.0, 0.5, float(np.float32(0.1)), float(np.float32(1e-30))]))
        return IntTensor(name, draw(integer_arrays()), UniformGrid(step))
    if kind == "codebook":
        levels = draw(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=9, unique=True))
        array = draw(integer_arrays(0, len(levels) - 1))
        return IntTensor(name, array, Codebook(tuple(sorted(v + 0.0 for v in levels))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(RAW_TYPES))
    return RawTensor(name, np.asarray(rng.normal(0, 50, draw(SHAPES))).astype(dtype))


@st.composite
def models(draw: st.DrawFn) -> PackedModel:
    """A weights-only model of a few tensors, the last names being aliases of the first."""
    names = draw(NAMES)
    held = names[: len(names) - len(names) // 3]
    packed = tuple(draw(tensors(name)) for name in held)
    return PackedModel(packed, None, {alias: draw(st.sampled_from(held)) for alias in names[len(held) :]})


def assert_same(one: PackedModel, two: PackedModel) -> None:
    """Every field of two models agrees, bit for bit."""
    assert one.graph == two.graph
    assert dict(one.aliases) == dict(two.aliases)
    assert [t.name for t in one.tensors] == [t.name for t in two.tensors]
    for a, b in zip(one.tensors, two.tensors, strict=True):
        assert type(a) is type(b)
        array, other = (t.array if isinstance(t, RawTensor) else t.integers for t in (a, b))
        assert array.shape == other.shape
        assert array.dtype == other.dtype
        assert array.tobytes() == other.tobytes()
        if isinstance(a, IntTensor) and isinstance(b, IntTensor):
            assert a.grid == b.grid
