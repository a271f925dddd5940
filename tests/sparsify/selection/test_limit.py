"""Keep plans by a limit on scores."""

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.sparsify.selection.limit import plan_above
from laconic.structure import Coupling, Group


def coupling_of(*sizes, tied=()):
    return Coupling(tuple(Group(f"g{k}:0", n, ()) for k, n in enumerate(sizes)), tied=tied)


def test_above_a_limit():
    coupling = coupling_of(4, 4, tied=(("g0:0", "g1:0"),))
    scores = {"g0:0": np.array([5.0, -9, -9, 0]), "g1:0": np.array([-9.0, -8, -7, -6])}
    plan = plan_above(scores, coupling, -3.0)  # the second has none above, but keeps as many as the first
    assert dict(plan.kept) == {"g0:0": (0, 3), "g1:0": (2, 3)}
    assert [len(k) for k in plan_above(scores, coupling, 99.0).kept.values()] == [1, 1]
    assert [len(k) for k in plan_above(scores, coupling, 99.0, min_units=2, multiple=3).kept.values()] == [
        3,
        3,
    ]


@pytest.mark.parametrize("limit", [float("nan"), float("inf")])
def test_a_limit_that_is_no_number_is_refused(limit):
    with pytest.raises(InputError, match="limit on scores must be finite"):
        plan_above({"g0:0": np.ones(4)}, coupling_of(4), limit)
