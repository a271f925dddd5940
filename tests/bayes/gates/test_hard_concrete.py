"""Hard concrete gates against their own draws, autodiff, and what the paper says of them."""

import math

import pytest
import torch

from laconic.bayes import HardConcrete, NoiseSource
from laconic.errors import InputError

LOCATIONS = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64)
DRAWS = 40_000


def draws(gate):
    """Draws (DRAWS, units) from one seed."""
    tall = gate.with_parameters({"_log_alpha": gate.log_alpha.expand(DRAWS, -1)})
    return tall.sample(NoiseSource(0))


def test_the_penalty_is_the_share_of_draws_that_are_not_zero():
    gate = HardConcrete(LOCATIONS)
    share = (draws(gate) != 0).double().mean(0)
    # five standard errors of a share: fails by chance once in a million
    assert (share - gate.penalty()).abs().max() < 5 * 0.5 / math.sqrt(DRAWS)


def test_half_of_the_mass_is_at_the_ends_as_in_figure_2_of_the_paper():
    """Beta = 0.5, log alpha = 0: "roughly half of its mass" is at 0 and 1; each end has 23.2 %."""
    gate = HardConcrete(torch.zeros(1, dtype=torch.float64), beta=0.5)
    drawn = draws(gate)
    assert gate.penalty().item() == pytest.approx(1 - 0.23166, abs=1e-5)
    for end in (0.0, 1.0):
        assert (drawn == end).double().mean().item() == pytest.approx(0.2317, abs=0.011)


def test_the_gradient_of_a_draw_is_that_of_finite_differences():
    gate = HardConcrete(LOCATIONS)

    def drawn(location):
        return gate.with_parameters({"_log_alpha": location}).sample(NoiseSource(3))

    inside = (drawn(LOCATIONS) > 0) & (drawn(LOCATIONS) < 1)
    assert inside.any()
    assert torch.autograd.gradcheck(drawn, LOCATIONS.clone().requires_grad_())


def test_units_go_where_the_evaluated_gate_is_zero():
    """sigmoid(log alpha) * 1.2 - 0.1 reaches zero at log alpha = log(1 / 11)."""
    edge = -math.log(11.0)
    gate = HardConcrete(torch.tensor([edge - 1e-3, edge + 1e-3]))
    assert gate.keep().tolist() == [False, True]
    assert HardConcrete.open(3, 0.9).log_alpha.tolist() == pytest.approx([math.log(9.0)] * 3)


@pytest.mark.parametrize("settings", [{"beta": 0.0}, {"gamma": 0.1}, {"zeta": 1.0}])
def test_settings_that_cannot_be(settings):
    with pytest.raises(InputError, match="hard concrete needs"):
        HardConcrete(LOCATIONS, **settings)
