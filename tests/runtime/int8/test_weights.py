"""Integer weights: exact where the file's are few, near elsewhere, with batch normalisation inside."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import make_node
from laconic.records import Codebook, IntTensor, RawTensor, Tensor, UniformGrid
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.weights import IntegerLayer, integer_layer

F32 = np.float32
RNG = np.random.default_rng(2)


def layer(*tensors: Tensor, op: str = "linear", norm: bool = False, scale: float = 0.01) -> IntegerLayer:
    refs = tuple(-1 - k for k in range(1 if norm else len(tensors)))
    after = make_node("batch_norm", (1, -2, -3, -4, -5)) if norm else None
    return integer_layer(Step(make_node(op, (0, *refs)), (1,), after), tensors, scale)


def real(found: IntegerLayer) -> np.ndarray:
    rows = len(found.weight)
    return found.weight.reshape(rows, -1) * found.scales[:, None].astype(np.float64)


def test_few_bit_weights_stay_what_they_are() -> None:
    integers = RNG.integers(-100, 101, (5, 40)).astype(np.int32)
    found = layer(IntTensor("w", integers, UniformGrid(0.25)))
    assert np.array_equal(found.weight, integers)
    assert found.scales.tolist() == [0.25] * 5


def test_steps_by_row_become_the_rows_scales() -> None:
    integers = RNG.integers(-100, 101, (3, 5, 2, 2)).astype(np.int32)
    steps = (0.25, 2.0, float(F32(0.1)))
    found = layer(IntTensor("w", integers, UniformGrid(steps, 0)), op="conv")
    assert np.array_equal(found.weight, integers)
    assert found.scales.tolist() == list(steps)


def test_steps_of_a_transposed_convolution_are_those_of_its_outputs() -> None:
    integers = RNG.integers(-100, 101, (4, 2, 3, 3)).astype(np.int32)
    by_output = layer(IntTensor("w", integers, UniformGrid((0.5, 4.0), 1)), op="conv_transpose")
    assert by_output.scales.tolist() == [0.5, 4.0]
    by_input = layer(IntTensor("w", integers, UniformGrid((0.5, 1.0, 2.0, 4.0), 0)), op="conv_transpose")
    largest = np.abs(integers * np.array([0.5, 1, 2, 4])[:, None, None, None]).max((0, 2, 3))
    assert np.allclose(by_input.scales, largest / 127)


@pytest.mark.parametrize("kind", ["uniform", "codebook", "raw"])
def test_ternary_weights_become_signs(kind: str) -> None:
    signs = RNG.integers(-1, 2, (4, 30)).astype(np.int32)
    step = float(F32(0.3))
    tensor: Tensor = IntTensor("w", 3 * signs, UniformGrid(float(F32(0.1))))
    if kind == "codebook":
        tensor = IntTensor("w", signs + 1, Codebook((-step, 0.0, step)))
    elif kind == "raw":
        tensor = RawTensor("w", (signs * F32(step)).astype(F32))
    found = layer(tensor)
    assert found.is_ternary
    assert np.array_equal(found.weight, signs)
    assert np.allclose(found.scales, step, rtol=1e-6)


def test_other_weights_round_to_a_127th_of_their_row() -> None:
    weight = (RNG.normal(size=(6, 3, 3, 3)) * np.logspace(-3, 1, 6)[:, None, None, None]).astype(F32)
    found = layer(RawTensor("w", weight), op="conv")
    assert np.abs(found.weight).reshape(6, -1).max(1).tolist() == [127] * 6
    flat = weight.reshape(6, -1)
    assert np.all(np.abs(real(found) - flat) <= 0.501 * np.abs(flat).max(1, keepdims=True) / 127)


def test_batch_normalisation_is_folded() -> None:
    weight = RNG.normal(size=(4, 2, 3, 3)).astype(F32)
    gain, shift, mean = (RNG.normal(size=4).astype(F32) for _ in range(3))
    variance = RNG.uniform(0.5, 2, 4).astype(F32)
    named = zip("gsmv", (gain, shift, mean, variance), strict=True)
    found = layer(RawTensor("w", weight), *(RawTensor(n, v) for n, v in named), op="conv", norm=True)
    factor = gain.astype(float) / np.sqrt(variance.astype(float) + 1e-5)
    wanted = weight.reshape(4, -1) * factor[:, None]
    assert np.all(np.abs(real(found) - wanted) <= 0.51 * np.abs(wanted).max(1, keepdims=True) / 127)
    assert np.allclose(found.bias, shift - mean * factor)


def test_a_negative_gain_turns_signs_and_keeps_few_bit_weights() -> None:
    integers = RNG.integers(-9, 10, (2, 1, 3, 3)).astype(np.int32)
    ones = np.ones(2, F32)
    norm = (
        RawTensor("g", F32([-2, 0.5])),
        RawTensor("s", ones),
        RawTensor("m", 0 * ones),
        RawTensor("v", ones),
    )
    found = layer(IntTensor("w", integers, UniformGrid(0.5)), *norm, op="conv", norm=True)
    assert np.array_equal(found.weight, integers * np.array([-1, 1]).reshape(2, 1, 1, 1))


def test_biases_fit_32_bits_even_where_all_weights_are_zero_or_tiny() -> None:
    weight = np.zeros((3, 4), F32)
    weight[0] = 1.0
    weight[1] = 1e-9
    bias = F32([0.5, 7.0, -3.0])
    found = layer(RawTensor("w", weight), RawTensor("b", bias), scale=1e-3)
    units = found.bias_integers(1e-3, 32)
    assert np.abs(units).max() <= 2**30
    assert np.allclose(units * found.scales.astype(np.float64) * 1e-3, bias, rtol=1e-4)


@pytest.mark.parametrize(
    "tensors",
    [
        (RawTensor("w", np.ones((2, 2), np.int64)),),
        (RawTensor("w", np.ones(3, F32)),),
        (RawTensor("w", np.full((2, 2), np.nan, F32)),),
        (RawTensor("w", np.ones((2, 2), F32)), RawTensor("b", F32([np.inf, 0]))),
        (RawTensor("w", np.ones((2, 2), F32)), RawTensor("b", np.ones(3, F32))),
    ],
)
def test_tensors_that_are_no_layer_are_refused(tensors: tuple[Tensor, ...]) -> None:
    with pytest.raises(CorruptFileError):
        layer(*tensors)
