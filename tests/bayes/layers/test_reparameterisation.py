import pytest
import torch

from laconic.bayes.layers import reparameterisation
from laconic.bayes.layers.reparameterisation import add_noise, draw_preactivation, sample_preactivation
from laconic.bayes.posteriors.strides import draw_weight, laid_like, variance_like
from laconic.networks.noise import quantiles

LAST = torch.channels_last


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_formula_and_its_gradients():
    mean, variance = (torch.rand(3, 4, dtype=torch.float64, generator=seeded(k)) + 0.1 for k in (1, 2))
    noise = torch.randn(3, 4, dtype=torch.float64, generator=seeded(3))
    assert torch.allclose(sample_preactivation(mean, variance, noise), mean + variance.sqrt() * noise)
    inputs = (mean.requires_grad_(), variance.requires_grad_())
    assert torch.autograd.gradcheck(lambda m, v: sample_preactivation(m, v, noise), inputs)


def test_zero_and_slightly_negative_variances_give_finite_gradients():
    mean, variance = torch.zeros(3, requires_grad=True), torch.tensor([0.0, -1e-9, 1e-30], requires_grad=True)
    out = sample_preactivation(mean, variance, torch.ones(3))
    out.sum().backward()
    assert out.abs().max() < 2e-4 and variance.grad.isfinite().all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_place_and_pure_draws_agree_to_the_bit_of_their_noise(layout, dtype):
    shape = (9, 20, 24, 24)  # more than one piece
    mean = torch.randn(shape, generator=seeded(1), dtype=dtype).to(memory_format=layout).requires_grad_()
    variance = torch.rand(shape, generator=seeded(2), dtype=dtype).to(memory_format=layout).requires_grad_()
    drawn = draw_preactivation(mean * 1.0, variance * 1.0, seeded(3))
    drawn.square().sum().backward()
    noise = (drawn - mean).detach() / variance.detach().sqrt()
    grads = (mean.grad.clone(), variance.grad.clone())
    mean.grad = variance.grad = None
    pure = sample_preactivation(mean, variance, noise)
    pure.square().sum().backward()
    assert drawn.stride() == mean.stride()
    assert torch.allclose(drawn, pure, atol=1e-5)
    for a, b in zip(grads, (mean.grad, variance.grad), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3)
    assert abs(noise.mean()) < 0.02 and abs(noise.var() - 1) < 0.02


def test_a_leaf_is_not_overwritten():
    mean, variance = torch.zeros(4, requires_grad=True), torch.ones(4)
    out = draw_preactivation(mean, variance, seeded())
    assert torch.equal(mean.detach(), torch.zeros(4)) and not torch.equal(out.detach(), mean.detach())


def test_variance_keeps_the_strides_of_a_one_channel_weight():
    weight = torch.zeros(20, 1, 5, 5).to(memory_format=LAST)
    log_var = torch.full_like(weight, -2.0).requires_grad_()
    variance = variance_like(log_var)
    assert variance.stride() == log_var.stride() and torch.allclose(variance, log_var.exp())
    (variance * 3).sum().backward()
    assert torch.allclose(log_var.grad, 3 * log_var.detach().exp())


def test_a_drawn_weight_is_the_formula_with_its_gradients():
    mean, log_var = (torch.randn(3, 4, dtype=torch.float64, generator=seeded(k)) for k in (1, 2))
    noise = torch.randn(3, 4, dtype=torch.float64, generator=seeded(3))
    assert torch.allclose(draw_weight(mean, log_var, noise), mean + log_var.exp().sqrt() * noise)
    inputs = (mean.requires_grad_(), log_var.requires_grad_())
    assert torch.autograd.gradcheck(lambda m, v: draw_weight(m, v, noise), inputs)


def test_a_drawn_weight_keeps_the_strides_of_a_one_channel_weight():
    weight = torch.zeros(20, 1, 5, 5).to(memory_format=LAST)
    drawn = draw_weight(weight, weight.clone(), torch.ones_like(weight))
    assert drawn.stride() == weight.stride() and torch.equal(drawn, torch.ones_like(weight))


def test_strides_are_taken_over_only_where_that_moves_no_number():
    plain = torch.arange(6.0).view(2, 3)
    turned = torch.empty(3, 2).t()
    assert laid_like(plain, turned) is plain


@pytest.mark.parametrize("count", [7, 5_000, 65_536 + 7, 200_001])
def test_compiled_noise_is_the_formula_with_the_same_random_numbers(count, monkeypatch):
    mean = torch.randn(count, generator=seeded(1))
    variance = torch.rand(count, generator=seeded(2)) - 0.1  # some are below the floor
    results = []
    for compiled in (reparameterisation.compiled(), None):
        monkeypatch.setattr(reparameterisation, "compiled", lambda compiled=compiled: compiled)
        drawn, slope, source = mean.clone(), variance.clone(), seeded(3)
        add_noise(drawn, slope, source)
        results.append((drawn, slope, source.get_state()))
    (drawn, slope, state), (expected, expected_slope, expected_state) = results
    assert torch.allclose(drawn, expected, rtol=1e-6, atol=1e-6) and torch.equal(state, expected_state)
    assert torch.allclose(slope, expected_slope, rtol=1e-6)
    assert torch.allclose(drawn, mean + 2.0 * variance.clamp(min=1e-8) * slope, atol=1e-6)


def test_threads_change_no_noise():
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            drawn, slope = torch.zeros(300_007), torch.ones(300_007)
            add_noise(drawn, slope, seeded(3))
            results.append((drawn, slope))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_noise_on_numbers_that_are_none_stays_none():
    variance = torch.full((2_000,), float("nan"))
    drawn = torch.zeros(2_000)
    add_noise(drawn, variance, seeded())
    assert drawn.isnan().all() and variance.isnan().all()


@pytest.mark.skipif(reparameterisation.compiled() is None, reason="installed without a compiler")
@pytest.mark.parametrize(
    ("place", "given", "what"),
    [
        (1, torch.zeros(9), "length"),
        (2, torch.zeros(9, dtype=torch.int16), "random bits"),
        (3, torch.zeros(65_535), "quantiles"),
        (0, torch.zeros(41, dtype=torch.uint8)[1:], "aligned"),
    ],
)
def test_the_compiled_noise_checks_what_it_is_given(place, given, what):
    arguments = [torch.zeros(10), torch.zeros(10), torch.zeros(10, dtype=torch.int16), quantiles()]
    arguments[place] = given
    with pytest.raises(ValueError, match=what):
        reparameterisation.compiled()(*(t.numpy() for t in arguments), 1e-8)


def test_half_precision_has_a_floor_of_its_own():
    """1e-8 is zero in float16, whose square root would have no slope."""
    mean, none = torch.zeros(3, dtype=torch.float16), torch.zeros(3, dtype=torch.float16)
    noise = torch.tensor([0.0, 1.0, -4.0], dtype=torch.float16)
    variance = none.clone().requires_grad_()
    drawn = sample_preactivation(mean, variance, noise)
    drawn.sum().backward()
    assert bool(torch.isfinite(drawn).all())
    assert bool(torch.isfinite(variance.grad).all())
    assert float(drawn.detach().abs().max()) < 0.003
