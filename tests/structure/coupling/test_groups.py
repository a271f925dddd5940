"""Parts of a coupling: without inputs, and groups that must keep equally many."""

from laconic.structure import Coupling, Group, find_groups
from laconic.structure.coupling.groups import left_whole, tied_sets, without_inputs
from tests.helpers.coupled_networks import CASES
from tests.helpers.networks import seeded


def coupling_of(*sizes, tied=()):
    return Coupling(tuple(Group(f"g{k}:0", n, ()) for k, n in enumerate(sizes)), tied=tied)


def test_inputs_can_be_left_out():
    build, example, _ = CASES["gru"]
    coupling = find_groups(seeded(build), example)
    inner = without_inputs(coupling)
    assert {g.name for g in coupling.groups} - {g.name for g in inner.groups} == {"rnn.weight_ih_l0:1"}
    assert inner.tied == coupling.tied and tied_sets(inner) == (("rnn.weight_ih_l0:0", "rnn.weight_ih_l1:0"),)


def test_ties_that_meet_are_one():
    coupling = coupling_of(3, 3, 3, 3, tied=(("g3:0", "g1:0"), ("g1:0", "g2:0")))
    assert tied_sets(coupling) == (("g0:0",), ("g1:0", "g2:0", "g3:0"))


def test_what_is_left_whole_takes_its_tied_groups_along_and_says_why():
    coupling = left_whole(coupling_of(3, 3, 3, tied=(("g0:0", "g2:0"),)), ["g2:0"], "it is kept")
    assert [g.name for g in coupling.groups] == ["g1:0"] and coupling.tied == ()
    assert coupling.notes == ("g0:0: it is kept: left whole", "g2:0: it is kept: left whole")
