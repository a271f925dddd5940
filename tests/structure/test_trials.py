"""Trials of many groups at once: what they tell apart, and how few there are."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from laconic.structure import Coupling, Group, find_groups
from laconic.structure.coupling.groups import tied_sets
from laconic.structure.trials import GroupSet, Trial, designs, failures, random_plan, that_agree
from tests.helpers.networks import seeded


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10, 11, 40])
def test_any_two_things_are_told_apart(count):
    trials = designs(count)
    where = [{k for k, part in enumerate(trials) if thing in part} for thing in range(count)]
    assert all(where) and not any(a <= b for a, b in permutations(where, 2))
    assert len(trials) <= max(1, 2 * np.log2(count) + 1)


class Fake:
    """Fails where one of some things, or all of several together, take part."""

    def __init__(self, alone=(), together=()):
        self.alone, self.together, self.calls = set(alone), set(together), 0

    def failure(self, sets):
        self.calls += 1
        names = {s.names for s in sets}
        bad = sorted(names & self.alone)
        return bad[0] if bad else "together" if self.together and self.together <= names else None


def sets(count):
    return [GroupSet((Group(f"g{k}:0", 4, ()),), ()) for k in range(count)]


@pytest.mark.parametrize("bad", [set(), {3}, {0, 39}, {1, 2, 3, 4}, set(range(40))])
def test_those_that_fail_are_found(bad):
    trial = Fake(alone={f"g{k}:0" for k in bad})
    found = failures(trial, sets(40))
    assert set(found) == bad
    assert all(reason == f"g{k}:0" for k, reason in found.items())  # each has its own reason
    assert trial.calls <= 8 + 12 * len(bad)


def test_what_fails_only_together_is_left_to_the_last_trial():
    trial = Fake(together={"g1:0", "g4:0"})
    assert not failures(trial, sets(6))
    good, notes = that_agree(trial, sets(6))
    assert [s.names for s in good] == ["g0:0", "g1:0", "g2:0", "g3:0", "g5:0"]
    assert notes == ["g4:0 left whole: it cannot shrink together with what comes before it"]


def test_plans_of_trials_keep_half():
    coupling = Coupling(tuple(Group(f"w{n}:0", n, ()) for n in (2, 3, 9)))
    for seed in range(20):
        plan = random_plan(coupling, np.random.default_rng(seed), at_least=0.5)
        assert all(max(1, size // 2) <= len(plan.kept[name]) < size for name, size in plan.sizes.items())


def chain(layers):
    parts = [nn.Linear(4, 6), nn.ReLU()]
    for _ in range(layers - 2):
        parts += [nn.Linear(6, 6), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(6, 3))


class Counted:
    """A trial that counts how often it is asked."""

    def __init__(self, trial):
        self.trial, self.calls = trial, 0

    def failure(self, sets):
        self.calls += 1
        return self.trial.failure(sets)


def test_thirty_groups_take_eight_trials():
    net, x = seeded(lambda: chain(30)).double(), torch.randn(2, 4, dtype=torch.float64)
    coupling = find_groups(net, x)
    assert len(coupling.groups) == 30  # 29 layers and the input
    trial = Counted(Trial(net, (x,), 1e-9, np.random.default_rng(0)))
    assert not failures(trial, [GroupSet.of(coupling, names) for names in tied_sets(coupling)])
    assert trial.calls <= 8


def test_a_mistake_in_one_group_of_thirty_is_found():
    class Hard(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.hard, self.after = chain(12), nn.Linear(3, 8), chain(12)

        def forward(self, x):
            return self.after(self.hard(self.before(x)).view(-1, 8)[:, :4])

    notes = find_groups(seeded(Hard), torch.randn(2, 4)).notes
    names = {g.name for g in find_groups(seeded(Hard), torch.randn(2, 4)).groups}
    assert len(names) >= 22 and "hard.weight:0" not in names
    assert any("hard.weight" in note for note in notes)


def test_what_holds_for_small_images_alone_is_tried_again():
    """A network that sums up places by their number only where there are many."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6, 2)

        def forward(self, x):
            y = self.a(x)
            if y.shape[2] > 64:
                y = y.view(y.shape[0], 8, y.shape[2], y.shape[3])  # its channels are counted by hand
            return self.fc(self.b(y).mean((2, 3)))

    coupling = find_groups(seeded(Odd), torch.randn(2, 1, 130, 8))
    assert [g.name for g in coupling.groups] == ["b.weight:0"]
    assert any("a.weight:0 left whole" in note for note in coupling.notes)
