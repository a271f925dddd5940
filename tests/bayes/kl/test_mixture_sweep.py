"""The sweep over weights and components. Oracles: autodiff of the formula, finite differences, loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from laconic.bayes.kl import mixture_sweep
from laconic.bayes.kl.mixture_sweep import (
    Mixture,
    by_pieces,
    compiled,
    mixture_by_weight,
    mixture_total,
    sweep,
)
from laconic.bayes.kl.sigmoid_fit import fit
from laconic.dropout_rate import log_alpha

needs_compiler = pytest.mark.skipif(mixture_sweep.extension() is None, reason="installed without a compiler")


def example(count: int, broad: float | None = -1.0, components: int = 17) -> tuple[Tensor, Tensor, Mixture]:
    """Weights of a few hundredths with noise, and components across their range; float64."""
    g = torch.Generator().manual_seed(count)
    mean = 0.1 * torch.randn(count, generator=g).double()
    log_var = 8 * torch.rand(count, generator=g).double() - 12
    logs, precisions = (
        torch.randn(components, generator=g).double(),
        torch.rand(components, generator=g) * 2000,
    )
    means = torch.linspace(-0.4, 0.4, components).double()
    zero = None if broad is None else torch.tensor(broad).double()
    return mean, log_var, Mixture(logs, means, precisions.double() + 50, zero)


def plain(mean: Tensor, log_var: Tensor | None, mixture: Mixture) -> Tensor:
    """The formula as it stands, for autodiff."""
    variance = torch.zeros_like(mean) if log_var is None else log_var.exp()
    offset = mean.unsqueeze(-1) - mixture.means
    terms = mixture.logs - 0.5 * mixture.precisions * (offset.square() + variance.unsqueeze(-1))
    if mixture.broad is not None and log_var is not None:
        own = mixture.broad - fit(log_alpha(mean.square(), log_var)) - 0.5 * log_var
        terms = torch.cat([terms, own.unsqueeze(-1)], -1)
    return -torch.logsumexp(terms, -1)


def leaves(mean: Tensor, log_var: Tensor | None, mixture: Mixture) -> list[Tensor | None]:
    return [None if t is None else t.clone().requires_grad_() for t in (mean, log_var, *mixture.tensors())]


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("broad", [-1.0, None])
def test_values_and_all_gradients_are_those_of_the_formula(noisy: bool, broad: float | None) -> None:
    mean, log_var, mixture = example(301, broad if noisy else None)
    weight = torch.rand(301, generator=torch.Generator().manual_seed(1)).double()
    found = []
    for rule in (mixture_by_weight, plain):
        given = leaves(mean, log_var if noisy else None, mixture)
        value = rule(given[0], given[1], Mixture(*given[2:]))  # type: ignore[arg-type]
        wanted = [t for t in given if t is not None]
        found.append((value.detach(), torch.autograd.grad((weight * value).sum(), wanted)))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-10)
    for got, expected in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(got, expected, rtol=1e-8, atol=1e-8)


def test_gradients_are_those_of_finite_differences() -> None:
    mean, log_var, mixture = example(5, components=3)
    given = [t for t in leaves(mean, log_var, mixture) if t is not None]
    for rule in (mixture_by_weight, mixture_total):
        assert torch.autograd.gradcheck(lambda a, b, *m, f=rule: f(a, b, Mixture(*m)), given)


def test_the_total_is_the_sum_with_its_gradients_also_in_a_second_pass() -> None:
    mean, log_var, mixture = example(40_001)  # several pieces
    given = [t for t in leaves(mean, log_var, mixture) if t is not None]
    of = Mixture(*given[2:])
    total = mixture_total(given[0], given[1], of)
    each = torch.autograd.grad(2.0 * mixture_by_weight(given[0], given[1], of).sum(), given)
    assert total.item() == pytest.approx(mixture_by_weight(given[0], given[1], of).sum().item(), rel=1e-12)
    for _ in range(2):
        for got, expected in zip(
            torch.autograd.grad(2.0 * total, given, retain_graph=True), each, strict=True
        ):
            assert torch.allclose(got, expected, rtol=1e-9, atol=1e-9)


@needs_compiler
@pytest.mark.parametrize("broad", [-1.0, None])
def test_the_compiled_sweep_computes_what_torch_does_in_float64(broad: float | None) -> None:
    mean, log_var, mixture = example(20_003, broad)
    weight = torch.rand(20_003, generator=torch.Generator().manual_seed(2)).double()
    small = [None if t is None else t.float() for t in (mean, log_var, weight, *mixture.tensors())]
    got = compiled(small[0], small[1], small[2], Mixture(*small[3:]))  # type: ignore[arg-type]
    exact = by_pieces(
        *(None if t is None else t.double() for t in small[:3]),  # type: ignore[arg-type]
        Mixture(*(None if t is None else t.double() for t in small[3:])),
    )  # type: ignore[arg-type]
    assert torch.allclose(got.value.double(), exact.value, rtol=1e-5, atol=1e-5)
    assert torch.allclose(got.to_mean.double(), exact.to_mean, rtol=1e-4, atol=1e-3)
    assert torch.allclose(got.to_log_var.double(), exact.to_log_var, rtol=1e-4, atol=1e-5)
    assert torch.allclose(got.sums, exact.sums, rtol=1e-5, atol=1e-4)


@needs_compiler
def test_all_code_paths_and_thread_counts_give_the_same_bits() -> None:
    mean, log_var, mixture = example(33_000)
    given = [None if t is None else t.float() for t in (mean, log_var, None, *mixture.tensors())]
    code = mixture_sweep.extension()
    assert code is not None
    threads = torch.get_num_threads()
    found = []
    try:
        for variant in range(len(code.variants())):
            for count in (1, 3):
                torch.set_num_threads(count)
                one = compiled(*given[:3], Mixture(*given[3:]), variant)  # type: ignore[arg-type]
                found.append(
                    [t.numpy().tobytes() for t in (one.value, one.to_mean, one.to_log_var, one.sums)]
                )
    finally:
        torch.set_num_threads(threads)
    assert all(one == found[0] for one in found)


def test_a_weight_far_from_all_components_has_a_finite_value_and_slope() -> None:
    mixture = Mixture(torch.zeros(2), torch.tensor([-0.1, 0.1]), torch.full((2,), 2500.0))
    got = sweep(torch.tensor([30.0, -30.0]), None, None, mixture)
    assert got.value.tolist() == pytest.approx([1250 * 29.9**2] * 2, rel=1e-5)
    assert got.to_mean.tolist() == pytest.approx([2500 * 29.9, -2500 * 29.9], rel=1e-5)


def test_layouts_keep_their_gradients_in_place() -> None:
    base = 0.2 * torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    mixture = Mixture(torch.zeros(2), torch.tensor([-0.1, 0.1]), torch.full((2,), 100.0))
    grads = []
    for layout in (torch.contiguous_format, torch.channels_last):
        mean = base.clone(memory_format=layout).requires_grad_()
        log_var = torch.full_like(base, -5.0)  # contiguous whatever the mean is
        mixture_by_weight(mean, log_var, mixture).square().sum().backward()
        assert mean.grad is not None
        grads.append(mean.grad)
    assert torch.equal(*grads)
