"""The KL of a whole tensor. Oracles: the sum by weight, the plain expression in float64 under autodiff."""

import numpy as np
import pytest
import torch

from laconic.bayes.kl import kl_divergence, kl_total, native, spikes_sweep
from laconic.bayes.kl.dispatch import KLTable
from laconic.bayes.kl.gaussian_spikes import windowed
from laconic.bayes.posteriors import Gaussian
from laconic.bayes.priors import LogUniform, Normal, Spikes

needs_compiler = pytest.mark.skipif(native.extension() is None, reason="installed without a compiler")
CODEBOOKS = [(-0.2, 0.0, 0.2), (0.0, 0.3), (-0.2, 0.2), (-1.0, -0.5, 0.0, 0.5, 1.0), (-0.3, -0.1, 0.1, 0.3)]


def weights(count, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean = 0.3 * torch.randn(count, generator=generator)
    log_var = 13 * torch.rand(count, generator=generator) - 11
    return Gaussian(mean.to(dtype).requires_grad_(), log_var.to(dtype).requires_grad_())


def scale_of(value, dtype=torch.float32):
    return torch.tensor(value, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("levels", CODEBOOKS)
def test_a_codebook_against_autodiff_in_float64(levels):
    """40,001 weights: several pieces, and a last block that is not full."""
    q, scale = weights(40_001), scale_of(0.8)
    exact, exact_scale = weights(40_001, torch.float64), scale_of(0.8, torch.float64)
    total, expected = kl_total(q, Spikes(levels, scale)), windowed(exact, Spikes(levels, exact_scale)).sum()
    assert total.item() == pytest.approx(expected.item(), rel=3e-7)
    grads = torch.autograd.grad(3.0 * total, (q.mean, q.log_var, scale))
    targets = torch.autograd.grad(3.0 * expected, (exact.mean, exact.log_var, exact_scale))
    # float32 rounds theta - level, which decides the slope within 1e-4 of a level
    assert torch.allclose(grads[0].double(), targets[0], rtol=1e-3, atol=1e-3)
    assert torch.allclose(grads[1].double(), targets[1], rtol=1e-5, atol=1e-5)
    assert grads[2].item() == pytest.approx(targets[2].item(), rel=1e-5)


@pytest.mark.parametrize(
    "prior", [LogUniform(), LogUniform(exact=True), LogUniform(clamp=(-8.0, 8.0)), Normal()]
)
def test_every_prior_has_the_sum_by_weight(prior):
    q = weights(5_003)
    total, by_weight = kl_total(q, prior), kl_divergence(q, prior).sum()
    assert total.ndim == 0 and total.item() == pytest.approx(by_weight.item(), rel=1e-6)
    for a, b in zip(*(torch.autograd.grad(t, (q.mean, q.log_var)) for t in (total, by_weight)), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_layouts_and_slices_keep_their_gradients_in_place():
    base = 0.2 * torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = None
    for lay in (lambda t: t, lambda t: t.contiguous(memory_format=torch.channels_last)):
        mean, log_var = lay(base.clone()).requires_grad_(), torch.full_like(base, -5.0).requires_grad_()
        kl_total(Gaussian(mean, log_var), Spikes((-0.2, 0.0, 0.2))).backward()
        expected = mean.grad if expected is None else expected
        assert torch.equal(mean.grad, expected) and mean.grad.stride() == mean.stride()
    half = Gaussian(base[:, ::2], torch.full((6, 2, 5, 5), -5.0))
    assert kl_total(half, LogUniform()).item() == pytest.approx(
        kl_divergence(half, LogUniform()).sum().item(), rel=1e-6
    )


def test_a_graph_that_is_retained_gives_its_gradients_twice():
    q, scale = weights(1_000), scale_of(0.5)
    total = kl_total(q, Spikes((-0.2, 0.0, 0.2), scale))
    leaves = (q.mean, q.log_var, scale)
    first = torch.autograd.grad(2.0 * total, leaves, retain_graph=True)
    kept = [g.clone() for g in first]
    second = torch.autograd.grad(2.0 * total, leaves)
    for a, b, c in zip(first, second, kept, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_without_a_compiler_it_is_the_same_number(monkeypatch):
    q, prior = weights(20_000), Spikes((-0.2, 0.0, 0.2), scale_of(0.7))
    before = kl_total(q, prior)
    expected = torch.autograd.grad(before, (q.mean, q.log_var, prior.scale))
    monkeypatch.setattr(native, "extension", lambda: None)
    after = kl_total(q, prior)
    assert after.item() == pytest.approx(before.item(), rel=1e-5)
    for a, b in zip(torch.autograd.grad(after, (q.mean, q.log_var, prior.scale)), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("levels", CODEBOOKS)
def test_every_code_path_gives_the_same_bits(levels):
    q, prior = weights(4_999), Spikes(levels)
    table = spikes_sweep.Code(prior.level_numbers(), prior.window_widths(), prior.base).table()
    results = []
    for variant in range(len(native.extension().variants())):
        out = tuple(torch.empty(4_999) for _ in range(3))
        sums = native.sweep(q.mean, q.log_var, 0.6, table, out, variant)
        results.append((sums, out))
    for sums, out in results[1:]:
        assert sums == results[0][0]
        assert all(torch.equal(a, b) for a, b in zip(out, results[0][1], strict=True))


def test_threads_change_no_bit():
    q, before = weights(100_003), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            total = kl_total(q, Spikes((-0.2, 0.0, 0.2)))
            results.append((total.item(), torch.autograd.grad(total, q.mean)[0]))
    finally:
        torch.set_num_threads(before)
    assert results[0][0] == results[1][0] and torch.equal(results[0][1], results[1][1])


def test_extreme_weights_stay_finite_and_other_numbers_do_not_pass_for_some():
    mean = torch.tensor([0.0, 1e-20, 1e4, -1e4], requires_grad=True)
    log_var = torch.tensor([-60.0, 20.0, -60.0, 20.0], requires_grad=True)
    for prior in (LogUniform(), Spikes((-0.2, 0.0, 0.2)), Spikes((-0.2, 0.2))):
        total = kl_total(Gaussian(mean, log_var), prior)
        grads = torch.autograd.grad(total, (mean, log_var))
        assert all(t.isfinite().all() for t in (total, *grads))
        for bad in (float("nan"), float("inf")):
            q = Gaussian(torch.tensor([bad, 0.1]), torch.tensor([-6.0, -6.0]))
            assert not kl_total(q, prior).isfinite()
        q = Gaussian(torch.tensor([0.1]), torch.tensor([float("nan")]))
        assert kl_total(q, prior).isnan()


def test_no_weights_have_no_kl():
    assert kl_total(Gaussian(torch.zeros(0), torch.zeros(0)), LogUniform()).item() == 0.0


def test_a_more_specific_rule_does_not_inherit_the_quick_sum():
    table = KLTable()

    class Child(Spikes):
        pass

    table.register(Gaussian, Spikes, total=lambda q, p: torch.tensor(-1.0))(lambda q, p: q.mean)
    table.register(Gaussian, Child)(lambda q, p: 2.0 * q.mean)
    q = Gaussian(torch.ones(3), torch.zeros(3))
    assert table.total(Gaussian, Spikes)(q, None).item() == -1.0
    assert table.total(Gaussian, Child)(q, None).item() == 6.0


@needs_compiler
@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({1: np.zeros(9, np.float32)}, "length"),
        ({4: np.zeros(9, np.float32)}, "length"),
        ({5: np.zeros(3, np.float32)}, "levels"),
        ({5: np.zeros(0, np.float32)}, "levels"),
        ({5: np.ones(2, np.float32)}, "not zero"),
        ({8: -1}, "range"),
        ({9: 11}, "range"),
        ({8: 5, 9: 4}, "range"),
        ({10: 99}, "processor"),
        ({0: np.zeros(41, np.uint8)[1:]}, "aligned"),
    ],
)
def test_the_compiled_sweep_checks_what_it_is_given(change, what):
    arguments = [np.zeros(10, np.float32) for _ in range(4)]
    arguments += [None, np.array([0.0, -1.0], np.float32), True, 1.0, 0, 10, 0]
    for place, value in change.items():
        arguments[place] = value
    with pytest.raises(ValueError, match=what):
        native.extension().sweep(*arguments)
