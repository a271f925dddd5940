"""Channels filled up with zeros: the very same numbers, in kernels that do not copy windows out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.errors import LaconicError
from laconic.export import build_packed
from laconic.pack.graph.ops import make_node
from laconic.records import ActivationRange, AnyArray, Graph, PackedModel, RawTensor, ValueSpec
from laconic.runtime import Network, calibrate, to_onnx
from laconic.runtime.int8.filling import Channels, filled_channels
from laconic.runtime.int8.schedule import schedule_of
from laconic.runtime.onnx_model import int8_plan as int8_build
from laconic.zoo.resnet import BasicBlock
from tests.helpers.networks import seeded

F32 = np.float32


class Odd(nn.Module):
    """A residual network of 5 and 19 channels, its shortcut sliced and padded, in front of a ``head``."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.blocks = nn.Sequential(BasicBlock(5, 5), BasicBlock(5, 19, 2), BasicBlock(19, 19))
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.blocks(F.relu(self.stem(x))))
        return y


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(19, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(x.mean((2, 3)))
        return y


class View(nn.Module):
    """A mean, its axes taken away by a view of the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(19, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1))
        return y


HEADS: dict[str, Callable[[], nn.Module]] = {
    "mean": Mean,
    "view": View,
    "pool": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(19, 3)),
    "flatten": lambda: nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(19 * 4, 3)),
    "conv": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(19, 2, 1)),
    "upsample": lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(19, 6, 1), nn.Conv2d(6, 2, 1)),
}


def calibrated(module: nn.Module) -> tuple[PackedModel, AnyArray]:
    x = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(F32)
    return calibrate(build_packed(module.eval(), {}, torch.from_numpy(x[:2]))[0], [(x,)]), x


def fills(model: PackedModel) -> dict[int, Channels]:
    graph = model.graph
    assert graph is not None
    return dict(filled_channels(graph, schedule_of(graph), model.tensors))


@pytest.mark.parametrize("head", HEADS)
def test_the_same_numbers(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = calibrated(seeded(lambda: Odd(HEADS[head]())))
    got = np.asarray(Network.from_packed(model, 1)(x))
    proto = to_onnx(model, "int8")
    onnx.checker.check_model(proto, full_check=True)
    sizes = {t.name: tuple(t.dims) for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT8}
    shapes = {size[:2] for size in sizes.values() if len(size) == 4 and size[2:] == (3, 3)}
    assert shapes == {(16, 4), (16, 16), (20, 16), (20, 20)}
    monkeypatch.setattr(int8_build, "filled_channels", lambda *_: {})
    assert np.array_equal(got, np.asarray(Network.from_packed(model, 1)(x)))


def test_only_the_doors_are_float32_in_onnx_runtime(tmp_path: Path) -> None:
    """After ONNX Runtime's own passes: one rounding at the start, and nothing in float32 between."""
    model, _ = calibrated(seeded(lambda: Odd(HEADS["pool"]())))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "m.onnx")
    ort.InferenceSession(to_onnx(model, "int8").SerializeToString(), options, ["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert kinds.count("QuantizeLinear") == 1
    assert kinds.count("QLinearConv") == 7
    assert not {"DequantizeLinear", "Conv", "Add", "Relu", "Gemm"} & set(kinds)


def test_what_sees_the_zeros_keeps_them_out() -> None:
    """Concatenations, groups, slices of channels, other orders of axes, and outputs."""

    class Seen(nn.Module):
        def __init__(self, end: Callable[[torch.Tensor], torch.Tensor]) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1, groups=2)
            self.end = end

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return self.end(torch.cat([y, self.second(y)], 1))

    ends: list[Callable[[torch.Tensor], torch.Tensor]] = [lambda y: y, lambda y: y[:, 1:].relu()]
    for end in ends:
        model, _ = calibrated(seeded(lambda end=end: Seen(end)))  # type: ignore[misc]
        assert set(fills(model)) == {0}  # the input alone: three channels to four
    turned = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Flatten(2), nn.Conv1d(6, 6, 1))
    assert set(fills(calibrated(turned)[0])) == {0}
    last = nn.Sequential(nn.Conv2d(1, 6, 1), nn.Conv2d(6, 6, 1))
    x = np.random.default_rng(0).normal(size=(8, 1, 8, 8)).astype(F32)
    model = calibrate(build_packed(last.eval(), {}, torch.from_numpy(x[:2]))[0], [(x,)])
    assert fills(model) == {1: Channels(6, 16)}  # one input channel is quick as it is


def test_a_wrong_count_of_channels_is_not_filled_over() -> None:
    """Six channels met by weights for seven would both be sixteen."""
    tensors = (RawTensor("a", np.ones((6, 3, 1, 1), F32)), RawTensor("b", np.ones((2, 7, 1, 1), F32)))
    nodes = (make_node("conv", (0, -1)), make_node("conv", (1, -2)))
    ranges = tuple(ActivationRange(v, 0.5, 0) for v in range(3))
    graph = Graph((ValueSpec("float32", (None, 3, 4, 4)),), nodes, (2,), ranges)
    with pytest.raises(LaconicError):
        Network.from_packed(PackedModel(tensors, graph), 1)(np.zeros((1, 3, 4, 4), F32))
