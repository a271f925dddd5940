"""Random models for the tests of this room."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
from hypothesis import strategies as st

from laconic.records import (
    Codebook,
    Grid,
    HashedTensor,
    IntTensor,
    PackedModel,
    ProductTensor,
    RandomCodeTensor,
    RawTensor,
    Tensor,
    UniformGrid,
)

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


def _grid_of_channels(draw: st.DrawFn, shape: tuple[int, ...]) -> Grid:
    """A grid with numbers of its own for each index of some axis."""
    axis = draw(st.integers(0, len(shape) - 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        return UniformGrid(tuple(float(s) for s in rng.choice([0.5, 0.25, 3.0], shape[axis])), axis)
    books = (np.unique(rng.normal(0, 1, rng.integers(1, 5)).astype(np.float32)) for _ in range(shape[axis]))
    return Codebook(tuple(tuple(book.tolist()) for book in books), axis)


@st.composite
def integer_tensors(draw: st.DrawFn, name: str) -> IntTensor:
    """An integer tensor on any grid."""
    kind = draw(st.sampled_from(["uniform", "codebook", "channels"]))
    if kind == "uniform":
        step = draw(st.sampled_from([1.0, 0.5, float(np.float32(0.1)), float(np.float32(1e-30))]))
        return IntTensor(name, draw(integer_arrays()), UniformGrid(step))
    if kind == "codebook":
        levels = draw(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=9, unique=True))
        array = draw(integer_arrays(0, len(levels) - 1))
        return IntTensor(name, array, Codebook(tuple(sorted(v + 0.0 for v in levels))))
    array = draw(integer_arrays(0, 0).filter(lambda a: a.ndim > 0))
    return IntTensor(name, array, _grid_of_channels(draw, array.shape))


def _part(draw: st.DrawFn, shape: tuple[int, ...]) -> IntTensor | RawTensor:
    """A small float32 tensor of this shape, in either form."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        return RawTensor("", rng.normal(0, 1, shape).astype(np.float32))
    return IntTensor("", rng.integers(-3, 4, shape).astype(np.int32), UniformGrid(0.25))


@st.composite
def made_tensors(draw: st.DrawFn, name: str) -> Tensor:
    """A tensor of another kind."""
    kind = draw(st.sampled_from(["hashed", "codes", "product"]))
    seed = draw(st.sampled_from([0, 1, 2**63, 2**64 - 1]))
    shape = draw(SHAPES)
    if kind == "hashed":
        return HashedTensor(name, shape, seed, _part(draw, (draw(st.integers(1, 9)),)))
    if kind == "product":
        rows, rank, columns = draw(st.tuples(*[st.integers(0, 5)] * 3))
        return ProductTensor(name, _part(draw, (rows, rank)), _part(draw, (rank, columns)))
    block = draw(st.integers(1, 9))
    blocks = -(-math.prod(shape) // block)
    indices = np.random.default_rng(seed).integers(0, draw(st.sampled_from([1, 300, 2**31 - 1])), blocks)
    scales = draw(st.sampled_from([(0.5,), (0.0,), (float(np.float32(0.1)),) * (shape[0] if shape else 1)]))
    scales = scales if len(scales) in (1, shape[0] if shape else 1) else (1.0,)
    codes = IntTensor("", indices.astype(np.int32), UniformGrid(1.0))
    return RandomCodeTensor(name, shape, seed, block, codes, scales or (1.0,))


@st.composite
def tensors(draw: st.DrawFn, name: str) -> Tensor:
    """An integer tensor, a raw tensor of any stored type, or one of another kind."""
    kind = draw(st.sampled_from(["integers", "integers", "raw", "made"]))
    if kind == "integers":
        return draw(integer_tensors(name))
    if kind == "made":
        return draw(made_tensors(name))
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
        assert_same_tensor(a, b)


def assert_same_tensor(a: Tensor, b: Tensor) -> None:
    """Two tensors agree in all that is stored, bit for bit."""
    assert type(a) is type(b)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    for field in fields(a):
        one, two = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            assert (one.shape, one.dtype, one.tobytes()) == (two.shape, two.dtype, two.tobytes())
        elif isinstance(one, Tensor):
            assert_same_tensor(one, two)
        else:
            assert one == two
    assert a.values().tobytes() == b.values().tobytes()
