"""Units before and after: one form for every method that removes them, by the user's names."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import laconic
from laconic.bayes.gates import Gate
from laconic.methods import FilterPruning
from laconic.methods.bayesian_compression import BayesianCompression
from laconic.methods.common.removal import remove_dead_units
from laconic.methods.common.units import MOST, unit_facts, units_text
from laconic.methods.contract import Method
from laconic.methods.gating import gates_of
from laconic.methods.l0 import L0
from laconic.methods.structured_bayesian_pruning import StructuredBayesianPruning
from laconic.structure import find_groups


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.last(torch.relu(self.middle(torch.relu(self.first(pixels)))))
        return out


def _second_half(gate: Gate) -> Tensor:
    """In place of what a gate would keep."""
    units = len(gate.expectation())
    return torch.arange(units) >= units // 2


@pytest.mark.parametrize(
    "method",
    [FilterPruning(0.5), L0(), StructuredBayesianPruning(), BayesianCompression()],
    ids=lambda method: type(method).__name__,
)
def test_every_method_tells_units_in_one_form(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = laconic.prepare(Small(), method, torch.randn(4, 6), data_size=100, total_steps=1)
    gates = {} if isinstance(method, FilterPruning) else gates_of(net)
    for kind in {type(gate) for gate in gates.values()}:
        monkeypatch.setattr(kind, "keep", _second_half)
        if hasattr(kind, "signal_to_noise"):
            monkeypatch.setattr(kind, "signal_to_noise", lambda gate: 9.0 * _second_half(gate))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing was trained
        small = laconic.convert(net)
    units, state = small.facts["units"], dict(small.module.named_parameters())
    assert set(units) - {"pixels"} == {"first", "middle"}
    for layer, full in (("first", 8), ("middle", 5)):
        assert units[layer] == [full, len(state[f"{layer}.weight"])]
        assert len(small.facts["kept_units"][f"{layer}.weight:0"]) == units[layer][1]
    assert units.get("pixels", [6, 6]) == [6, state["first.weight"].shape[1]]
    assert any(left < was for was, left in units.values()), units
    assert units_text(small.facts).startswith("units: ") and "first 8" in units_text(small.facts)


def test_a_second_removal_counts_from_the_first_network() -> None:
    torch.manual_seed(0)
    net = laconic.prepare(Small(), FilterPruning(0.5, grid=None), torch.randn(4, 6), data_size=100)
    small = laconic.convert(net)
    first = small.facts["units"]["first"]
    with torch.no_grad():
        small.module.first.weight[0] = small.module.first.bias[0] = 0
        small.module.middle.weight[:, 0] = 0
    smaller = remove_dead_units(small)
    assert smaller.facts["units"]["first"] == [8, first[1] - 1]
    kept = small.facts["kept_units"]["first.weight:0"]
    assert smaller.facts["kept_units"]["first.weight:0"] == kept[1:]


def test_layers_of_one_name_have_their_groups_names() -> None:
    net = nn.LSTM(3, 4, num_layers=2)
    groups = find_groups(net, torch.zeros(2, 1, 3))
    units = unit_facts(net, groups, {})["units"]
    assert all(was == left for was, left in units.values())
    assert len(units) == len([g for g in groups.groups if not g.of_input])


def test_a_long_line_is_cut_short() -> None:
    told = units_text({"units": {f"layer{k}": [4, 3] for k in range(MOST + 5)}})
    assert told.endswith("and 5 more in the record") and f"layer{MOST}" not in told
