"""int8 with and without VNNI: the runtime agrees with the integer emulation on every processor.

``make portability`` runs these tests on an emulated Haswell. There the processor's fast instruction cuts sums
of two uint8 x int8 products to 16 bits, and ONNX Runtime therefore writes weights anew as uint8. No PyTorch
here: importing it takes a minute in an emulator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from laconic.pack.graph.ops import make_node
from laconic.records import AnyArray, Graph, Node, PackedModel, RawTensor, ValueSpec
from laconic.runtime import Network, calibrate, emulate, to_onnx
from laconic.runtime.emulation.kernels import windows_of
from laconic.runtime.engines.cpu import int8_saturates, processor
from laconic.runtime.precision import with_precision

F32 = np.float32
Doubles = npt.NDArray[np.float64]
X = np.random.default_rng(0).normal(size=(8, 3, 12, 12)).astype(F32)


class Sketch:
    """A network written down step by step, each value computed beside it in float64 NumPy."""

    def __init__(self, x: AnyArray) -> None:
        self.rng = np.random.default_rng(1)
        self.x = x
        self.nodes: list[Node] = []
        self.tensors: list[RawTensor] = []
        self.values: list[Doubles] = [x.astype(np.float64)]

    def tensor(self, *shape: int, low: float | None = None) -> tuple[int, Doubles]:
        """Weights as PyTorch draws them, or entries in low .. low + 0.3."""
        bound = 1 / np.sqrt(np.prod(shape[1:]) or 1)
        drawn = self.rng.uniform(-bound, bound, shape) if low is None else low + 0.3 * self.rng.random(shape)
        self.tensors.append(RawTensor(f"t{len(self.tensors)}", drawn.astype(F32)))
        return -len(self.tensors), self.tensors[-1].array.astype(np.float64)

    def add(self, op: str, refs: tuple[int, ...], value: Doubles, **attrs: object) -> int:
        self.nodes.append(make_node(op, refs, **attrs))  # type: ignore[arg-type]
        self.values.append(value)
        return len(self.nodes)

    def conv(self, x: int, width: int, k: int = 3, pad: int = 0, stride: int = 1, groups: int = 1) -> int:
        w, weight = self.tensor(width, self.values[x].shape[1] // groups, k, k)
        b, bias = self.tensor(width)
        return self.conv_with(x, (w, b), (weight, bias), pad, stride, groups)

    def conv_with(
        self,
        x: int,
        refs: tuple[int, int],
        arrays: tuple[Doubles, Doubles],
        pad: int,
        stride: int,
        groups: int,
    ) -> int:
        weight, bias = arrays
        k = weight.shape[2]
        seen = windows_of(self.values[x], (k, k), (stride, stride), (pad,) * 4, (1, 1))
        n, c = seen.shape[:2]
        parts = seen.reshape(n, groups, c // groups, *seen.shape[2:])
        rows = weight.reshape(groups, -1, *weight.shape[1:])
        y = np.einsum("ngchwij,gocij->ngohw", parts, rows).reshape(n, len(weight), *seen.shape[2:4])
        attrs = {"padding": (pad,), "stride": (stride,), "groups": groups}
        return self.add("conv", (x, *refs), y + bias[:, None, None], **attrs)

    def up(self, x: int, width: int) -> int:
        """A transposed convolution that doubles an image: kernel 4, stride 2, padding 1."""
        w, weight = self.tensor(self.values[x].shape[1], width, 4, 4)
        v = self.values[x]
        y = np.zeros((len(v), width, 2 * v.shape[2] + 2, 2 * v.shape[3] + 2))
        for i, j in np.ndindex(4, 4):
            sums = np.einsum("nchw,co->nohw", v, weight[:, :, i, j])
            y[:, :, i : i + 2 * v.shape[2] : 2, j : j + 2 * v.shape[3] : 2] += sums
        return self.add("conv_transpose", (x, w), y[:, :, 1:-1, 1:-1], stride=(2,), padding=(1,))

    def linear(self, x: int, width: int) -> int:
        w, weight = self.tensor(width, self.values[x].shape[-1])
        b, bias = self.tensor(width)
        return self.add("linear", (x, w, b), self.values[x] @ weight.T + bias)

    def act(self, x: int, name: str) -> int:
        v = self.values[x]
        if name == "prelu":
            ref, slope = self.tensor(v.shape[1], low=0.1)
            wide = slope.reshape(-1, *(1,) * (v.ndim - 2))
            return self.add("prelu", (x, ref), np.where(v > 0, v, wide * v), rank=v.ndim)
        if name == "relu6":
            return self.add("clamp", (x,), np.clip(v, 0, 6), low=0.0, high=6.0)
        if name == "leaky":
            return self.add("leaky_relu", (x,), np.where(v > 0, v, float(F32(0.1)) * v), slope=0.1)
        forms: dict[str, Callable[[Doubles], Doubles]] = {
            "relu": lambda v: np.maximum(v, 0),
            "hardswish": lambda v: v * np.clip(v + 3, 0, 6) / 6,
            "silu": lambda v: v / (1 + np.exp(-v)),
            "tanh": np.tanh,
        }
        return self.add(name, (x,), forms[name](v))

    def flat(self, x: int) -> int:
        return self.add("flatten", (x,), self.values[x].reshape(len(self.values[x]), -1))

    def pool(self, x: int) -> int:
        v = self.values[x]
        v = v[:, :, : v.shape[2] // 2 * 2, : v.shape[3] // 2 * 2]
        best = v.reshape(*v.shape[:2], v.shape[2] // 2, 2, v.shape[3] // 2, 2).max((3, 5))
        return self.add("max_pool", (x,), best, kernel=(2,), stride=(2,), rank=2)

    def mean(self, x: int) -> int:
        return self.add("mean", (x,), self.values[x].mean((2, 3)), dims=(2, 3))

    def plus(self, a: int, b: int) -> int:
        return self.add("add", (a, b), self.values[a] + self.values[b])

    def model(self) -> PackedModel:
        spec = ValueSpec("float32", (None, *self.x.shape[1:]))
        return PackedModel(tuple(self.tensors), Graph((spec,), tuple(self.nodes), (len(self.nodes),)))


def three(act: str) -> Sketch:
    """A plain, a strided and a depthwise convolution, and a linear layer."""
    s = Sketch(X)
    y = s.act(s.conv(0, 8, pad=1), act)
    y = s.act(s.conv(s.act(s.conv(y, 8, stride=2), act), 8, groups=8), act)
    s.linear(s.flat(y), 5)
    return s


def two() -> Sketch:
    s = Sketch(X)
    s.conv(s.act(s.conv(0, 8, pad=1), "relu"), 8, pad=1)
    return s


def grouped() -> Sketch:
    s = Sketch(X)
    s.conv(s.act(s.conv(0, 16), "relu"), 8, groups=4)
    return s


def phases() -> Sketch:
    """A transposed convolution that becomes a convolution whose channels are put in their places."""
    s = Sketch(X)
    s.conv(s.up(s.act(s.conv(0, 16, pad=1), "relu"), 16), 4)
    return s


def tied() -> Sketch:
    """One convolution that runs twice, and a sum."""
    s = Sketch(X)
    y = s.act(s.conv(0, 8, pad=1), "relu")
    (w, weight), (b, bias) = s.tensor(8, 8, 3, 3), s.tensor(8)
    z = y
    for _ in range(2):
        z = s.act(s.conv_with(z, (w, b), (weight, bias), 1, 1, 1), "relu")
    s.plus(z, y)
    return s


def words() -> Sketch:
    """Linear layers on more than a matrix."""
    s = Sketch(X[:, 0])
    s.linear(s.act(s.linear(0, 24), "relu"), 12)
    return s


def onet() -> Sketch:
    """The shape of MTCNN's output network: convolutions, PReLU, pooling, two linear layers."""
    s = Sketch(X)
    y = s.pool(s.act(s.conv(0, 8), "prelu"))
    y = s.act(s.linear(s.flat(s.act(s.conv(y, 16), "prelu")), 32), "prelu")
    s.linear(y, 6)
    return s


def resnet20() -> Sketch:
    """ResNet-20's 19 convolutions at a third of its images' size, batch normalisation folded in."""
    s = Sketch(X)
    y = s.act(s.conv(0, 16, pad=1), "relu")
    for width, first in ((16, 1), (32, 2), (64, 2)):
        for stride in (first, 1, 1):
            branch = s.conv(s.act(s.conv(y, width, pad=1, stride=stride), "relu"), width, pad=1)
            short = y if stride == 1 else s.conv(y, width, k=1, stride=2)
            y = s.act(s.plus(branch, short), "relu")
    s.linear(s.mean(y), 10)
    return s


ACTIVATIONS = ("relu", "relu6", "leaky", "prelu", "hardswish", "silu", "tanh")
NETWORKS: dict[str, Callable[[], Sketch]] = {
    **{name: lambda name=name: three(name) for name in ACTIVATIONS},  # type: ignore[misc]
    **{build.__name__: build for build in (two, grouped, phases, tied, words, onet, resnet20)},
}


@cache
def sketch(name: str) -> tuple[Sketch, PackedModel]:
    made = NETWORKS[name]()
    return made, calibrate(made.model(), [(made.x,)])


def steps_apart(model: PackedModel, got: AnyArray, wanted: AnyArray) -> AnyArray:
    """The difference of two outputs, in steps of the last range."""
    assert model.graph is not None
    return np.asarray(np.abs(got - wanted) / model.graph.ranges[-1].scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_within_one_step_of_the_emulation(name: str) -> None:
    made, model = sketch(name)
    x = made.x
    apart = steps_apart(model, np.asarray(Network.from_packed(model, 1)(x)), np.asarray(emulate(model)(x)))
    # each layer is at most one step off, where a tie is rounded; a few outputs read several such values
    assert (apart <= 1).mean() > 0.9
    assert apart.max() < 2
    assert apart.mean() < 0.5


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_is_right_to_rounding(name: str) -> None:
    made, model = sketch(name)
    got, wanted = Network.from_packed(with_precision(model, "fp32"), 1)(made.x), made.values[-1]
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_no_initialiser_of_a_layer_is_shared(name: str) -> None:
    """ONNX Runtime's rewriting for processors without VNNI would write a shared one twice, and refuse."""
    proto = to_onnx(sketch(name)[1], "int8")
    wide = {t.name for t in proto.graph.initializer if t.dims}
    rows = [n for n in proto.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in wide]
    assert rows
    used = Counter(use for node in rows for use in (node.input[0], node.input[2]))
    assert set(used.values()) == {1}


def test_the_largest_products_are_right() -> None:
    """255 x 127 in every place: what a processor cuts is not cut."""
    assert isinstance(int8_saturates(), bool)
    assert processor()
    graph = Graph((ValueSpec("float32", (None, 64)),), (make_node("linear", (0, -1)),), (1,))
    x = np.stack([np.ones(64), -np.ones(64), np.zeros(64)]).astype(F32)
    model = calibrate(PackedModel((RawTensor("w", np.ones((16, 64), F32)),), graph), [(x,)])
    got = np.asarray(Network.from_packed(model, 1)(x))
    assert np.allclose(got, np.repeat([[64.0], [-64.0], [0.0]], 16, 1), atol=0.3)
