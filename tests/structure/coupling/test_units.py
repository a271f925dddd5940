"""The disjoint-set forest against a brute-force one, and the functions that a name stands for."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from laconic.structure.coupling.functions import called
from laconic.structure.coupling.labels import Value, along, broadcast, mixed, moved
from laconic.structure.coupling.units import Units

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20)


@given(PAIRS)
def test_sets_are_what_reaches_what(pairs):
    units = Units()
    units.fresh(12)
    reach = np.eye(13, dtype=bool)
    for a, b in pairs:
        units.join(np.array([a]), np.array([b]))
        reach[a, b] = reach[b, a] = True
    for k in range(13):  # Warshall
        reach |= np.outer(reach[:, k], reach[k])
    roots = units.find(np.arange(13))
    assert ((roots[:, None] == roots[None]) == reach).all()
    assert all((roots[k] == 0) == reach[k, 0] for k in range(13))


def test_a_name_finds_functions_methods_and_operators():
    found = called("add")
    assert {
        torch.add,
        torch.Tensor.add,
        torch.Tensor.add_,
        torch.Tensor.__add__,
        torch.Tensor.__radd__,
    } <= set(found)
    assert torch.Tensor.T.__get__ in called("T")
    assert F.relu in called("relu") and torch.relu in called("relu")


def numbered(*shape):
    return np.arange(int(np.prod(shape))).reshape(shape)


def test_an_axis_that_is_split_is_settled_by_what_is_mixed():
    units = Units()
    value = Value((2, 6), (along(1, 2, units.fresh(6)),))
    place = numbered(2, 6).reshape(2, 2, 3)
    split = moved(units, [value], np.zeros_like(place), place)
    (field,) = split.fields
    assert field.axes == (1, 2)
    kept = mixed(units, split, 2)  # a softmax over the inner part: two units of three are left
    assert kept.fields[0].axes == (1,)
    roots = units.find(value.fields[0].units.ravel())
    assert len(set(roots[:3])) == len(set(roots[3:])) == 1 and roots[0] != roots[3]


def test_concatenation_keeps_units_apart_and_rows_together():
    units = Units()
    a, b = (Value((2, n), (along(1, 2, units.fresh(n)),)) for n in (2, 3))
    owner = np.array([[0, 0, 1, 1, 1]] * 2)
    place = np.array([[0, 1, 0, 1, 2], [2, 3, 3, 4, 5]])
    joined = moved(units, [a, b], owner, place)
    assert len(set(units.find(joined.fields[0].units.ravel()))) == 5
    c, d = (Value((n, 4), (along(1, 2, units.fresh(4)),)) for n in (1, 2))
    owner = np.array([[0] * 4, [1] * 4, [1] * 4])
    place = np.array([[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]])
    stacked = moved(units, [c, d], owner, place)
    assert stacked.fields[0].axes == (1,)
    assert (units.find(c.fields[0].units) == units.find(d.fields[0].units)).all()


def test_one_position_picked_must_stay():
    units = Units()
    value = Value((2, 4), (along(1, 2, units.fresh(4)),))
    picked = moved(units, [value], np.zeros(2, dtype=int), np.array([1, 5]))
    assert picked.fields == () and units.is_fixed(value.fields[0].units)


def test_what_meets_a_fixed_axis_is_fixed():
    units = Units()
    value, other = Value((2, 4), (along(1, 2, units.fresh(4)),)), Value((2, 4))
    assert broadcast(units, [value, other], (2, 4), "all").fields == ()
    assert units.is_fixed(value.fields[0].units)
