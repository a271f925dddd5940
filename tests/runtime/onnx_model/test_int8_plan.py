"""int8 in the runtime: what the graph says, what it costs, and how near it stays to float32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import laconic
from laconic import pack
from laconic.errors import InputError
from laconic.pack.graph.ops import make_node
from laconic.records import ActivationRange, Graph, PackedModel, RawTensor, ValueSpec
from laconic.runtime import Network, export_onnx, load, to_onnx
from tests.runtime.conftest import Digits

F32 = np.float32


def kinds(model: PackedModel) -> list[str]:
    return [node.op_type for node in to_onnx(model, "int8").graph.node]


def test_digits_keep_their_accuracy_in_a_quarter_of_the_memory(digits: Digits) -> None:
    plain, int8 = Network.from_packed(digits.plain, 1), Network.from_packed(digits.ready, 1)
    one, two = np.asarray(plain(digits.test)), np.asarray(int8(digits.test))
    assert (
        abs(float((one.argmax(1) == digits.labels).mean() - (two.argmax(1) == digits.labels).mean())) < 0.01
    )
    assert 0 < np.abs(one - two).max() < 0.1 * np.abs(one).max()
    assert int8.nbytes < 0.35 * plain.nbytes


def test_layers_get_int8_weights_and_all_values_between_are_rounded(digits: Digits) -> None:
    proto = to_onnx(digits.ready, "int8")
    types = {t.name: t.data_type for t in proto.graph.initializer}
    made = {out: node for node in proto.graph.node for out in node.output}
    for node in proto.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            x, weight = made[node.input[0]], made[node.input[1]]
            assert x.op_type == weight.op_type == "DequantizeLinear"
            assert types[weight.input[0]] == onnx.TensorProto.INT8
    assert [n.op_type for n in proto.graph.node][-2:] == ["Gemm", "Identity"]  # outputs stay float32
    onnx.checker.check_model(proto, full_check=True)


def test_precision_chooses(digits: Digits) -> None:
    data, plain = pack.encode(digits.ready), pack.encode(digits.plain)
    x = digits.test[:20]
    wanted = load(plain, threads=1)(x)
    assert np.array_equal(load(data, threads=1, precision="fp32")(x), wanted)
    int8 = load(data, threads=1, precision="int8")(x)
    assert not np.array_equal(int8, wanted)
    network = load(data, threads=1)
    assert np.array_equal(network(x), int8 if network.notes[0].startswith("int8:") else wanted)
    with pytest.raises(InputError, match=r"this file holds none. Cure: .*calibrate=loader.*--int8"):
        load(plain, precision="int8")
    with pytest.raises(InputError, match="precision must be 'auto', 'fp32' or 'int8'"):
        load(plain, precision="int4")  # type: ignore[arg-type]


def test_ranges_take_six_bytes_each_and_nothing_when_absent(digits: Digits) -> None:
    assert digits.ready.graph is not None
    more = len(pack.encode(digits.ready)) - len(pack.encode(digits.plain))
    assert more <= 1 + 6 * len(digits.ready.graph.ranges)


def test_export_in_either_precision(digits: Digits, tmp_path: Path) -> None:
    lac, target = tmp_path / "m.lac", tmp_path / "m.onnx"
    pack.write(lac, digits.ready)
    export_onnx(lac, target)
    assert "QuantizeLinear" not in {n.op_type for n in onnx.load(target).graph.node}
    export_onnx(lac, target, precision="int8")
    assert "QuantizeLinear" in {n.op_type for n in onnx.load(target).graph.node}
    pack.write(lac, digits.plain)
    with pytest.raises(InputError, match="holds none"):
        export_onnx(lac, target, precision="int8")


def test_layers_that_int8_does_not_reach_stay_float32() -> None:
    """Transposed convolutions, and layers whose input has no range."""
    weight = RawTensor("w", np.ones((3, 3), F32))
    nodes = (make_node("linear", (0, -1)), make_node("tanh", (1,)), make_node("linear", (2, -1)))
    graph = Graph((ValueSpec("float32", (None, 3)),), nodes, (3,), (ActivationRange(0, 0.5, 0),))
    assert kinds(PackedModel((weight,), graph)).count("QuantizeLinear") == 1
    x = np.arange(3, dtype=F32)[None]
    assert np.allclose(Network.from_packed(PackedModel((weight,), graph), 1)(x), 3 * np.tanh(3), atol=1e-5)


def test_a_linear_layer_on_more_than_a_matrix() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 3)).astype(F32), rng.normal(size=4).astype(F32)
    graph = Graph(
        (ValueSpec("float32", (None, 5, 3)),),
        (make_node("linear", (0, -1, -2)), make_node("relu", (1,)), make_node("neg", (2,))),
        (3,),
        (ActivationRange(0, float(F32(4 / 127)), 0), ActivationRange(2, float(F32(10 / 255)), -128)),
    )
    x = rng.normal(size=(2, 5, 3)).astype(F32)
    got = Network.from_packed(PackedModel((RawTensor("w", weight), RawTensor("b", bias)), graph), 1)(x)
    assert np.abs(-np.maximum(x @ weight.T + bias, 0) - got).max() < 0.08


@pytest.mark.parametrize("pads", [(1, 1), (1, 2, 0, 1), (0, 0, 0, 0, 1, 2)])
def test_padding_between_int8_layers(pads: tuple[int, ...]) -> None:
    """Pads as PyTorch writes them (from the last axis backwards), of any number of axes."""
    rng = np.random.default_rng(0)
    channels = 4 + (sum(pads[4:6]) if len(pads) > 4 else 0)
    first, second = (
        rng.normal(size=(4, 3, 1, 1)).astype(F32),
        rng.normal(size=(2, channels, 1, 1)).astype(F32),
    )
    nodes = (make_node("conv", (0, -1)), make_node("pad", (1,), pads=pads), make_node("conv", (2, -2)))
    ranges = (ActivationRange(0, float(F32(4 / 127)), 0), ActivationRange(1, float(F32(8 / 127)), 0))
    graph = Graph((ValueSpec("float32", (None, 3, 6, 6)),), nodes, (3,), ranges)
    model = PackedModel((RawTensor("a", first), RawTensor("b", second)), graph)
    x = rng.normal(size=(2, 3, 6, 6)).astype(F32)
    got = np.asarray(Network.from_packed(model, 1)(x))
    plain = np.asarray(
        Network.from_packed(PackedModel(model.tensors, Graph(graph.inputs, nodes, (3,))), 1)(x)
    )
    assert got.shape == plain.shape
    assert np.abs(got - plain).max() < 0.3


def test_padding_that_is_no_zeros_stays_what_it_is(tmp_path: Path) -> None:
    """A reflected border beside a border of zeros: the first has no integer kernel."""
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ReflectionPad2d(2), nn.ZeroPad2d(1), nn.Conv2d(8, 4, 3))
    torch.manual_seed(0)
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 10 * 10, 5)).eval()
    x = torch.randn(16, 3, 8, 8)
    laconic.save(laconic.quantize_activations(net, [x]), tmp_path / "m.lac")
    right = net(x).detach().numpy()
    got = load(tmp_path / "m.lac", threads=1, precision="int8")(x.numpy())
    assert np.abs(got - right).max() < 0.03 * np.abs(right).max()


def test_a_layer_without_a_range_is_named(digits: Digits) -> None:
    graph = digits.ready.graph
    assert graph is not None
    assert not [line for line in Network.from_packed(digits.ready, 1).layers if "range" in line.reason]
    fewer = replace(digits.ready, graph=replace(graph, ranges=graph.ranges[1:]))
    named = [line for line in Network.from_packed(fewer, 1).layers if "no activation range" in line.reason]
    assert len(named) == 1 and named[0].implementation == "dense"


@pytest.mark.parametrize("slopes", [[0.3], [0.25, -0.5, 0.0, 1.5]])
def test_prelu_is_written_in_operations_that_run_fast(slopes: list[float]) -> None:
    """Positive entries as they are, others times their slope; one slope can be a table in int8."""
    slope = np.asarray(slopes, F32)
    graph = Graph((ValueSpec("float32", (None, 4)),), (make_node("prelu", (0, -1), rank=2),), (1,))
    model = PackedModel((RawTensor("s", slope),), graph)
    found = [node.op_type for node in to_onnx(model).graph.node]
    assert "PRelu" not in found and ("LeakyRelu" in found) == (len(slopes) == 1)
    x = F32([[1, 2, 3, 4], [-1, -2, -3, -4], [0, 0, 0, 0], [np.inf] * 4, [-1e30] * 4, [np.nan] * 4])
    got = np.asarray(Network.from_packed(model, 1)(x))
    with np.errstate(invalid="ignore"):  # a slope of 0 times infinity
        wanted = np.where(x > 0, x, slope * x)
    assert np.allclose(got, wanted, rtol=1e-6, equal_nan=True)
