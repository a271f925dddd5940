"""Which layers draw pre-activations and which draw whole weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from laconic.bayes.layers import LOCAL, SAMPLINGS, local_layers
from laconic.bayes.posteriors import GaussianFamily
from laconic.bayes.prepare import make_bayesian
from laconic.errors import InputError
from laconic.methods import VNQ, SparseVD
from laconic.networks.noise import NoiseSource

TWICE = torch.ones(2, 1, 6, 6)  # the same example two times


def one_noise_for_all(net: nn.Module) -> bool:
    """Whether two equal examples of a batch get the same output, though two passes do not."""
    out = net.train()(TWICE)
    assert not torch.equal(out, net(TWICE))
    return bool((out[0] == out[1]).all())


def conv(sampling: str) -> nn.Module:
    layer = nn.Conv2d(1, 3, 3)
    return make_bayesian(
        layer, example=TWICE, posterior=GaussianFamily(0.0), noise=NoiseSource(0), sampling=sampling
    )


def linear(sampling: str) -> nn.Module:
    layer = nn.Linear(6, 3)
    return make_bayesian(
        layer, example=TWICE, posterior=GaussianFamily(0.0), noise=NoiseSource(0), sampling=sampling
    )


def test_local_draws_noise_for_each_example() -> None:
    assert not one_noise_for_all(conv("local"))
    assert not one_noise_for_all(linear("local"))


def test_mixed_draws_a_convolution_s_weights_and_a_linear_layer_s_sums() -> None:
    assert one_noise_for_all(conv("mixed"))
    assert not one_noise_for_all(linear("mixed"))


def test_weights_draws_weights_everywhere() -> None:
    assert one_noise_for_all(conv("weights"))
    assert one_noise_for_all(linear("weights"))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_images_by_pixel_stay_so(sampling: str) -> None:
    """A drawn weight of one channel with other strides would turn all that follows, at twice the time."""
    pixels = torch.channels_last
    net = conv(sampling).to(memory_format=pixels).train()
    assert net(TWICE.contiguous(memory_format=pixels)).is_contiguous(memory_format=pixels)


def test_every_way_gives_the_same_mean_and_variance() -> None:
    x = torch.linspace(-1, 1, 36).view(1, 1, 6, 6)
    found = {}
    for sampling in SAMPLINGS:
        torch.manual_seed(0)
        net = conv(sampling).train()
        with torch.no_grad():
            draws = torch.stack([net(x) for _ in range(4000)])
        found[sampling] = draws.mean(0), draws.std(0)
    for mean, std in found.values():
        # means of 4000 draws with standard deviations up to 2: five of their own deviations are 0.16
        assert (mean - found["local"][0]).abs().max() < 0.16
        assert (std / found["local"][1] - 1).abs().max() < 0.1


def test_local_means_every_layer_that_has_a_rule() -> None:
    assert local_layers("local") == dict(LOCAL)


@pytest.mark.parametrize("method", [SparseVD, VNQ])
def test_an_unknown_name_is_refused(method: type) -> None:
    with pytest.raises(InputError, match="local, mixed, weights, flipout"):
        method(sampling="exact")
