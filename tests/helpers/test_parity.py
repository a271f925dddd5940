"""Parity fails where the file's network gives other numbers, shapes or types than the module."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.method_suite import assert_same_state
from tests.helpers.parity import TOLERANCE, Fn, assert_parity, flat, resized, worst_error

X = torch.linspace(-1, 1, 12).reshape(3, 4)


def test_a_right_network_passes():
    assert_parity(Fn(lambda layer, x: layer(x).tanh(), nn.Linear(4, 2)), X)


def test_a_module_that_computes_something_else_than_its_graph_fails():
    calls = []

    def drifting(x):
        calls.append(None)
        return x * (1 + 1e-4 * len(calls))

    with pytest.raises(AssertionError, match="batch 1: "):
        assert_parity(Fn(drifting), X)


ONE = np.array([1.0, -2.0], np.float32)


@pytest.mark.parametrize(
    ("got", "least"),
    [
        ([ONE * np.float32(1.001)], 5e-4),
        ([ONE.reshape(1, 2)], np.inf),
        ([ONE.astype(np.float64)], np.inf),
        ([np.array([1.0, np.nan], np.float32)], np.inf),
        ([ONE, ONE], np.inf),
    ],
)
def test_worst_error_sees_what_differs(got, least):
    assert worst_error([ONE], [ONE]) == 0.0
    assert worst_error(got, [ONE]) >= least > TOLERANCE


def test_no_two_examples_are_alike():
    wide = resized(X[:1], 4, 0)
    assert wide.shape == (4, 4) and len({tuple(row.tolist()) for row in wide}) == 4


def test_all_tensors_of_a_result_are_compared():
    assert len(flat((X, None, [X, (X,)]))) == 3


def test_another_bit_or_another_name_of_a_state_is_seen():
    state = {"a": X, "b": X + 1}
    assert_same_state(dict(state), state, "same")
    with pytest.raises(AssertionError, match="names"):
        assert_same_state({"b": X + 1, "a": X}, state, "order")
    with pytest.raises(AssertionError, match="bits: b"):
        assert_same_state({"a": X, "b": torch.nextafter(X + 1, X + 2)}, state, "bits")
