from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.bayes.prepare import posteriors_of
from laconic.errors import InputError, ScaleError
from laconic.methods import VNQ, Judge, Score
from laconic.methods.learned_codebooks import SCALES
from laconic.methods.vnq import FUNNEL
from laconic.quantize.uniform import bfloat16
from laconic.records import Codebook, UniformGrid
from laconic.schedules import WarmUp
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits, train


def _prepared(method: VNQ) -> nn.Module:
    model = DigitsMLP(hidden=16, generator=torch.Generator().manual_seed(1))
    return laconic.prepare(model, method, digits()[0][:2], data_size=100, seed=0)


def _scales(net: nn.Module) -> list[nn.Parameter]:
    return [p for n, p in net.named_parameters() if n.startswith(SCALES)]


def test_every_weight_tensor_gets_a_learned_scale_of_its_own() -> None:
    net = _prepared(VNQ(init_scale=0.3))
    assert [p.item() for p in _scales(net)] == pytest.approx([0.3, 0.3])
    laconic.penalty(net).backward()
    assert not any(p.grad is not None and bool(p.grad) for p in _scales(net)), "the warm-up starts at 0"


def test_the_penalty_reaches_scales_means_and_variances() -> None:
    net = _prepared(VNQ(warm_up=WarmUp(0.0, 0.0)))
    laconic.penalty(net).backward()
    for q in posteriors_of(net).values():
        assert bool(q.mean.grad.any())  # type: ignore[union-attr]
        assert bool(q.log_var.grad.any())  # type: ignore[union-attr]
    assert all(bool(p.grad) for p in _scales(net))


def test_learning_rates_are_the_methods_ratios() -> None:
    net = _prepared(VNQ(codebook_lr=0.02, noise_lr=3.0))
    rates = {id(p): round(g["lr"], 9) for g in laconic.param_groups(net, 0.1) for p in g["params"]}
    assert {rates[id(p)] for p in _scales(net)} == {0.002}
    assert {rates[id(q.log_var)] for q in posteriors_of(net).values()} == {0.3}
    assert {rates[id(q.mean)] for q in posteriors_of(net).values()} == {0.1}
    assert set(rates) == {id(p) for p in net.parameters()}


@pytest.mark.parametrize("method", [VNQ.ternary(), VNQ.binary_plus_zero(), VNQ.evenly(4)])
def test_a_step_clips_scales_variances_and_means(method: VNQ) -> None:
    net = _prepared(method)
    with torch.no_grad():
        for q, scale in zip(posteriors_of(net).values(), _scales(net), strict=True):
            scale.fill_(1e-3)
            q.log_var.copy_(torch.linspace(-30, 10, q.log_var.numel()).view_as(q.log_var))
            q.mean.copy_(torch.linspace(-9, 9, q.mean.numel()).view_as(q.mean))
    laconic.step(net, terms=1)
    for q, scale in zip(posteriors_of(net).values(), _scales(net), strict=True):
        assert scale.item() == pytest.approx(method.min_scale)
        assert (float(q.log_var.min()), float(q.log_var.max())) == method.log_var_bounds
        slack = FUNNEL * q.std
        assert bool((q.mean >= method.levels[0] * scale - slack - 1e-6).all())
        assert bool((q.mean <= method.levels[-1] * scale + slack + 1e-6).all())


def test_means_inside_the_funnels_are_left_alone() -> None:
    net = _prepared(VNQ())
    with torch.no_grad():
        for q in posteriors_of(net).values():
            q.mean.clamp_(-0.19, 0.19)
    before = [q.mean.detach().clone() for q in posteriors_of(net).values()]
    laconic.step(net, terms=1)
    after = [q.mean for q in posteriors_of(net).values()]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (VNQ.ternary(), UniformGrid),
        (VNQ.binary_plus_zero(), UniformGrid),
        (VNQ.evenly(5), UniformGrid),
        (VNQ.evenly(4), Codebook),
        (VNQ(levels=(-2.0, 0.0, 1.0)), Codebook),
        (VNQ.ternary(threshold=None), UniformGrid),
    ],
)
def test_weights_take_the_levels_and_noisy_ones_zero(method: VNQ, kind: type) -> None:
    net = _prepared(method)
    with torch.no_grad():
        for q in posteriors_of(net).values():
            q.mean.copy_(torch.linspace(-0.4, 0.4, q.mean.numel()).view_as(q.mean))
            q.log_var.view(-1)[::3] = 1.0
    small = laconic.convert(net)
    for (name, q), scale in zip(posteriors_of(net).items(), _scales(net), strict=True):
        tensor = small.tensors[name]
        levels = np.asarray([np.float32(v * bfloat16(scale.item())) for v in method.levels])
        values = tensor.values()
        assert isinstance(tensor.grid, kind)  # type: ignore[union-attr]
        assert set(np.unique(values).tolist()) <= set(levels.tolist())
        mean = q.mean.detach().numpy()
        closest = levels[np.abs(mean[..., None] - levels).argmin(-1)]
        log_alpha = q.log_var.detach().numpy() - np.log(mean**2 + 1e-16)
        if method.threshold is not None and 0.0 in method.levels:
            assert (log_alpha >= 3).any()
            closest = np.where(log_alpha >= 3, np.float32(0), closest)
        tie = np.isclose(np.sort(np.abs(mean[..., None] - levels), -1)[..., 1] - np.abs(mean - closest), 0)
        assert np.array_equal(values[~tie], closest[~tie])


def test_biases_are_quantised_too_and_the_record_says_how() -> None:
    small = laconic.convert(train(DigitsMLP(hidden=16), VNQ(warm_up=WarmUp(0.0, 0.0)), steps=2))
    assert list(small.tensors) == ["fc1.weight", "fc2.weight", "fc1.bias", "fc2.bias"]
    assert small.record["method"] == "vnq"
    assert small.record["bias_bits"] == 10
    assert small.record["tensors"]["fc2.bias"]["weights"] == 10
    assert set(small.facts["scales"]) == {"fc1.weight", "fc2.weight"}


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match=r"two rising numbers, got \(1.0, 0.0\)"):
        VNQ(levels=(1.0, 0.0))
    with pytest.raises(InputError, match="0 < min_scale <= init_scale, got 0.5, 0.2"):
        VNQ(min_scale=0.5)
    with pytest.raises(ScaleError, match=r"VNQ.*kl_weight"):
        _prepared(VNQ(kl_weight=0.01))


def test_the_lowest_threshold_within_the_allowance_is_taken() -> None:
    def judge(limit: int) -> Judge:
        """Errors rise by a point once fewer than ``limit`` weights of fc1 are left."""

        def evaluate(module: nn.Module) -> Score:
            left = int(module.get_parameter("fc1.weight").count_nonzero())
            return Score(10.0 if left >= limit else 11.0, 1.0, 100)

        return Judge(evaluate)

    method = VNQ(init_scale=0.12, tried_thresholds=(1.0, -2.8, -3.4), max_drop=0.5)
    net = _prepared(method)
    counts = {}
    for threshold in (3.0, -2.8, -3.4):
        small = laconic.convert(_prepared(VNQ(init_scale=0.12, threshold=threshold)))
        counts[threshold] = small.tensors["fc1.weight"].nonzeros()
    assert counts[3.0] > counts[-2.8] > counts[-3.4]

    small = laconic.convert(net, judge(counts[-2.8]))
    assert small.facts["threshold"] == -2.8
    assert small.tensors["fc1.weight"].nonzeros() == counts[-2.8]
    assert laconic.convert(_prepared(method), judge(counts[3.0] + 1)).facts["threshold"] == -3.4
    assert laconic.convert(_prepared(method)).facts["threshold"] == 3.0, "nobody judges: as published"


def test_of_the_allowed_thresholds_the_likeliest_is_taken() -> None:
    """A judge whose likelihood is best at one count of weights, and who forbids nothing."""
    net = _prepared(VNQ(init_scale=0.12, tried_thresholds=(1.0, -2.8, -3.4)))
    middle = laconic.convert(_prepared(VNQ(init_scale=0.12, threshold=-2.8)))
    wanted = middle.tensors["fc1.weight"].nonzeros()

    def evaluate(module: nn.Module) -> Score:
        left = int(module.get_parameter("fc1.weight").count_nonzero())
        return Score(10.0, abs(left - wanted) + 1.0, 100)

    assert laconic.convert(net, Judge(evaluate)).facts["threshold"] == -2.8
