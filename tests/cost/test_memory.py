"""Lifetimes of values: small graphs whose memory can be counted on one's fingers."""

from __future__ import annotations

from laconic.cost.memory import live_bytes
from laconic.cost.traffic import count_traffic
from laconic.records import NetworkFacts, OpFacts, TensorFacts, ValueFacts
from laconic.runtime.ops.table import TABLE


def network(sizes: list[int], *ops: OpFacts, outputs: tuple[int, ...], inputs: int = 1) -> NetworkFacts:
    """Values of so many floats, one after the other."""
    values = tuple(ValueFacts((n,), "float32") for n in sizes)
    return NetworkFacts(inputs, values, ops, outputs, (TensorFacts("w", (1, 1), 1, 32, 32),), 0)


def op(name: str, inputs: tuple[int | None, ...], *outputs: int) -> OpFacts:
    return OpFacts(name, inputs, outputs, {"axis": 0}, kind=TABLE[name].cost)


def floats(facts: NetworkFacts) -> list[int]:
    return [n // 4 for n in live_bytes(facts)]


def test_a_chain_holds_two_values_at_a_time() -> None:
    facts = network(
        [10, 20, 30, 5], op("cumsum", (0,), 1), op("cumsum", (1,), 2), op("cumsum", (2,), 3), outputs=(3,)
    )
    assert floats(facts) == [30, 50, 35]


def test_a_shortcut_keeps_its_value_alive() -> None:
    """Two steps and the sum with their input: it lives until the sum, which writes over b."""
    facts = network(
        [10, 10, 10, 10], op("cumsum", (0,), 1), op("cumsum", (1,), 2), op("add", (2, 0), 3), outputs=(3,)
    )
    assert floats(facts) == [20, 30, 20]


def test_an_activation_writes_over_what_nobody_reads_again() -> None:
    facts = network([10, 10, 10], op("cumsum", (0,), 1), op("relu", (1,), 2), outputs=(2,))
    assert floats(facts) == [20, 10]


def test_an_activation_does_not_write_over_what_is_read_again() -> None:
    facts = network(
        [10, 10, 10, 10], op("relu", (0,), 1), op("cumsum", (0,), 2), op("add", (1, 2), 3), outputs=(3,)
    )
    assert floats(facts) == [20, 30, 20]


def test_an_activation_does_not_write_over_an_output() -> None:
    facts = network([10, 10, 10], op("cumsum", (0,), 1), op("relu", (1,), 2), outputs=(1, 2))
    assert floats(facts) == [20, 20]


def test_a_sum_that_spreads_does_not_write_over_the_smaller_one() -> None:
    values = (ValueFacts((1, 5), "float32"), ValueFacts((4, 1), "float32"), ValueFacts((4, 5), "float32"))
    facts = NetworkFacts(2, values, (op("add", (0, 1), 2),), (2,), (), 0)
    assert floats(facts) == [29]


def test_another_width_takes_memory_of_its_own() -> None:
    values = (ValueFacts((8,), "float32"), ValueFacts((8,), "bool"))
    facts = NetworkFacts(1, values, (op("gt", (0,), 1),), (1,), (), 0)
    assert live_bytes(facts) == (40,)


def test_a_view_is_its_input() -> None:
    """The view's reader keeps the input alive, and may write over it."""
    facts = network(
        [10, 10, 10, 3], op("cumsum", (0,), 1), op("identity", (1,), 2), op("cumsum", (2,), 3), outputs=(3,)
    )
    assert floats(facts) == [20, 10, 13]
    facts = network(
        [10, 10, 10, 10], op("cumsum", (0,), 1), op("identity", (1,), 2), op("relu", (2,), 3), outputs=(3,)
    )
    assert floats(facts) == [20, 10, 10]


def test_a_value_with_a_view_that_is_read_later_is_not_written_over() -> None:
    facts = network(
        [10, 10, 10, 10], op("identity", (0,), 1), op("relu", (0,), 2), op("add", (1, 2), 3), outputs=(3,)
    )
    assert floats(facts) == [10, 20, 20]


def test_what_nobody_reads_still_needs_room_when_it_is_made() -> None:
    """A recurrent layer's last states."""
    facts = network(
        [10, 20, 4, 4, 20],
        OpFacts("lstm", (0,), (1, 2, 3), {}, kind="recurrent"),
        op("relu", (1,), 4),
        outputs=(4,),
    )
    assert floats(facts) == [38, 20]


def test_inputs_live_until_they_are_read_and_outputs_to_the_end() -> None:
    facts = network([10, 7, 3, 3], op("cumsum", (0,), 2), op("cumsum", (1,), 3), outputs=(2, 3), inputs=2)
    assert floats(facts) == [20, 13]


def test_what_depends_on_weights_alone_is_no_activation() -> None:
    ops = (OpFacts("cumsum", (-1,), (1,), {"axis": 0}, folded=True, kind="reduction"), op("add", (0, 1), 2))
    facts = network([10, 10, 10], *ops, outputs=(2,))
    assert floats(facts) == [10, 10]


def moved(facts: NetworkFacts) -> list[int]:
    return [t.activations // 4 for t in count_traffic(facts, None)]


def test_an_activation_works_inside_the_operation_before() -> None:
    facts = network(
        [10, 20, 20, 5], op("cumsum", (0,), 1), op("relu", (1,), 2), op("cumsum", (2,), 3), outputs=(3,)
    )
    assert moved(facts) == [30, 0, 25]


def test_an_activation_of_an_older_value_takes_a_pass_of_its_own() -> None:
    facts = network(
        [10, 10, 10, 10, 10],
        op("cumsum", (0,), 1),
        op("cumsum", (0,), 2),
        op("relu", (1,), 3),
        op("add", (2, 3), 4),
        outputs=(4,),
    )
    assert moved(facts) == [20, 20, 20, 10]
    assert [t.own_pass for t in count_traffic(facts, None)] == [True, True, True, False]


def test_an_activation_of_a_value_that_others_read_takes_a_pass_of_its_own() -> None:
    facts = network(
        [10, 10, 10, 10], op("cumsum", (0,), 1), op("relu", (1,), 2), op("add", (1, 2), 3), outputs=(3,)
    )
    assert moved(facts) == [20, 20, 10]


def test_a_slice_reads_what_it_keeps_and_a_view_moves_nothing() -> None:
    facts = network(
        [100, 7, 7, 100], op("slice", (0,), 1), op("flatten", (1,), 2), op("pad", (2,), 3), outputs=(3,)
    )
    assert moved(facts) == [14, 0, 107]
