"""Whole files: round trips, canonical bytes, names, aliases, the layout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import InputError
from laconic.pack import coded_bytes, decode, encode, estimate_bits, layout, measure_bits
from laconic.pack.wire.names import get_names, put_names
from laconic.records import Codebook, Graph, IntTensor, Node, PackedModel, RawTensor, UniformGrid, ValueSpec
from laconic.varint import Reader, Writer
from tests.pack.strategies import assert_same, models

WEIGHTS = np.array([[0, 1, 0], [0, -1, 2]], np.int32)


def small_model() -> PackedModel:
    """Every kind of section in one file."""
    graph = Graph((ValueSpec("float32", (None, 3)),), (Node("linear", (0, -1, -2)),), (1,))
    return PackedModel(
        (
            IntTensor("fc.weight", WEIGHTS, UniformGrid(0.5)),
            IntTensor("fc.bias", np.array([0, 1], np.int32), Codebook((-0.25, 0.75))),
            RawTensor("scale", np.array([1.5, -2.0], np.float32)),
        ),
        graph,
        {"head.weight": "fc.weight"},
    )


@settings(max_examples=150, deadline=None)
@given(models())
def test_every_model_comes_back(model: PackedModel) -> None:
    data = encode(model)
    assert_same(model, decode(data))
    assert encode(decode(data)) == data
    assert sum(row.bytes for row in layout(data)) == len(data)


def test_graph_and_aliases_come_back() -> None:
    assert_same(small_model(), decode(encode(small_model())))


def test_the_same_model_gives_the_same_bytes() -> None:
    reordered = replace(small_model(), aliases={"b": "fc.bias", "a": "fc.bias"})
    again = replace(small_model(), aliases={"a": "fc.bias", "b": "fc.bias"})
    assert encode(reordered) == encode(again)


def test_no_tensors_at_all() -> None:
    assert decode(encode(PackedModel(()))).tensors == ()


def test_decoded_arrays_can_be_written_to() -> None:
    for tensor in decode(encode(small_model())).tensors:
        array = tensor.array if isinstance(tensor, RawTensor) else tensor.integers
        assert array.flags.writeable
        assert array.flags.c_contiguous


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (PackedModel((IntTensor("w", WEIGHTS, UniformGrid(1.0)),) * 2), "two tensors are called 'w'"),
        (PackedModel((), aliases={"a": "b"}), "refers to 'b'"),
        (
            PackedModel((IntTensor("w", WEIGHTS, UniformGrid(1.0)),), aliases={"w": "w"}),
            "also the name of a tensor",
        ),
        (PackedModel((RawTensor("w", np.zeros(2, np.complex64)),)), "'w'.*complex64"),
        (PackedModel((IntTensor("w", WEIGHTS.astype(np.int64), UniformGrid(1.0)),)), "'w'.*int64"),  # type: ignore[arg-type]
        (PackedModel((IntTensor("w", WEIGHTS, Codebook((0.0, 1.0))),)), "'w'.*-1..2.*2 levels"),
        (PackedModel((IntTensor("w", WEIGHTS, UniformGrid(2.0**127)),)), "'w'.*-1..2.*range of float32"),
        (PackedModel((RawTensor("w", np.zeros((1,) * 17)),)), "17 dimensions"),
        (PackedModel((RawTensor("\ud800", np.zeros(1)),)), "not valid Unicode"),
    ],
)
def test_what_cannot_be_written_is_named(model: PackedModel, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode(model)


def test_names_of_usual_modules_are_short() -> None:
    names = [f"{m}.{s}" for m in ("conv1", "conv2", "fc1", "fc2") for s in ("weight", "bias")]
    out = Writer()
    put_names(out, names)
    assert len(out.data) <= 20
    assert get_names(Reader(bytes(out.data), "names"), 8) == tuple(names)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True))
def test_any_names_come_back(names: list[str]) -> None:
    out = Writer()
    put_names(out, names)
    assert get_names(Reader(bytes(out.data), "names"), len(names)) == tuple(names)


def test_layout_names_every_section() -> None:
    rows = layout(encode(small_model()))
    assert [row.section for row in rows] == [
        "header",
        "graph",
        "names",
        "aliases",
        *["tensor"] * 3,
        "checksums",
    ]
    weight, bias, scale = rows[4:7]
    assert (weight.name, weight.shape, weight.weights, weight.nonzeros, weight.levels) == (
        ("fc.weight", (2, 3), 6, 3, 4)
    )
    assert bias.nonzeros == 2
    assert scale.note == "raw float32"


def test_an_idle_network_costs_tens_of_bytes() -> None:
    """The side information of LeNet-5: names, shapes, grids, tables, checksums with nothing to say."""
    shapes = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, 800), "fc2": (10, 500)}
    tensors = []
    for name, shape in shapes.items():
        tensors.append(IntTensor(f"{name}.weight", np.zeros(shape, np.int32), UniformGrid(0.5)))
        tensors.append(IntTensor(f"{name}.bias", np.zeros(shape[0], np.int32), UniformGrid(0.5)))
    assert len(encode(PackedModel(tuple(tensors)))) < 100


def test_sizes_agree_with_the_file() -> None:
    rng = np.random.default_rng(0)
    tensor = IntTensor("w", rng.choice([0, 0, 0, 1, -2], (60, 70)).astype(np.int32), UniformGrid(0.5))
    row = next(r for r in layout(encode(PackedModel((tensor,)))) if r.section == "tensor")
    assert abs(coded_bytes(tensor) - row.bytes) <= 2
    assert abs(measure_bits(tensor.integers) / 8 - row.bytes) <= 2
    assert measure_bits(tensor.integers) >= estimate_bits(tensor.integers) * 0.99
