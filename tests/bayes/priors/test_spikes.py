import pytest
import torch

from laconic.bayes.priors import LogUniform, Normal, Spikes
from laconic.errors import InputError


def test_the_papers_window():
    assert Spikes((-0.2, 0.0, 0.2)).window_widths() == pytest.approx((0.075, 0.075, 0.075))


@pytest.mark.parametrize(
    "levels", [(-1.0, -0.5, 0.0, 0.5, 1.0), (-1.0, 0.0, 0.1, 0.4), (-3.0, -1.0, 1.0, 3.0)]
)
def test_windows_of_levels_other_than_zero_stay_apart(levels):
    widths = Spikes(levels).window_widths()
    pairs = [(c, tau) for c, tau in zip(levels, widths, strict=True) if c != 0.0]
    for (low, tau_low), (high, tau_high) in zip(pairs, pairs[1:], strict=False):
        assert max(tau_low, tau_high) <= (high - low) / 3 + 1e-12


def test_which_priors_are_proper():
    assert Spikes((0.0, 1.0)).improper and LogUniform().improper and not Normal().improper


def test_values_follow_the_scale():
    scale = torch.tensor(0.5, requires_grad=True)
    values = Spikes((-1.0, 0.0, 1.0), scale).values()
    assert values.tolist() == [-0.5, 0.0, 0.5] and values.requires_grad


@pytest.mark.parametrize(
    "arguments",
    [
        {"levels": (1.0,)},
        {"levels": (0.0, 0.0)},
        {"levels": (1.0, 0.0)},
        {"levels": (0.0, float("nan"))},
        {"levels": (0.0, 1.0), "scale": torch.ones(2)},
        {"levels": (0.0, 1.0), "windows": (0.1,)},
        {"levels": (0.0, 1.0), "windows": (0.1, 0.0)},
    ],
)
def test_what_is_no_codebook(arguments):
    with pytest.raises(InputError):
        Spikes(**arguments)
