"""Post-training compression of networks that are not what their task says: refused, never emptied."""

import pytest
import torch
from torch import nn

import laconic
from laconic.errors import InputError, ModelError
from laconic.methods import PostTraining, Target
from laconic.methods.layerwise.refining import Refine
from laconic.tasks import Regression

NEAR = Target(max_kl=0.01)


@pytest.fixture
def inputs():
    return torch.randn(200, 6, generator=torch.Generator().manual_seed(0))


def regressor(outputs=1):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs))


@pytest.mark.parametrize("flat", [False, True], ids=["one column", "no axis of classes"])
def test_a_regression_taken_for_a_classification_is_refused(inputs, flat):
    net = nn.Sequential(*regressor(), *([nn.Flatten(0)] if flat else []))
    with pytest.raises(InputError, match=r"Classification: predictions .*shape \(\d+,.*Cure: .*Regression"):
        laconic.compress_trained(net, [inputs], NEAR)


def test_without_labels_a_regression_asks_for_its_noise(inputs):
    with pytest.raises(InputError, match=r"learns log_noise .*Cure: .*Regression\(noise=0.5\)"):
        laconic.compress_trained(regressor(), [inputs], NEAR, task=Regression())


def test_a_regression_takes_its_noise_from_validation_batches(inputs):
    net = regressor()
    noisy = net(inputs).detach() + 0.1 * torch.randn(200, 1, generator=torch.Generator().manual_seed(2))
    small = laconic.compress_trained(net, [inputs], NEAR, task=Regression(), validate=[(inputs, noisy)])
    given = laconic.compress_trained(net, [inputs], NEAR, task=Regression(noise=0.1))
    assert 0 < small.facts["divergence"] <= 0.01
    assert any(small.tensors["0.weight"].integers.ravel())
    sizes = [sum(t.integers.any(axis=None) for t in one.tensors.values()) for one in (small, given)]
    assert sizes[0] == sizes[1]
    far = float((small.module(inputs) - net(inputs)).detach().square().mean())
    assert far / (2 * 0.1**2) < 0.02  # nats of a Gaussian of this noise


def test_with_a_divergence_of_ones_own_no_noise_is_needed(inputs):
    method = PostTraining(divergence=lambda out, to: (out - to).square().sum())
    small = laconic.compress_trained(regressor(), [inputs], NEAR, task=Regression(), method=method)
    assert small.facts["divergence"] <= 0.01


def fails(x, generator):
    raise ZeroDivisionError("by hand")


@pytest.mark.parametrize("augment", [fails, lambda x: x], ids=["raises", "takes one argument"])
def test_an_augmentation_that_fails_is_named_before_the_search(inputs, augment, monkeypatch):
    from laconic.methods import post_training

    monkeypatch.setattr(post_training, "searched", lambda *a: pytest.fail("the search had begun"))
    method = PostTraining(refine=Refine(steps=3, augment=augment))
    with pytest.raises(InputError, match=r"refine.augment raised (ZeroDivisionError|TypeError)"):
        laconic.compress_trained(regressor(3), [inputs], NEAR, method=method)


class Complex(nn.Module):
    def __init__(self, real):
        super().__init__()
        self.phase = nn.Parameter(torch.randn(6, 3, dtype=torch.cfloat))
        self.head = nn.Linear(3, 3) if real else nn.Identity()

    def forward(self, x):
        return self.head((x.to(torch.cfloat) @ self.phase).abs())


def test_complex_weights_alone_are_refused_and_others_stay_as_they_are(inputs):
    with pytest.raises(ModelError, match="complex weights alone.*Cure: .*view_as_real"):
        laconic.compress_trained(Complex(real=False), [inputs], NEAR)
    net = Complex(real=True)
    small = laconic.compress_trained(net, [inputs], NEAR)
    assert torch.equal(small.module.phase, net.phase)
    assert "head.weight" in small.tensors
