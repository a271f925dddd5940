"""Ranges from batches: which values get one, and how it is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.errors import DataError, InputError, WeightsOnlyError
from laconic.pack.graph.ops import make_node
from laconic.records import Graph, Node, PackedModel, RawTensor, ValueSpec
from laconic.runtime import calibrate
from laconic.runtime.calibration.range_choice import range_of
from laconic.runtime.graph.steps import fuse, ranks
from laconic.runtime.int8.schedule import to_calibrate

F32 = np.float32
IMAGE = ValueSpec("float32", (None, 3, 8, 8))


def graph(*nodes: Node, outputs: tuple[int, ...] | None = None) -> Graph:
    return Graph((IMAGE,), nodes, outputs or (len(nodes),))


RESIDUAL = graph(
    make_node("conv", (0, -1)),
    make_node("batch_norm", (1, -2, -3, -4, -5)),
    make_node("relu", (2,)),  # 3
    make_node("max_pool", (3,)),
    make_node("conv", (4, -6)),
    make_node("add", (5, 4)),
    make_node("relu", (6,)),  # 7
    make_node("global_avg_pool", (7,)),
    make_node("flatten", (8,)),
    make_node("linear", (9, -7, -8)),  # 10
    make_node("softmax", (10,)),
)


def test_steps_of_a_residual_network() -> None:
    assert [s.outputs[0] for s in fuse(RESIDUAL)] == [3, 4, 5, 7, 8, 9, 10, 11]
    assert [s.outputs[0] for s in fuse(RESIDUAL, visible=[1, 6])] == [1, 3 - 1, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert to_calibrate(RESIDUAL) == (0, 3, 5, 7, 10)
    assert ranks(RESIDUAL) == {**dict.fromkeys(range(9), 4), 9: 2, 10: 2}


def test_a_value_that_two_read_is_not_folded_over() -> None:
    shared = graph(make_node("conv", (0, -1)), make_node("relu", (1,)), make_node("add", (1, 2)))
    assert [s.outputs[0] for s in fuse(shared)] == [1, 2, 3]
    left = graph(make_node("conv", (0, -1)), make_node("relu", (1,)), outputs=(1, 2))
    assert [s.outputs[0] for s in fuse(left)] == [1, 2]


def test_what_does_not_meet_a_layer_stays_float32() -> None:
    apart = graph(
        make_node("sigmoid", (0,)),  # 1: feeds a layer
        make_node("flatten", (1,)),
        make_node("linear", (2, -1)),  # 3
        make_node("layer_norm", (3, -2, -3)),  # 4
        make_node("add", (4, 3)),  # one side is float32
    )
    assert to_calibrate(apart) == (1, 3)


def test_a_range_holds_zero_and_both_ends() -> None:
    for low, high in [(0.0, 1.0), (-3.0, 0.5), (-2.0, -1.0), (4.0, 9.0), (-1e-30, 0.0), (0.0, 0.0)]:
        found = range_of(0, low, high)
        bottom, top = found.bounds
        assert bottom <= 0.0 <= top
        assert bottom <= low + found.scale / 2
        assert top >= high - found.scale / 2
        if high - low > 1e-15:
            assert found.scale == pytest.approx((max(high, 0.0) - min(low, 0.0)) / 255, rel=1e-6)


def linear_model(weight: float = 1.0) -> PackedModel:
    spec = ValueSpec("float32", (None, 2))
    return PackedModel(
        (RawTensor("w", np.full((1, 2), weight, F32)),), Graph((spec,), (make_node("linear", (0, -1)),), (1,))
    )


def test_all_batches_count() -> None:
    batches = [(F32([[1, 2]]),), (F32([[-5, 0], [3, 3]]),)]
    ready = calibrate(linear_model(), batches).graph
    assert ready is not None
    (first, second) = ready.ranges
    assert first.bounds == pytest.approx((-5, 3), abs=0.02)
    assert second.bounds == pytest.approx((-5, 6), abs=0.03)


def test_refusals() -> None:
    with pytest.raises(DataError, match=r"calibration batches are empty. Cure: calibrate on some training"):
        calibrate(linear_model(), [])
    with pytest.raises(DataError, match="are empty"):
        calibrate(linear_model(), [(np.zeros((0, 2), F32),)])
    with pytest.raises(DataError, match="NaN or infinite on the calibration batches"):
        calibrate(linear_model(), [(F32([[np.nan, 1]]),)])
    with pytest.raises(InputError, match="must have shape"):
        calibrate(linear_model(), [(np.zeros((1, 3), F32),)])
    with pytest.raises(InputError, match="no linear layer or convolution"):
        calibrate(PackedModel((), graph(make_node("relu", (0,)))), [(np.zeros((1, 3, 8, 8), F32),)])
    with pytest.raises(WeightsOnlyError):
        calibrate(PackedModel(()), [])
