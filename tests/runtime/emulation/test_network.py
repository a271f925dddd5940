"""Whole networks in integer arithmetic: by hand, beside float32, beside ONNX Runtime's int8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from laconic import pack
from laconic.errors import FileFormatError, InputError, LaconicError, LimitError
from laconic.export import build_packed
from laconic.pack.graph.ops import make_node
from laconic.records import (
    ActivationRange,
    AnyArray,
    Graph,
    IntTensor,
    PackedModel,
    RawTensor,
    UniformGrid,
    ValueSpec,
)
from laconic.runtime import Emulator, Int8, Int16x8, Network, Ternary, calibrate, emulate
from laconic.runtime.emulation import Quantised
from tests.helpers import gemmlowp
from tests.helpers.networks import Block, depthwise, seeded
from tests.runtime.conftest import Digits

F32 = np.float32


def packed(module: nn.Module, x: AnyArray) -> PackedModel:
    model = build_packed(module, {}, torch.from_numpy(x[:2]))[0]
    assert model.graph is not None
    return calibrate(model, [(x,)])


def integers(values: dict[int, object], value: int) -> AnyArray:
    found = values[value]
    assert isinstance(found, Quantised)
    return found.integers


# --- by hand ------------------------------------------------------------------------------------


def test_a_small_network_equals_loops_over_python_integers() -> None:
    """Convolution, relu, max pooling, linear layer on one image: every integer by the oracle."""
    rng = np.random.default_rng(1)
    kernels, head = rng.integers(-9, 10, (2, 1, 3, 3)), rng.integers(-127, 128, (3, 8))
    bias, head_bias = F32([0.3, -0.2]), F32([0.05, -1.0, 2.0])
    step, other = float(F32(0.031)), float(F32(0.011))
    tensors = (
        IntTensor("conv.weight", kernels.astype(np.int32), UniformGrid(step)),
        RawTensor("conv.bias", bias),
        IntTensor("fc.weight", head.astype(np.int32), UniformGrid(other)),
        RawTensor("fc.bias", head_bias),
    )
    nodes = (
        make_node("conv", (0, -1, -2)),
        make_node("relu", (1,)),
        make_node("max_pool", (2,)),
        make_node("flatten", (3,)),
        make_node("linear", (4, -3, -4)),
    )
    scales = [float(F32(s)) for s in (0.02, 0.011, 0.04)]
    zeros = [-100, -128, 7]
    ranges = tuple(ActivationRange(v, s, z) for v, s, z in zip((0, 2, 5), scales, zeros, strict=True))
    graph = Graph((ValueSpec("float32", (None, 1, 6, 6)),), nodes, (5,), ranges)
    x = rng.normal(1.5, 1.2, (1, 1, 6, 6)).astype(F32)
    values = Emulator(PackedModel(tensors, graph)).trace(x)

    q = [[gemmlowp.clamp(round_away(v, scales[0]) + zeros[0], -128, 127) for v in row] for row in x[0, 0]]
    assert integers(values, 0)[0, 0].tolist() == q
    centred = [[[v - zeros[0] for v in row] for row in q]]
    by = gemmlowp.quantize_multiplier(scales[0] * step / scales[1])
    planes = []
    for o in range(2):
        offset = round(float(bias[o]) / (scales[0] * step))
        plane = [
            [
                gemmlowp.clamp(
                    gemmlowp.multiply(gemmlowp.conv_sum(centred, kernels[o].tolist(), (i, j)) + offset, *by)
                    + zeros[1],
                    zeros[1],  # relu
                    127,
                )
                for j in range(4)
            ]
            for i in range(4)
        ]
        planes.append(plane)
    assert integers(values, 2)[0].tolist() == planes
    pooled = [
        [[max(p[2 * i + a][2 * j + b] for a in (0, 1) for b in (0, 1)) for j in (0, 1)] for i in (0, 1)]
        for p in planes
    ]
    assert integers(values, 3)[0].tolist() == pooled
    flat = [v - zeros[1] for plane in pooled for row in plane for v in row]
    by = gemmlowp.quantize_multiplier(scales[1] * other / scales[2])
    for o in range(3):
        total = gemmlowp.linear_sum(flat, head[o].tolist()) + round(float(head_bias[o]) / (scales[1] * other))
        wanted = gemmlowp.clamp(gemmlowp.multiply(total, *by) + zeros[2], -128, 127)
        assert integers(values, 5)[0, o] == wanted


def round_away(x: float, scale: float) -> int:
    ratio = float(F32(x) / F32(scale))
    return int(abs(ratio) + 0.5) * (1 if ratio >= 0 else -1)


def test_saturation_at_both_ends() -> None:
    graph = Graph(
        (ValueSpec("float32", (None, 1)),),
        (make_node("linear", (0, -1)),),
        (1,),
        (ActivationRange(0, 1.0, 0), ActivationRange(1, 1.0, 0)),
    )
    net = Emulator(PackedModel((RawTensor("w", F32([[1.0], [-1.0], [64.0]])),), graph))
    got = net(F32([[1000.0], [-1000.0], [1.0]]))
    assert np.asarray(got).tolist() == [[127, -127, 127], [-128, 127, -128], [1, -1, 64]]


def test_clamp_saturates_in_integers() -> None:
    nodes = (make_node("linear", (0, -1)), make_node("clamp", (1,), low=0.0, high=6.0))
    ranges = (ActivationRange(0, 1.0, 0), ActivationRange(2, 0.25, -100))
    graph = Graph((ValueSpec("float32", (None, 1)),), nodes, (2,), ranges)
    net = Emulator(PackedModel((RawTensor("w", F32([[1.0]])),), graph))
    assert np.asarray(net(F32([[-3], [0], [5], [7], [100]]))).ravel().tolist() == [0, 0, 5, 6, 6]
    assert integers(net.trace(F32([[100.0]])), 2).item() == -100 + 24


# --- beside float32 and the runtime ----------------------------------------------------------------


def test_digits_in_every_arithmetic(digits: Digits) -> None:
    """As accurate as float32, and as near as the arithmetic's step allows; 16 bits are 100 times nearer."""
    wanted = np.asarray(Network.from_packed(digits.plain, 1)(digits.test))
    assert (wanted.argmax(1) == digits.labels).mean() > 0.95
    assert digits.ready.graph is not None
    gaps = {}
    for arithmetic in (Int8(), Int8(single_rounding=True), Int16x8(), Ternary()):
        net = emulate(digits.ready, arithmetic)
        got = np.asarray(net(digits.test))
        assert net.float_steps == ()
        assert (
            abs(float((got.argmax(1) == digits.labels).mean() - (wanted.argmax(1) == digits.labels).mean()))
            < 0.01
        )
        gaps[arithmetic] = float(np.sqrt(np.mean((got - wanted) ** 2)))
    step = digits.ready.graph.ranges[-1].scale
    assert gaps[Int8()] < 2 * step
    assert gaps[Int16x8()] < 0.6 * gaps[Int8()]  # what is left are the 8-bit weights


def test_digits_beside_the_runtimes_int8(digits: Digits) -> None:
    """ONNX Runtime multiplies in float and rounds half to even: the same but for rare single steps."""
    ours = np.asarray(emulate(digits.ready)(digits.test))
    runtime = np.asarray(Network.from_packed(digits.ready, 1)(digits.test))
    assert digits.ready.graph is not None
    step = digits.ready.graph.ranges[-1].scale
    assert np.abs(ours - runtime).max() < 2.5 * step
    assert np.abs(ours - runtime).mean() < 0.4 * step  # the runtime's outputs are not rounded: 0.25 of a step


def test_ternary_weights_are_added_only_and_equal_int8() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 12),
        nn.ReLU(),
        nn.Linear(12, 4),
    )
    tensors = {}
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("weight"):
                signs = torch.randint(-1, 2, p.shape)
                step = float(F32(0.1 + 0.03 * len(tensors)))
                p.copy_(signs * step)
                tensors[name] = IntTensor(name, signs.numpy().astype(np.int32), UniformGrid(step))
    x = torch.rand(64, 2, 6, 6)
    model = calibrate(build_packed(net, tensors, x[:2])[0], [(x.numpy(),)])
    ternary, int8 = emulate(model, Ternary()), emulate(model, Int8())
    assert ternary.multiplied == ()
    one, two = ternary.trace(x.numpy()), int8.trace(x.numpy())
    assert all(np.array_equal(integers(one, v), integers(two, v)) for v in one)
    wide = np.asarray(emulate(model, Ternary(Int16x8()))(x.numpy()))
    assert np.array_equal(wide, emulate(model, Int16x8())(x.numpy()))
    exact = net(x).detach().numpy()
    assert (
        np.abs(wide - exact).max() < 2e-3 * np.abs(exact).max()
    )  # ternary weights are exact: no 8-bit error


def test_ternary_names_the_layers_that_are_not(digits: Digits) -> None:
    net = emulate(digits.ready, Ternary())
    assert net.multiplied[0] == "conv 'conv1.weight'"
    assert np.array_equal(net(digits.test[:50]), emulate(digits.ready)(digits.test[:50]))


def residual() -> nn.Module:
    """The stem, and two blocks that subsample and pad their shortcuts.

    Two of them in a row are what ONNX Runtime 1.32 fails on in int8 if a Pad leaves out axes.
    """
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    return nn.Sequential(stem, Block(4, 8, 2), Block(8, 16, 2), *head)


class Joined(nn.Module):
    """A concatenation, a sum of two scales, average pooling, and a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.c, self.d = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat((torch.relu(self.a(x)), self.b(x)), 1)
        x = nn.functional.avg_pool2d(x + self.c(x), 2)
        return self.d(x.mean((2, 3)))


@pytest.mark.parametrize("build", [residual, Joined, depthwise])
def test_networks_with_branches(build: Callable[[], nn.Module]) -> None:
    """Residual sums, padded shortcuts, folded batch norms, concatenations, depthwise convolutions."""
    module = seeded(build)
    x = np.random.default_rng(3).random((24, 3, 16, 16), dtype=F32)
    model = packed(module, x)
    wanted = module(torch.from_numpy(x)).detach().numpy()
    net = emulate(model)
    spread = float(wanted.std())
    assert float(np.sqrt(np.mean((np.asarray(net(x)) - wanted) ** 2))) < 0.15 * spread
    fine = np.asarray(emulate(model, Int16x8())(x))
    assert float(np.sqrt(np.mean((fine - wanted) ** 2))) < 0.05 * spread
    ort = np.asarray(Network.from_packed(model, 1)(x))
    assert float(np.sqrt(np.mean((ort - wanted) ** 2))) < 0.15 * spread
    if build is not depthwise:  # it has a hard swish, which no integer kernel here computes
        assert net.float_steps == ()


def test_what_integers_do_not_cover_runs_in_float32_and_is_named() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3), nn.Softmax(-1))
    x = torch.randn(40, 6)
    net = emulate(packed(module, x.numpy()))
    assert net.float_steps == ("sigmoid (value 2)", "softmax (value 4)")
    values = net.trace(x.numpy())
    assert isinstance(values[2], Quantised)  # sigmoid's output feeds a layer, so it is rounded to int8
    assert not isinstance(values[4], Quantised)
    assert np.abs(np.asarray(net(x.numpy())) - module(x).detach().numpy()).max() < 0.02


# --- refusals ----------------------------------------------------------------------------------------


def test_a_network_without_ranges_is_refused(digits: Digits) -> None:
    with pytest.raises(InputError, match="holds none. Cure: calibrate on some training batches"):
        emulate(digits.plain)
    with pytest.raises(InputError, match="holds none"):
        emulate(pack.encode(digits.plain))


def test_wrong_inputs_are_refused_as_by_the_runtime(digits: Digits) -> None:
    net = emulate(pack.encode(digits.ready))
    with pytest.raises(InputError, match="must have shape"):
        net(digits.test[0])
    with pytest.raises(InputError, match=r"takes 1 input \(input\), got 2. Cure"):
        net(digits.test, digits.test)
    with pytest.raises(InputError, match=r"input 'input' holds NaN, for which no integer stands. Cure"):
        net(np.full_like(digits.test[:2], np.nan))
    assert np.isfinite(net(np.full_like(digits.test[:2], np.inf))).all()  # clipped, as any large number


def test_an_overflowing_accumulator_is_named() -> None:
    graph = Graph(
        (ValueSpec("float32", (None, 70000)),),
        (make_node("linear", (0, -1)),),
        (1,),
        (ActivationRange(0, 1.0, -128), ActivationRange(1, 2.0**20, 0)),
    )
    weight = np.full((1, 70000), 127, np.int32)
    weight[0, 0] = 1  # were all magnitudes one, the row would be ternary
    model = PackedModel((IntTensor("fc.weight", weight, UniformGrid(1.0)),), graph)
    x = np.full((1, 70000), 255, F32)
    with pytest.raises(InputError, match=r"linear 'fc.weight'.*overflow the 32-bit accumulator"):
        emulate(model)(x)
    assert np.asarray(emulate(model, Int16x8())(x)).item() > 0


def test_any_ranges_give_numbers_or_a_named_error(digits: Digits) -> None:
    """Scales over the whole allowed span: nothing crashes, in the runtime or here."""
    rng, x = np.random.default_rng(0), digits.test[:3]
    graph = digits.ready.graph
    assert graph is not None
    seen = set()
    for _ in range(60):
        wild = tuple(
            ActivationRange(
                r.value, float(F32(r.scale * 2.0 ** rng.integers(-40, 41))), int(rng.integers(-128, 128))
            )
            for r in graph.ranges
        )
        model = PackedModel(digits.ready.tensors, replace(graph, ranges=wild))
        for arithmetic in (Int8(), Int8(single_rounding=True), Int16x8()):
            try:
                assert np.isfinite(emulate(model, arithmetic)(x)).all()
                seen.add("runs")
            except LaconicError as error:
                seen.add(type(error).__name__)
        assert np.asarray(Network.from_packed(model, 1)(x)).shape == (3, 10)
    assert {"runs", "InputError"} <= seen


def test_a_range_of_an_index_is_a_wrong_file() -> None:
    graph = Graph(
        (ValueSpec("int64", (None, 2)),),
        (make_node("embedding", (0, -1)),),
        (1,),
        (ActivationRange(0, 1.0, 0),),
    )
    model = PackedModel((RawTensor("e", np.ones((3, 2), F32)),), graph)
    with pytest.raises(FileFormatError):
        emulate(model)(np.zeros((1, 2), np.int64))
    with pytest.raises(FileFormatError):
        Network.from_packed(model, 1)


def test_an_emulated_file_is_held_to_the_limits(digits: Digits) -> None:
    data = pack.encode(digits.ready)
    with pytest.raises(LimitError, match="loading takes up to"):
        emulate(data, limits=pack.Limits(memory=1000, memory_per_byte=0))
    net = emulate(data, limits=pack.Limits(call_memory=1000))
    with pytest.raises(LimitError, match="call_memory="):
        net(digits.test)
    empty = np.asarray(net(digits.test[:0]))
    assert empty.shape[0] == 0 and empty.dtype == np.float32
