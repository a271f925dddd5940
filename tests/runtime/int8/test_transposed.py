"""Transposed convolutions in int8: beside PyTorch's, in the runtime, emulated, and what they become."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import laconic
from laconic.errors import CorruptFileError
from laconic.export import build_packed
from laconic.pack.graph.ops import make_node
from laconic.records import ActivationRange, AnyArray, Graph, IntTensor, PackedModel, UniformGrid, ValueSpec
from laconic.runtime import Emulator, Int8, Network, Ternary, calibrate, to_onnx
from laconic.runtime.emulation import Quantised
from laconic.runtime.emulation.kernels import conv_transpose_sums
from laconic.runtime.int8.transposed import as_columns, as_phases, as_rows
from laconic.runtime.ops.windows import window_of

F32 = np.float32
GROWS: list[dict[str, Any]] = [
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": (5, 3), "stride": 3, "padding": (1, 0)},
]
ALIKE: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "groups": 2, "dilation": 2},
]
OTHERS: list[dict[str, Any]] = [
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": (4, 5), "stride": (2, 3), "padding": (0, 2), "output_padding": (1, 0)},
    {"kernel_size": 2, "stride": 3, "padding": 1, "groups": 2},
    {"kernel_size": 1, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": 2, "padding": 2},
]


def layer_of(attrs: dict[str, Any]) -> tuple[nn.ConvTranspose2d, dict[str, Any]]:
    layer = nn.ConvTranspose2d(4, 6, **attrs)
    names = ("stride", "padding", "dilation", "output_padding")
    return layer, {**{k: tuple(getattr(layer, k)) for k in names}, "groups": layer.groups}


@pytest.mark.parametrize("attrs", GROWS + ALIKE + OTHERS)
@pytest.mark.parametrize("adds_only", [False, True])
def test_sums_are_pytorchs(attrs: dict[str, Any], adds_only: bool) -> None:
    rng = np.random.default_rng(0)
    layer, given = layer_of(attrs)
    weight = rng.integers(-1 if adds_only else -127, 2 if adds_only else 128, tuple(layer.weight.shape))
    x = rng.integers(-255, 256, (2, 4, 5, 7))
    layer.weight.data = torch.from_numpy(weight.astype(np.float64))
    layer.bias = None
    wanted = layer.double()(torch.from_numpy(x.astype(np.float64))).detach().numpy()
    rows = as_rows(weight.astype(np.int8), layer.groups)
    got = conv_transpose_sums(x, rows, make_node("conv_transpose", (0, -1), **given), adds_only)
    assert np.array_equal(got, wanted)
    assert np.array_equal(as_columns(rows, layer.groups), weight)


@pytest.mark.parametrize("attrs", GROWS)
def test_phases_are_the_same_sums(attrs: dict[str, Any]) -> None:
    """The oracle: PyTorch's convolution and pixel_shuffle."""
    layer, given = layer_of(attrs)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4, 5, 7)))
    wanted = layer.double()(x) - layer.bias[:, None, None]  # type: ignore[index]
    rows = as_rows(layer.weight.detach().numpy(), 1)
    phases = as_phases(window_of(make_node("conv_transpose", (0, -1), **given), rows.ndim - 2), rows)
    assert phases is not None
    top, left, bottom, right = phases.pads
    padded = nn.functional.pad(x, (left, right, top, bottom))
    got = nn.functional.pixel_shuffle(
        nn.functional.conv2d(padded, torch.from_numpy(phases.weight)), phases.stride
    )
    assert torch.allclose(got, wanted, atol=1e-12)


@pytest.mark.parametrize("attrs", ALIKE + OTHERS)
def test_others_have_no_phases(attrs: dict[str, Any]) -> None:
    layer, given = layer_of(attrs)
    weight = layer.weight.detach().numpy()
    node = make_node("conv_transpose", (0, -1), **given)
    assert as_phases(window_of(node, weight.ndim - 2), weight) is None


class Decoder(nn.Module):
    """A convolution, a transposed one with batch norm and ReLU, and a convolution."""

    def __init__(self, attrs: dict[str, Any]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 6, **attrs)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(torch.relu(self.norm(self.up(torch.relu(self.first(x))))))
        return y


def decoder(attrs: dict[str, Any]) -> tuple[PackedModel, AnyArray]:
    torch.manual_seed(0)
    module = Decoder(attrs)
    module.norm.running_mean.copy_(torch.linspace(-0.2, 0.2, 6))  # type: ignore[union-attr, operator]
    module.norm.running_var.copy_(torch.linspace(0.05, 0.3, 6))  # type: ignore[union-attr, operator]
    x = np.random.default_rng(0).normal(size=(16, 3, 6, 7)).astype(F32)
    return calibrate(build_packed(module.eval(), {}, torch.from_numpy(x[:2]))[0], [(x,)]), x


@pytest.mark.parametrize("attrs", GROWS + ALIKE + OTHERS[:3])
def test_the_runtime_and_the_emulation_agree(attrs: dict[str, Any]) -> None:
    """They differ by how a product is rounded: a level of one value, which the last layer adds up."""
    model, x = decoder(attrs)
    assert model.graph is not None
    plain = np.asarray(Network.from_packed(_float(model), 1)(x))
    device = Emulator(model)
    assert device.float_steps == ()
    got, runtime = np.asarray(device(x)), np.asarray(Network.from_packed(model, 1)(x))
    level = model.graph.ranges[-1].scale
    assert np.abs(got - plain).max() < 0.1 * np.abs(plain).max()
    assert np.abs(got - runtime).max() < 3 * level
    assert np.abs(got - runtime).mean() < 0.5 * level
    assert np.abs(got - plain).mean() < 3 * level


def _float(model: PackedModel) -> PackedModel:
    assert model.graph is not None
    graph = Graph(model.graph.inputs, model.graph.nodes, model.graph.outputs)
    return PackedModel(model.tensors, graph)


@pytest.mark.parametrize(
    ("attrs", "kinds"),
    [
        (GROWS[0], ["Conv", "Conv", "DepthToSpace", "Conv"]),
        (ALIKE[0], ["Conv"] * 3),
        (OTHERS[0], ["Conv", "ConvTranspose", "Conv"]),
    ],
)
def test_what_they_become(attrs: dict[str, Any], kinds: list[str]) -> None:
    proto = to_onnx(decoder(attrs)[0], "int8")
    found = [n.op_type for n in proto.graph.node if n.op_type in ("Conv", "ConvTranspose", "DepthToSpace")]
    assert found == kinds
    onnx.checker.check_model(proto, full_check=True)


def test_at_the_end_of_a_network_it_leaves_in_float32_on_int8_weights() -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(16, 3, 6, 7)).astype(F32)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1)).eval()
    model = calibrate(build_packed(module, {}, torch.from_numpy(x[:2]))[0], [(x,)])
    assert model.graph is not None
    device, runtime = np.asarray(Emulator(model)(x)), np.asarray(Network.from_packed(model, 1)(x))
    assert 0 < np.abs(device - runtime).max() < 2 * model.graph.ranges[-1].scale


def test_its_cost_is_that_of_int8() -> None:
    """3 x 4 x 9 weights on 42 pixels, 4 x 6 x 16 on 42 inputs, 6 x 2 on 168 pixels; no norm is left."""
    cost = laconic.cost_of(decoder(GROWS[0])[0])
    assert cost.macs_by_bits == {(8, 8): 108 * 42 + 384 * 42 + 12 * 168}
    assert cost.weights_few_bit_bytes == 108 + 384 + 12 + 8 * (4 + 6 + 2)
    assert [layer.op for layer in cost.layers] == ["quantize", "conv", "conv_transpose", "conv", "dequantize"]


def one_layer(ranges: tuple[ActivationRange, ...]) -> PackedModel:
    weight = IntTensor("up.weight", np.resize(np.array([1, 0, -1], np.int32), (2, 1, 2, 2)), UniformGrid(0.5))
    nodes = (make_node("conv_transpose", (0, -1), stride=(2,)), make_node("neg", (1,)))
    return PackedModel((weight,), Graph((ValueSpec("float32", (None, 2, 3, 3)),), nodes, (2,), ranges))


def test_ternary_weights_are_only_added() -> None:
    model = one_layer((ActivationRange(0, 1.0, 0), ActivationRange(1, 0.5, 0)))
    x = np.random.default_rng(0).integers(-9, 10, (1, 2, 3, 3)).astype(F32)
    ternary = Emulator(model, Ternary(Int8()))
    assert ternary.multiplied == ()
    assert isinstance(ternary.trace(x)[1], Quantised)
    assert np.array_equal(np.asarray(ternary(x)), np.asarray(Network.from_packed(_float(model), 1)(x)))


def test_a_file_without_a_range_behind_it_runs_as_before() -> None:
    """What calibration wrote while transposed convolutions were float32: the very same numbers."""
    model = one_layer((ActivationRange(0, 1.0, 0),))
    x = np.arange(18, dtype=F32).reshape(1, 2, 3, 3)
    assert np.array_equal(
        np.asarray(Network.from_packed(model, 1)(x)), np.asarray(Network.from_packed(_float(model), 1)(x))
    )
    assert len(Emulator(model).float_steps) == 2


def test_groups_that_do_not_divide_are_a_wrong_file() -> None:
    with pytest.raises(CorruptFileError, match="no transposed convolution in 3 groups"):
        as_rows(np.zeros((4, 2, 3, 3)), 3)
