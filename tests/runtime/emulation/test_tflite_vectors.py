"""The emulation gives the integers that TensorFlow Lite's kernels gave in real interpreters.

``studies/tflite_vectors.py`` wrote ``tflite_vectors.npz`` with TensorFlow Lite for Microcontrollers and
LiteRT, whose versions the file says. Its arrays are as TensorFlow Lite has them: images (N, H, W, C),
convolutions (O, H, W, I), depthwise ones (1, H, W, C x multiplier).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laconic.pack.graph.ops import make_node
from laconic.records import (
    ActivationRange,
    AnyArray,
    Graph,
    IntTensor,
    Node,
    PackedModel,
    RawTensor,
    UniformGrid,
    ValueSpec,
)
from laconic.runtime import Emulator, Int8, Int16x8
from laconic.runtime.emulation import Quantised

with np.load(Path(__file__).with_name("tflite_vectors.npz")) as held:
    ARRAYS = {name: held[name] for name in held.files}
CASES: list[dict[str, Any]] = json.loads(str(ARRAYS["about"]))["cases"]


def arrays_of(number: int) -> dict[str, AnyArray]:
    start = f"{number:02d}."
    return {name.removeprefix(start): a for name, a in ARRAYS.items() if name.startswith(start)}


def channels_first(x: AnyArray) -> AnyArray:
    return np.moveaxis(x, -1, 1) if x.ndim == 4 else x


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """What TensorFlow's SAME adds before and after."""
    total = max(0, (-(-size // stride) - 1) * stride + window - size)
    return total // 2, total - total // 2


def padding_of(case: Mapping[str, Any], x: AnyArray, window: int) -> tuple[int, ...]:
    if not case.get("same"):
        return (0,)
    reach = case.get("dilation", 1) * (window - 1) + 1
    ends = [same_padding(size, reach, case.get("stride", 1)) for size in x.shape[2:]]
    return (*(before for before, _ in ends), *(after for _, after in ends))


def weight_of(kind: str, w: AnyArray, steps: list[float]) -> IntTensor:
    """The stored tensor in PyTorch's order of axes, a step for each output channel."""
    axis = 0
    if kind == "depthwise":
        w = w[0].transpose(2, 0, 1)[:, None]
    elif kind == "transposed":  # (O, H, W, I) -> (I, O, H, W)
        w, axis = w.transpose(3, 0, 1, 2), 1
    elif kind == "conv":
        w = w.transpose(0, 3, 1, 2)
    grid = UniformGrid(steps[0]) if len(steps) == 1 else UniformGrid(tuple(steps), axis)
    return IntTensor("w", np.ascontiguousarray(w).astype(np.int32), grid)


def nodes_of(case: Mapping[str, Any], held: Mapping[str, AnyArray]) -> list[Node]:
    kind, x = case["kind"], channels_first(held["x"])
    stride = {"stride": (case.get("stride", 1),)}
    made: Node
    if kind == "linear":
        made = make_node("linear", (0, -1, -2))
    elif kind in ("conv", "depthwise"):
        dilation, groups = (case.get("dilation", 1),), x.shape[1] if kind == "depthwise" else 1
        padding = padding_of(case, x, held["w"].shape[1])
        made = make_node("conv", (0, -1, -2), **stride, padding=padding, dilation=dilation, groups=groups)
    elif kind == "transposed":  # SAME: what a convolution of the output would add
        ends = [same_padding(s, held["w"].shape[1], case["stride"]) for s in held["y"].shape[1:3]]
        padding = (*(a for a, _ in ends), *(b for _, b in ends))
        made = make_node("conv_transpose", (0, -1, -2), **stride, padding=padding)
    elif kind in ("average", "maximum"):
        attrs = {**stride, "kernel": (case["window"],), "padding": padding_of(case, x, case["window"])}
        extra = {"exclude_pad": True} if kind == "average" else {}
        made = make_node("avg_pool" if kind == "average" else "max_pool", (0,), **attrs, **extra)
    elif kind == "mean":
        made = make_node("mean", (0,), dims=(2, 3))
    elif kind == "add":
        made = make_node("add", (0, 1))
    elif kind == "cat":
        made = make_node("concat", (0, 1), axis=1)
    else:
        made = make_node("identity", (0,))
    after = {"relu": ("relu", {}), "relu6": ("clamp", {"low": 0.0, "high": 6.0})}.get(
        case.get("activation", "")
    )
    value = 2 if "other" in held else 1
    return [made] if after is None else [made, make_node(after[0], (value,), **after[1])]


def emulator_of(case: Mapping[str, Any], held: Mapping[str, AnyArray], single: bool = False) -> Emulator:
    """A network of the case's one operation, whose inputs and output have its encodings."""
    nodes = nodes_of(case, held)
    inputs = [key for key in ("x", "other") if key in held]
    out = len(inputs) + len(nodes) - 1
    encodings = {0: case["in"], **({1: case["other"]} if "other" in held else {})}
    if case["kind"] not in ("average", "maximum", "mean", "quantise"):  # these keep their input's
        encodings[out] = case["out"]
    ranges = tuple(_range(value, case["bits"], *said) for value, said in sorted(encodings.items()))
    specs = tuple(ValueSpec("float32", (None, *channels_first(held[k]).shape[1:])) for k in inputs)
    tensors: tuple[Any, ...] = ()
    if "w" in held:
        steps = np.float64(case["weight"]) * case["in"][0]
        bias = RawTensor("b", (held["b"] * steps).astype(np.float32))
        tensors = (weight_of(case["kind"], held["w"], case["weight"]), bias)
    arithmetic = Int16x8() if case["bits"] == 16 else Int8(single_rounding=single)
    return Emulator(PackedModel(tensors, Graph(specs, tuple(nodes), (out,), ranges)), arithmetic)


def _range(value: int, bits: int, scale: float, zero: int) -> ActivationRange:
    """A file's range; the emulation's 16-bit scale is the larger bound over 32,767."""
    return ActivationRange(value, scale if bits == 8 else float(np.float32(scale * 32767 / 128)), zero)


def emulated(case: Mapping[str, Any], held: Mapping[str, AnyArray], single: bool = False) -> AnyArray:
    net = emulator_of(case, held, single)
    given = []
    for key, (scale, zero) in (("x", case["in"]), ("other", case.get("other", (1.0, 0)))):
        if key in held:
            x = channels_first(held[key])
            real = (
                x if case["kind"] == "quantise" else ((x.astype(np.int64) - zero) * scale).astype(np.float32)
            )
            given.append(np.ascontiguousarray(real))
    values = net.trace(*given)
    assert net.float_steps == ()
    for k, key in enumerate(("x", "other")[: len(given)]):
        read = values[k]
        assert isinstance(read, Quantised)
        if case["kind"] != "quantise":
            assert np.array_equal(read.integers, channels_first(held[key])), (
                "inputs are read as they were meant"
            )
    got = values[max(values)]
    assert isinstance(got, Quantised)
    return got.integers


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=lambda n: f"{n}-{CASES[n]['kind']}-{CASES[n]['bits']}"
)
def test_integers_are_those_of_the_reference_kernels(number: int) -> None:
    case, held = CASES[number], arrays_of(number)
    got, wanted = emulated(case, held), channels_first(held["y"])
    assert got.shape == wanted.shape
    assert np.array_equal(got, wanted), (
        f"{(got != wanted).sum()} of {got.size} differ, by {np.abs(got - wanted).max()}"
    )


def test_litert_differs_in_16_bit_linear_layers_alone() -> None:
    """LiteRT multiplies their sums in floating point, the microcontrollers' kernel by a 15-bit integer."""
    differ = {(case["kind"], case["bits"]) for case in CASES if case["litert"]}
    assert differ == {("linear", 16)}


def test_every_integer_kernel_has_vectors() -> None:
    kinds = {(case["kind"], case["bits"]) for case in CASES}
    names = (
        "conv",
        "depthwise",
        "linear",
        "transposed",
        "average",
        "maximum",
        "mean",
        "add",
        "cat",
        "quantise",
    )
    assert kinds == {(kind, bits) for kind in names for bits in (8, 16)}
