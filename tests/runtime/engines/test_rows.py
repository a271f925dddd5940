"""Rows of a batch do not see each other; a claim of many rows does not set the time of a load."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.pack.graph.ops import make_node
from laconic.records import FloatArray, Graph, IntTensor, PackedModel, RawTensor, UniformGrid, ValueSpec
from laconic.runtime import Network
from laconic.runtime.engines import choice, measure
from laconic.runtime.engines.few_bits import (
    EXACT_IMPLEMENTATIONS,
    ROUNDING_IMPLEMENTATIONS,
    PackedImplementation,
)
from laconic.runtime.engines.own import KernelImplementation, own_matrix

F32 = np.float32
STEP = float(F32(0.02))


def ternary(rows: int, columns: int) -> IntTensor:
    drawn = np.random.default_rng(0).integers(-1, 2, (rows, columns))
    return IntTensor("w", drawn.astype(np.int32), UniformGrid(STEP))


@pytest.mark.parametrize("extreme", [np.inf, -np.inf, 3.4e38, 0.0])
@pytest.mark.parametrize(
    "implementation", (*EXACT_IMPLEMENTATIONS, *ROUNDING_IMPLEMENTATIONS, "2-bit-kernel", "sparse")
)
def test_a_row_does_not_change_others(
    implementation: PackedImplementation | KernelImplementation, extreme: float
) -> None:
    weight = ternary(32, 128)
    x = np.random.default_rng(1).standard_normal((5, 128)).astype(F32)
    y = x.copy()
    y[1, 7] = extreme
    y[2] = 0 if extreme == 0 else y[2]

    def run(x: FloatArray) -> FloatArray:
        if implementation in ("2-bit-kernel", "sparse"):
            return np.array(own_matrix(weight, implementation, 1, None)(x, None, False))
        return np.asarray(measure.layer_call(weight, implementation, x, 1)[0]()[0])  # type: ignore[index]

    with np.errstate(over="ignore", invalid="ignore"):
        before, after = run(x), run(y)
    others = [0, 3, 4] if extreme == 0 else [0, 2, 3, 4]
    assert np.array_equal(before[others], after[others])
    right = x @ weight.values().T
    assert np.abs(before - right).max() < 0.02 * np.abs(right).max()
    if extreme in (3.4e38, 0.0):
        with np.errstate(over="ignore"):
            right = y.astype(np.float64) @ weight.values().T.astype(np.float64)
        assert np.abs(after - right).max() < 0.02 * np.abs(right).max()
    if extreme == 0:
        assert not after[2].any()


def test_a_bias_behind_an_8_bit_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime fuses what follows an integer product, and would take one scale for all rows."""
    monkeypatch.setattr(choice, "SMALL", 1)
    monkeypatch.setattr(measure, "cut_seconds", lambda: 1e-9)
    only = "8-bit-int8"
    monkeypatch.setattr(
        measure,
        "fastest_calls",
        lambda calls: {implementation: 1e-6 if implementation == only else 1e-3 for implementation in calls},
    )
    nodes = (make_node("linear", (0, -1, -2)), make_node("relu", (1,)))
    shift = RawTensor("b", np.linspace(-2, 2, 24, dtype=F32))
    graph = Graph((ValueSpec("float32", (None, 72)),), nodes, (2,))
    weight = ternary(24, 72)
    network = Network.from_packed(PackedModel((weight, shift), graph), 1, engine="fastest")
    assert network.layers[0].implementation == only
    x = np.random.default_rng(0).standard_normal((6, 72)).astype(F32) * F32([[1], [10], [1], [0], [3], [1]])
    right = np.maximum(x @ weight.values().T + shift.array, 0)
    largest = np.abs(right).max(1, keepdims=True)
    assert (np.abs(network(x) - right) < 0.02 * largest).all()


def test_a_claim_of_many_rows_is_measured_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^17 rows of 512: 256 MB and a minute, were they measured as claimed."""
    asked: list[tuple[int, int]] = []

    def example(shape: tuple[int, int]) -> FloatArray:
        asked.append(shape)
        return np.zeros((min(shape[0], 8), shape[1]), F32)

    monkeypatch.setattr(measure, "waves", example)
    spec = ValueSpec("float32", (None, 2**17, 512))
    graph = Graph((spec,), (make_node("linear", (0, -1)),), (1,))
    network = Network.from_packed(PackedModel((ternary(512, 512),), graph), 1, engine="fastest")
    assert asked == [(2**20 // 512, 512)]
    assert "measured at 2048 of 131072 rows" in network.layers[0].reason


def test_measuring_many_layers_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is dense, says so, and is measured by a later load."""
    monkeypatch.setattr(choice, "SECONDS", -1.0)
    graph = Graph((ValueSpec("float32", (None, 400)),), (make_node("linear", (0, -1)),), (1,))
    model = PackedModel((ternary(400, 400),), graph)
    layer = Network.from_packed(model, 1, engine="fastest").layers[0]
    assert layer.implementation == "dense" and "not measured yet" in layer.reason
    monkeypatch.setattr(choice, "SECONDS", 100.0)
    assert "measured, us" in Network.from_packed(model, 1, engine="fastest").layers[0].reason
