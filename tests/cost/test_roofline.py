"""Seconds and energy of single layers on devices with round numbers, and where things lie."""

from __future__ import annotations

from dataclasses import replace

import pytest

from laconic.cost import Cost, Device, Estimate, LayerCost, Memory, estimate
from laconic.errors import InputError
from tests.cost.devices import FP32, INT8, MICRO


def layer(**changes: object) -> LayerCost:
    base = LayerCost("fc", "linear", (1, 10), 32, 32, 1000, 100, 0, 400, 90, 200, 300, True)
    return replace(base, **changes)  # type: ignore[arg-type]


def cost(*layers: LayerCost, weights: int = 400) -> Cost:
    return Cost(((1, 1),), layers, 50, 100, 10, weights, weights, weights)


def estimated(c: Cost, device: Device = MICRO) -> Estimate:
    found = estimate(c, device).estimated
    assert found is not None
    return found


def test_a_layer_bound_by_arithmetic() -> None:
    """1000 MACs at 0.5 a us; 400 bytes at 1 and 200 at 4 a us move meanwhile; a call takes 1 ms."""
    [row] = estimated(cost(layer())).layers
    assert row.compute_seconds == pytest.approx(2000e-6)
    assert row.traffic_seconds == pytest.approx(400e-6 + 50e-6)
    assert row.seconds == pytest.approx(2000e-6 + 1e-3)
    assert (row.path, row.arithmetic) == ("dense", "fp32")
    assert (row.arithmetic_fj, row.memory_fj) == (1000 * 11, 400 * 7 + 200 * 3)


def test_a_layer_bound_by_memory() -> None:
    """In int8 the same MACs take 500 us, and 4000 bytes of weights take 4000."""
    [row] = estimated(cost(layer(weight_bits=4, activation_bits=8, weight_traffic=4000))).layers
    assert row.compute_seconds == pytest.approx(500e-6)
    assert row.seconds == pytest.approx(4000e-6 + 50e-6 + 1e-3)
    assert (row.arithmetic, row.arithmetic_fj) == ("int8", 1000)


def test_other_operations_run_in_the_arithmetic_of_the_activations() -> None:
    """Float weights on 8-bit activations: products in fp32, the rest in int8."""
    [row] = estimated(cost(layer(activation_bits=8, other_ops=600))).layers
    assert row.compute_seconds == pytest.approx(1000 * 2e-6 + 600 * 0.5e-6)
    assert row.arithmetic_fj == 1000 * 11 + 600 * 1


def test_what_runs_inside_its_neighbour_costs_no_call() -> None:
    rows = estimated(cost(layer(), layer(own_pass=False))).layers
    assert rows[0].seconds - rows[1].seconds == pytest.approx(1e-3)


def test_rows_add_up_to_the_totals() -> None:
    found = estimated(cost(layer(), layer(macs=7, other_ops=3), layer(activation_traffic=9000)))
    assert found.seconds == sum(row.seconds for row in found.layers)
    assert found.energy_fj == sum(row.arithmetic_fj + row.memory_fj for row in found.layers)
    assert found.table_joules == pytest.approx(found.energy_fj * 1e-15)
    assert found.device_joules == pytest.approx(0.25 * found.seconds)


def test_zeros_are_skipped_only_where_that_is_faster() -> None:
    """100 non-zeros at 0.1 a cycle take 1000 us, the dense layer 2000; at 0.04 a cycle they take 2500."""
    fast, slow = replace(MICRO, sparse_macs_per_cycle=0.1), replace(MICRO, sparse_macs_per_cycle=0.04)
    [row] = estimated(cost(layer()), fast).layers
    assert (row.path, row.compute_seconds) == ("sparse", pytest.approx(1000e-6))
    assert row.arithmetic_fj == 100 * 11
    assert row.memory_fj == 90 * 7 + 200 * 3
    assert row.moved_bytes == 90 + 200
    assert estimated(cost(layer()), slow).layers[0].path == "dense"
    assert estimated(cost(layer(sparse_traffic=None)), fast).layers[0].path == "dense"


L1 = Memory("L1", "both", 1_000, 8e6, 1)
L2 = Memory("L2", "both", 10_000, 4e6, 10)
DRAM = Memory("DRAM", "both", 1_000_000, 1e6, 100)
CPU = Device("cpu", 1e6, 1.0, 0.0, 0, (DRAM, L1, L2), (FP32, INT8))


def memory_fj(c: Cost) -> int:
    return estimated(c, CPU).layers[0].memory_fj


def test_the_estimate_names_the_memories() -> None:
    [row] = estimated(cost(layer(), weights=701), CPU).layers
    assert (row.weights_in, row.activations_in) == ("L2", "L1")


def test_things_lie_in_the_nearest_memory_that_holds_them() -> None:
    """Weights beside the peak of activations (300), activations beside the layer's weights."""
    assert memory_fj(cost(layer(), weights=700)) == 400 * 1 + 200 * 1
    assert memory_fj(cost(layer(), weights=701)) == 400 * 10 + 200 * 1
    assert memory_fj(cost(layer(weight_traffic=801), weights=9_700)) == 801 * 10 + 200 * 10
    assert memory_fj(cost(layer(), weights=9_701)) == 400 * 100 + 200 * 1


def test_what_fits_nowhere_lies_in_the_largest_memory_and_does_not_fit() -> None:
    found = estimated(cost(layer(), weights=999_701), CPU)
    [fit] = found.fits
    assert (fit.memory, fit.needed_bytes, fit.spare_bytes) == ("DRAM", 1_000_001, -1)
    assert not found.fits_all
    assert memory_fj(cost(layer(), weights=999_701)) == 400 * 100 + 200


def test_separate_memories_are_checked_apart() -> None:
    found = estimated(cost(layer(live_bytes=100_001), weights=2_000_000))
    assert [(fit.content, fit.fits, fit.spare_bytes) for fit in found.fits] == [
        ("weights", True, 0),
        ("activations", False, -1),
    ]
    assert not found.fits_all


def test_the_narrowest_arithmetic_that_holds_both_is_taken() -> None:
    assert MICRO.arithmetic(3, 8) is INT8
    assert MICRO.arithmetic(9, 8) is FP32
    assert MICRO.arithmetic(0, 32) is FP32


def test_a_device_without_the_arithmetic_says_so() -> None:
    only = replace(MICRO, arithmetics=(INT8,))
    with pytest.raises(InputError, match=r"'micro' has no arithmetic for 32-bit weights .* Cure"):
        estimate(cost(layer()), only)
