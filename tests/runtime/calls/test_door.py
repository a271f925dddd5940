"""What stands before a call: empty batches, sizes that do not fit, memory; and that the estimate is one."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.errors import InputError, LimitError
from laconic.pack import Limits
from laconic.pack.graph.ops import make_node as node
from laconic.runtime import load
from tests.attacks import calls, numbers
from tests.attacks.files import constant, file_of, raw

F32 = np.float32


@pytest.mark.parametrize("make", [calls.lstm_over_an_empty_batch, calls.gru_over_an_empty_batch])
def test_a_recurrent_network_gives_nothing_for_an_empty_batch(make: object) -> None:
    """The runtime's kernel ends the process there; PyTorch returns (0, 5, 2)."""
    network = load(make(), threads=1)  # type: ignore[operator]
    y = network(np.zeros((0, 5, 3), F32))
    assert isinstance(y, np.ndarray)
    assert (y.shape, y.dtype) == ((0, 5, 2), F32)
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(F32)
    full = network(x)
    assert isinstance(full, np.ndarray)
    assert full.shape == (2, 5, 2)
    assert network(x[:0]).shape == (0, 5, 2)  # type: ignore[union-attr]


def test_everything_gives_nothing_for_an_empty_batch() -> None:
    y = load(calls.everything_over_an_empty_batch())(np.zeros((0, 4, 8, 8), F32))
    assert isinstance(y, np.ndarray)
    assert (y.shape, y.dtype) == ((0,), np.int64)


def test_what_would_be_computed_from_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"an input is empty.*Cure: give at least one sample"):
        load(calls.lstm_over_nothing_that_is_summed())(np.zeros((0, 5, 3), F32))


def test_sizes_that_do_not_fit_are_refused_before_anything_runs() -> None:
    network = load(calls.lstm_over_a_slice_that_leaves_nothing())
    with pytest.raises(InputError, match=r"cannot run on inputs of shape \(1, 5, 3\): .*lstm.*Cure"):
        network(np.zeros((1, 5, 3), F32))
    assert network(np.zeros((2, 5, 3), F32)).shape == (1, 5, 2)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="does not fit in"):
        load(calls.free_axis_that_must_be_long())(np.zeros((1, 1, 99), F32))
    assert load(calls.free_axis_that_must_be_long())(np.zeros((1, 1, 100), F32)).shape == (1, 1, 1)  # type: ignore[union-attr]


def test_a_call_may_take_what_the_limit_says() -> None:
    data = file_of([(None, 4)], [node("tile", (0,), repeats=(1, 1000))])
    network = load(data, limits=Limits(call_memory=100_000))
    assert network.call_memory((1, 4)) == 16 + 16_000
    assert network(np.zeros((6, 4), F32)).shape == (6, 4000)  # type: ignore[union-attr]
    with pytest.raises(LimitError, match=r"call takes up to 112112 .*is 100000.*call_memory=112112"):
        network(np.zeros((7, 4), F32))
    assert "a call may take 100000 bytes" in network.describe()
    with pytest.raises(InputError, match=r"shape \(any, 4\)"):
        network.call_memory((1, 4, 4))


@pytest.mark.parametrize(
    "make",
    [
        calls.call_that_fills_the_memory,
        calls.call_whose_scores_fill_the_memory,
        calls.call_whose_product_fills_the_memory,
    ],
)
def test_calls_beyond_the_default_limit_are_refused(make: object) -> None:
    network = load(make(), threads=1)  # type: ignore[operator]
    (spec,) = network.inputs
    with pytest.raises(LimitError, match="call_memory="):
        network(np.zeros([2 if n is None else n for n in spec.shape], F32))


def test_memory_that_was_freed_does_not_count() -> None:
    """A chain holds two values at a time, a value that is read again later stays."""
    chain = load(file_of([(None, 100)], [node("relu", (k,)) for k in range(10)]))
    assert chain.call_memory((10, 100)) == 2 * 4000
    kept = [node("relu", (0,)), node("relu", (1,)), node("relu", (2,)), node("add", (3, 1))]
    assert load(file_of([(None, 100)], kept)).call_memory((10, 100)) == 3 * 4000


def test_many_shapes_are_let_in_again() -> None:
    network = load(file_of([(None, 4)], [node("softmax", (0,))]))
    for rows in (*range(1, 300), 1, 299):
        assert network(np.zeros((rows, 4), F32)).shape == (rows, 4)  # type: ignore[union-attr]


def test_int8_networks_have_the_same_door() -> None:
    tensors = [raw("w", np.ones((16, 4, 3, 3))), constant("b", 16)]
    network = load(file_of([(None, 4, 8, 8)], [node("conv", (0, -1, -2))], tensors, ranges=(0, 1)))
    assert network(np.zeros((0, 4, 8, 8), F32)).shape == (0, 16, 6, 6)  # type: ignore[union-attr]


def test_what_is_joined_to_an_empty_batch_is_left() -> None:
    """A row that is put in front of each batch stays alone: one row, not none."""
    network = load(file_of([(None, 4)], [node("concat", (-1, 0), axis=0)], [raw("w", np.ones((1, 4)))]))
    assert network(np.zeros((2, 4), F32)).shape == (3, 4)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="compute something from nothing"):
        network(np.zeros((0, 4), F32))


def test_sizes_are_computed_before_a_call_runs() -> None:
    """A hundredth of the batch: nothing for fewer samples, which would end the process in the kernel."""
    network = load(numbers.lstm_over_a_computed_empty_batch(), threads=1)
    with pytest.raises(InputError, match="'lstm'.*is empty"):
        network(np.zeros((99, 5, 3), F32))
    assert network(np.zeros((200, 5, 3), F32)).shape == (2, 5, 2)  # type: ignore[union-attr]


def test_a_computed_size_counts_in_the_memory_of_a_call() -> None:
    nodes = [node("size", (1,), axis=0), node("mul", (2, -1)), node("expand", (0, 3), shape=(-2, 4))]
    data = file_of([(1, 4), (None, 1)], nodes, [raw("n", np.asarray(1000), "int64")])
    network = load(data, limits=Limits(call_memory=200_000))
    assert network(np.zeros((1, 4), F32), np.zeros((10, 1), F32)).shape == (10_000, 4)  # type: ignore[union-attr]
    with pytest.raises(LimitError, match="call_memory="):
        network(np.zeros((1, 4), F32), np.zeros((20, 1), F32))


def test_nothing_of_a_huge_width_is_refused() -> None:
    """Of no entries there are few, but NumPy counts the width."""
    network = load(calls.nothing_of_a_huge_width())
    with pytest.raises(InputError, match=r"\(0, 2305843009213693952\).*Cure: give at least one sample"):
        network(np.zeros((0, 1), F32))
