"""Inputs and outputs by name, several free axes, and sizes that only a call tells, in the runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from laconic.cost.counting import count
from laconic.errors import CorruptFileError, InputError, LimitError
from laconic.pack import decode, encode, write
from laconic.pack.graph.ops import make_node
from laconic.records import AnyArray, Graph, Node, PackedModel, RawTensor, ValueSpec
from laconic.runtime import Network, calibrate, emulate, export_onnx, load
from laconic.runtime.facts.float32_facts import network_facts

IDS = ValueSpec("float32", (None, None, 3), "ids", ("batch", "time"))
MASK = ValueSpec("float32", (None, None, 1), "mask", ("batch", "time"))
WEIGHT = RawTensor("w", np.arange(6, dtype=np.float32).reshape(2, 3))


def masked(keyed: bool = True) -> PackedModel:
    """Ids * mask, and a linear layer of that."""
    nodes = (make_node("mul", (0, 1)), make_node("linear", (2, -1)))
    graph = Graph((IDS, MASK), nodes, (2, 3), output_names=("masked", "logits"), keyed=keyed)
    return PackedModel((WEIGHT,), graph)


def arrays(batch: int, time: int) -> tuple[AnyArray, AnyArray]:
    rng = np.random.default_rng(batch + time)
    mask = (rng.random((batch, time, 1)) < 0.5).astype(np.float32)
    return rng.standard_normal((batch, time, 3)).astype(np.float32), mask


def test_inputs_by_position_by_name_and_mixed() -> None:
    network = load(encode(masked()))
    ids, mask = arrays(2, 5)
    wanted = {"masked": ids * mask, "logits": (ids * mask) @ WEIGHT.array.T}
    for got in (network(ids, mask), network(mask=mask, ids=ids), network(ids, mask=mask)):
        assert isinstance(got, dict) and list(got) == ["masked", "logits"]
        for name, value in wanted.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-6)
    assert [(spec.name, spec.sizes) for spec in network.inputs] == [
        ("ids", ("batch", "time", 3)),
        ("mask", ("batch", "time", 1)),
    ]
    assert (network.outputs, network.output_names) == (2, ("masked", "logits"))


def test_a_network_that_is_not_keyed_returns_a_tuple() -> None:
    got = Network.from_packed(masked(keyed=False))(*arrays(1, 2))
    assert isinstance(got, tuple) and len(got) == 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda n, x, m: n(x, maks=m), "'maks' is no input; the network's inputs are, in order: ids, mask"),
        (lambda n, x, m: n(x, ids=m), "'ids' was given by position already"),
        (lambda n, x, m: n(ids=x), "input 'mask' is missing"),
        (lambda n, x, m: n(x), r"takes 2 inputs \(ids, mask\), got 1"),
        (
            lambda n, x, m: n(x, m[:1]),
            r"shape \(batch, time, 1\).*batch is 2 in input 'ids'",
        ),
        (lambda n, x, m: n(x, m[:, :4]), r"got \(2, 4, 1\) \(time is 5 in input 'ids'\). Cure"),
        (
            lambda n, x, m: n(x[..., :2], m),
            r"input 'ids' must have shape \(batch, time, 3\), got \(2, 5, 2\)",
        ),
        (lambda n, x, m: n(x.astype(np.float64), m), "input 'ids' must be float32, got float64"),
    ],
)
def test_wrong_calls_are_named(call: Callable[[Network, AnyArray, AnyArray], object], text: str) -> None:
    network = Network.from_packed(masked())
    with pytest.raises(InputError, match=text):
        call(network, *arrays(2, 5))


def test_onnx_has_the_names(tmp_path: Path) -> None:
    write(tmp_path / "m.lac", masked())
    export_onnx(tmp_path / "m.lac", tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto)
    assert [v.name for v in proto.graph.input] == ["ids", "mask"]
    assert [v.name for v in proto.graph.output] == ["masked", "logits"]
    assert [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == [
        "batch", "time", 3,
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    ids, mask = arrays(2, 5)
    (found,) = session.run(["masked"], {"ids": ids, "mask": mask})
    np.testing.assert_array_equal(found, ids * mask)


def test_names_that_tensors_have_already() -> None:
    """A tensor keeps its name in ONNX; the network is still called by the file's."""
    spec = ValueSpec("float32", (None, 3), "w")
    graph = Graph((spec,), (make_node("linear", (0, -1)),), (1,), output_names=("w",), keyed=True)
    network = Network.from_packed(PackedModel((WEIGHT,), graph))
    got = network(w=np.ones((1, 3), np.float32))
    assert isinstance(got, dict)
    np.testing.assert_allclose(got["w"], [[3, 12]])


# --- sizes ---------------------------------------------------------------------------------------


def sized() -> PackedModel:
    """A layer on merged axes, and positions: reshape, expand and slice to sizes that a call tells."""
    nodes = (
        make_node("size", (0,), axis=0),  # 1
        make_node("size", (0,), axis=1),  # 2
        make_node("reshape", (0,), shape=(-1, 3)),  # 3
        make_node("linear", (3, -1)),  # 4
        make_node("reshape", (4, 1, 2), shape=(-2, -2, 2)),  # 5
        make_node("floor_divide", (2, -2)),  # 6
        make_node("slice", (5, None, 6), axis=1),  # 7
        make_node("arange", (6,)),  # 8
        make_node("cast", (8,), to="float32"),  # 9
        make_node("expand", (9, 1, 6), shape=(-2, -2)),  # 10
    )
    tensors = (WEIGHT, RawTensor("two", np.asarray(2, np.int64)))
    return PackedModel(tensors, Graph((IDS,), nodes, (7, 10)))


def expected(x: AnyArray) -> tuple[AnyArray, AnyArray]:
    half = x.shape[1] // 2
    return (x @ WEIGHT.array.T)[:, :half], np.tile(np.arange(half, dtype=np.float32), (x.shape[0], 1))


@pytest.mark.parametrize("shape", [(1, 5, 3), (2, 1, 3), (3, 8, 3)])
def test_sizes_that_a_call_tells(shape: tuple[int, int, int]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    got = load(encode(sized()))(x)
    for a, b in zip(got, expected(x), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_facts_at_one_shape() -> None:
    model = decode(encode(sized()))
    facts = network_facts(model, 0, shapes=[(2, 7, 3)])
    assert [facts.values[k].shape for k in (4, 5, 7, 8, 10)] == [(14, 2), (2, 7, 2), (2, 3, 2), (3,), (2, 3)]
    assert facts.ops[0].op == "size" and facts.ops[0].folded and len(facts.tensors) == 2
    assert count(facts).macs == 14 * 6
    with pytest.raises(InputError, match=r"free axes are batch, time.*shapes=.*\(batch, time, 3\)"):
        network_facts(model, 0, batch=2)
    with pytest.raises(InputError, match="one size of at least 1 for each free axis"):
        network_facts(masked(), 0, shapes=[(2, 7, 3), (2, 6, 1)])


def test_int8_goes_through_a_reshape_to_free_sizes() -> None:
    """The layer behind it is in integers, in the emulation as in the runtime."""
    first = sized()
    graph = first.graph or Graph((), (), ())
    nodes = (*graph.nodes, make_node("linear", (7, -3)))
    weights = RawTensor("v", np.float32([[1, -1], [0.5, 0.25]]))
    model = PackedModel((*first.tensors, weights), Graph(graph.inputs, nodes, (11,)))
    rng = np.random.default_rng(1)
    ready = calibrate(model, [(rng.standard_normal((4, 6, 3)).astype(np.float32),)])
    device = emulate(encode(ready))
    assert not [name for name in device.float_steps if name.startswith(("linear", "reshape", "slice"))]
    x = rng.standard_normal((2, 9, 3)).astype(np.float32)
    exact, small = Network.from_packed(model)(x), load(encode(ready), precision="int8")(x)
    scale = float(np.abs(exact).max())
    assert float(np.abs(small - exact).max()) < 0.05 * scale
    assert float(np.abs(small - np.asarray(device(x))).max()) < 0.02 * scale


def hostile(*nodes: Node, shape: tuple[int | None, ...] = (None, 4)) -> bytes:
    spec = ValueSpec("float32", shape, "x", ("batch",) if None in shape else ())
    number = RawTensor("n", np.asarray(2**60, np.int64))
    return encode(PackedModel((number,), Graph((spec,), nodes, (len(nodes),))))


@pytest.mark.parametrize(
    "data",
    [
        hostile(make_node("arange", (-1,))),  # 2^60 numbers
        hostile(
            make_node("size", (0,), axis=0),
            make_node("mul", (1, -1)),
            make_node("arange", (2,)),
            shape=(2, 4),
        ),
        hostile(make_node("reshape", (0,), shape=(-2,))),  # a size that is not given
        hostile(make_node("size", (0,), axis=0), make_node("reshape", (0, 1), shape=(-1,))),
        hostile(make_node("size", (0,), axis=9)),
        hostile(make_node("reshape", (0, 0), shape=(-2,))),  # a size with dimensions
    ],
)
def test_hostile_sizes_are_refused(data: bytes) -> None:
    with pytest.raises((CorruptFileError, LimitError)):
        load(data)


def test_a_division_by_nothing_is_by_one() -> None:
    """A processor would trap."""
    whole = ValueSpec("int64", (None,), "x", ("batch",))
    nodes = (make_node("floor_divide", (0, -1)), make_node("remainder", (0, -2)))
    tensors = (RawTensor("zero", np.asarray(0, np.int64)), RawTensor("three", np.asarray(3, np.int64)))
    network = load(encode(PackedModel(tensors, Graph((whole,), nodes, (1, 2)))))
    quotient, rest = network(np.array([-7, 0, 7]))
    assert quotient.tolist() == [-7, 0, 7] and rest.tolist() == [2, 0, 1]


def test_the_free_size_is_ambiguous_where_there_are_two() -> None:
    graph = Graph((IDS,), (make_node("expand", (-1,), shape=(-1, 2, 3)),), (1,))
    with pytest.raises(CorruptFileError, match="its inputs have several"):
        Network.from_packed(PackedModel((WEIGHT,), graph))
