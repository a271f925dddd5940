"""Functions without a rule: elementwise ones are seen to be, others are not, and nothing random is drawn."""

import pytest
import torch
from torch import nn

from laconic.networks.watching import Call
from laconic.pack.graph.ops import OPS
from laconic.runtime.ops.table import TABLE
from laconic.structure import find_groups
from laconic.structure.coupling.groups import RULES
from laconic.structure.coupling.observed import observed

X = torch.linspace(-2, 2, 24, dtype=torch.float64).reshape(2, 3, 4)
POSITIVE = X.abs() + 0.1


def call(function, *args, **kwargs):
    return Call(function, args, kwargs, function(*args, **kwargs))


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (torch.asinh, (X,)),
        (torch.special.erfcx, (X,)),
        (torch.xlogy, (X, POSITIVE)),
        (torch.hypot, (X, POSITIVE)),
        (torch.Tensor.asinh_, (X.clone(),)),
    ],
    ids=lambda f: getattr(f, "__name__", ""),
)
def test_elementwise_functions_are_seen(function, args):
    assert function not in RULES, "the rule of a function that has one is not observed"
    assert observed(call(function, *args)) is not None


SQUARE = torch.arange(16, dtype=torch.float64).reshape(4, 4).sin()


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (torch.logcumsumexp, (X, 1)),  # mixes positions
        (torch.tril, (SQUARE,)),  # depends on the position
        (torch.linalg.inv, (SQUARE + 4 * torch.eye(4),)),
        (torch.poisson, (POSITIVE,)),  # draws
        (torch.special.zeta, (X + 9, X[:1] + 9)),  # operands of two shapes
        (torch.heaviside, (POSITIVE, X)),  # a constant here: it shows nothing
    ],
    ids=lambda f: getattr(f, "__name__", ""),
)
def test_other_functions_are_not(function, args):
    assert observed(call(function, *args)) is None


def test_looking_draws_nothing_from_the_global_generator():
    draw = call(torch.poisson, POSITIVE)
    before = torch.get_rng_state()
    observed(draw)
    assert torch.equal(before, torch.get_rng_state())


class Convolutions(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 2, 3)
        self.function = function

    def forward(self, x):
        return self.second(self.function(self.first(x)))


class Normalised(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 2)
        self.function = function

    def forward(self, x):
        return self.last(self.norm(self.function(self.first(x))))


def test_groups_go_through_a_function_without_a_rule():
    coupling = find_groups(Convolutions(torch.asinh), torch.zeros(2, 1, 7, 7))
    assert [(g.name, g.size) for g in coupling.groups] == [("first.weight:0", 6)] and not coupling.notes


def test_a_function_that_mixes_positions_leaves_its_layer_whole():
    coupling = find_groups(Convolutions(lambda x: torch.logcumsumexp(x, 1)), torch.zeros(2, 1, 7, 7))
    assert not coupling.groups and "logcumsumexp has no rule" in coupling.notes[0]


@pytest.mark.parametrize(("function", "found"), [(torch.asinh, True), (torch.special.erfcx, False)])
def test_whether_zeros_stay_zero_is_seen(function, found):
    """Moments of a layer norm change with a removed number, unless it is zero (erfcx(0) is 1)."""
    coupling = find_groups(Normalised(function), torch.zeros(2, 3))
    assert ("first.weight:0" in {g.name for g in coupling.groups}) is found


POINTWISE = [
    spec.name
    for spec in OPS
    if TABLE[spec.name].cost == "pointwise" and spec.least == spec.most == 1 and spec.name != "logical_not"
]


def torch_function(name):
    """The torch function of an operation of the file format that has one operand."""
    name = "hardtanh" if name == "clamp" else name
    return getattr(torch.nn.functional, name, None) or getattr(torch, name)


@pytest.mark.parametrize("name", POINTWISE)
def test_groups_go_through_every_pointwise_operation_of_the_file_format(name):
    function = torch_function(name)
    coupling = find_groups(Convolutions(lambda x: function(x.exp())), torch.zeros(2, 1, 7, 7))
    assert [g.name for g in coupling.groups] == ["first.weight:0"], coupling.notes
