"""VNQ's codebooks (how many levels, what is learned, one a layer or for all), its start, its first layer."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.bayes import Spikes, kl_total
from laconic.bayes.prepare import posteriors_of
from laconic.errors import InputError
from laconic.methods import VNQ
from laconic.methods.learned_codebooks import codebooks_of, hold_codebooks, is_codebook, stored_levels
from laconic.schedules import WarmUp
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits, train

FIVE = (-1.0, -0.4, 0.0, 0.3, 1.0)
NOW = WarmUp(0.0, 0.0)


def _net() -> DigitsMLP:
    return DigitsMLP(hidden=16, generator=torch.Generator().manual_seed(1))


def _trained(method: VNQ, steps: int = 4) -> nn.Module:
    return train(_net(), method, steps=steps)


@pytest.mark.parametrize(
    ("levels", "shared", "learned"),
    [
        ((0.0, 1.0), True, "nothing"),
        ((-1.0, 1.0), False, "levels"),
        ((-1.0, 1.0), False, "scale"),
        ((-1.0, 0.0, 1.0), True, "scale"),
        (FIVE, False, "nothing"),
        (FIVE, True, "levels"),
    ],
)
def test_every_codebook_trains_and_ends_in_as_many_levels(levels: Any, shared: bool, learned: Any) -> None:
    net = _trained(VNQ(levels=levels, learned=learned, shared=shared, warm_up=NOW, codebook_lr=1.0))
    assert len(codebooks_of(net)) == (1 if shared else 2)
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
    small = laconic.convert(net)
    told = small.facts["codebooks" if learned == "levels" else "scales"]
    assert set(told) == {"fc1.weight", "fc2.weight"}
    assert (told["fc1.weight"] == told["fc2.weight"]) is (shared or learned == "nothing")
    for name, said in told.items():
        book = np.float32(said if learned == "levels" else [v * said for v in levels])
        found = np.unique(small.tensors[name].values())
        assert set(found.tolist()) <= set(book.tolist()) and len(found) > 1
        if 0.0 in levels:
            assert book[levels.index(0.0)] == 0.0


def test_learned_levels_move_apart_from_each_other_and_a_fixed_codebook_stays() -> None:
    net = _trained(VNQ(levels=FIVE, learned="levels", warm_up=NOW, codebook_lr=1.0))
    for book in codebooks_of(net):
        ratio = (book.detach() / book.new_tensor(FIVE))[[0, 1, 3, 4]]
        assert float(ratio.max() - ratio.min()) > 1e-4, "one scale cannot do this"
        assert float(book[2]) == 0.0
    fixed = _trained(VNQ(learned="nothing", init_scale=0.3, warm_up=NOW))
    assert [float(book) for book in codebooks_of(fixed)] == pytest.approx([0.3, 0.3])
    assert not any(is_codebook(n) for n, _ in fixed.named_parameters())


def test_learned_levels_stay_rising_and_apart() -> None:
    net = laconic.prepare(_net(), VNQ(levels=FIVE, learned="levels"), digits()[0][:2], data_size=100, seed=0)
    book = codebooks_of(net)[0]
    with torch.no_grad():
        book.copy_(torch.tensor([0.3, 0.2, -0.7, -0.1, -0.2]))
    hold_codebooks(net, FIVE)
    wanted = [-0.05, -0.02, 0.0, 0.015, 0.05]
    assert book.tolist() == pytest.approx(wanted)
    hold_codebooks(net, FIVE)
    assert book.tolist() == pytest.approx(wanted)


def test_the_gradient_reaches_each_learned_level() -> None:
    method = VNQ(levels=FIVE, learned="levels", warm_up=NOW)
    net = laconic.prepare(_net(), method, digits()[0][:2], data_size=100, seed=0).double()
    book, q = codebooks_of(net)[0], posteriors_of(net)["fc1.weight"]
    (grad,) = torch.autograd.grad(laconic.penalty(net), [book])
    start = book.detach()
    widths = Spikes(start).window_widths()  # they follow the levels, and count as constants in the gradient
    step = 1e-6 * torch.eye(5, dtype=torch.float64)
    for k in (0, 1, 3, 4):
        up, down = (float(kl_total(q, Spikes(start + s, windows=widths))) for s in (step[k], -step[k]))
        assert 100 * float(grad[k]) == pytest.approx((up - down) / 2e-6, rel=1e-3, abs=1e-3)


def test_an_exempt_first_layer_is_stored_exactly() -> None:
    net = _trained(VNQ(exempt_first=True, warm_up=NOW))
    assert list(posteriors_of(net)) == ["fc2.weight"]
    small = laconic.convert(net)
    assert "fc1.weight" not in small.tensors and set(small.facts["scales"]) == {"fc2.weight"}
    first = dict(net.named_parameters())["fc1.weight"].detach()
    assert torch.equal(small.module.get_parameter("fc1.weight"), first)
    assert len(np.unique(small.tensors["fc2.weight"].values())) == 3
    assert not torch.equal(first, _net().fc1.weight), "it is trained all the same"


def test_a_random_start_forgets_the_network_and_depends_on_the_seed_alone() -> None:
    model, x = _net(), digits()[0][:2]
    before = torch.get_rng_state()

    def means(seed: int) -> dict[str, torch.Tensor]:
        net = laconic.prepare(model, VNQ(initialisation="random"), x, data_size=100, seed=seed)
        return {n: p.detach() for n, p in net.named_parameters() if n in dict(model.named_parameters())}

    first, again, other = means(0), means(0), means(1)
    assert torch.equal(torch.get_rng_state(), before)
    for name, p in model.named_parameters():
        assert torch.equal(first[name], again[name])
        if name.endswith("bias"):
            assert not first[name].any()
        else:
            assert not torch.equal(first[name], p) and not torch.equal(first[name], other[name])
    weight = first["fc1.weight"]
    edge = (6 / sum(weight.shape)) ** 0.5
    assert float(weight.abs().max()) <= edge and float(weight.std()) == pytest.approx(edge / 3**0.5, rel=0.1)


def test_a_scale_that_is_not_given_fits_the_weights_of_its_tensor() -> None:
    """Against the best of many scales by brute force; the bound is a share of it."""
    net = laconic.prepare(_net(), VNQ(init_scale=None, min_scale=0.5), digits()[0][:2], data_size=100, seed=0)
    for q, book in zip(posteriors_of(net).values(), codebooks_of(net), strict=True):
        mean = q.mean.detach().double()  # type: ignore[attr-defined]
        tried = torch.linspace(0.02, 1.0, 400, dtype=torch.float64)
        errors = [float(torch.stack([mean - s, mean, mean + s]).abs().amin(0).square().mean()) for s in tried]
        assert float(book) == pytest.approx(float(tried[int(np.argmin(errors))]), rel=0.05)
        with torch.no_grad():
            book.fill_(1e-4)
    fitted = [
        float(b)
        for b in codebooks_of(laconic.prepare(_net(), VNQ(init_scale=None), digits()[0][:2], data_size=9))
    ]
    laconic.step(net, terms=1)
    assert [float(b) for b in codebooks_of(net)] == pytest.approx([0.5 * s for s in fitted])


def test_a_price_moves_weights_to_the_levels_that_cost_less() -> None:
    def nonzeros(price: float) -> int:
        small = laconic.convert(_trained(VNQ(price=price, init_scale=0.1, warm_up=NOW)))
        return int(small.tensors["fc1.weight"].nonzeros())

    assert nonzeros(30.0) < nonzeros(0.0)


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match=r"learned must be one of scale, levels, nothing, got 'all'"):
        VNQ(learned="all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"initialisation in given, random and price >= 0, got 'zero'"):
        VNQ(initialisation="zero")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="two rising numbers"):
        VNQ(levels=(0.0, 0.5, 0.5))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"levels": (0, 1e-30, 1)}, "levels 0 and 1e-30 are too near .* 1e-06 apart. Cure: one of the two"),
        ({"levels": (-1e30, 0, 1e30)}, r"the largest is 1e\+30: it must lie within .*Cure: levels="),
        ({"levels": (0, 1, 1.0000001), "learned": "levels"}, "stored in two bytes, 1 and 1.0000001 .*Cure:"),
        ({"levels": ("a", "b")}, r"levels must be .* finite numbers, got \('a', 'b'\). Cure: levels="),
        ({"levels": (0, float("inf"))}, "levels must be .* finite numbers.*Cure: levels="),
        ({"levels": 1.0}, "levels must be .* got 1.0. Cure: levels="),
        ({"codebook_lr": float("inf")}, "finite noise_lr > 0 and codebook_lr >= 0, got 1.0, inf. Cure:"),
        ({"noise_lr": float("inf")}, "finite noise_lr > 0 and codebook_lr >= 0, got inf"),
        ({"init_scale": 1e-40, "min_scale": 1e-40}, "init_scale must be .* got 1e-40. Cure: init_scale=0.2"),
        ({"init_scale": 1e30}, r"init_scale must be .* got 1e\+30. Cure: init_scale=0.2"),
        ({"init_scale": float("nan")}, "init_scale must be .* got nan. Cure: init_scale=0.2"),
        ({"min_scale": True}, "min_scale must be .* got True. Cure: min_scale=0.05"),
        ({"price": float("inf")}, "price >= 0, got .* inf. Cure: initialisation=given, price=0"),
    ],
)
def test_a_codebook_that_floats_or_a_file_cannot_hold_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        VNQ(**settings)


@pytest.mark.parametrize("count", [2.5, 3.0, 1, True, "3"])
def test_a_count_of_levels_is_a_whole_number(count: Any) -> None:
    with pytest.raises(
        InputError, match=r"count of levels must be a whole number >= 2, got .*Cure: VNQ.evenly"
    ):
        VNQ.evenly(count)


def test_learned_levels_that_met_become_one_in_the_file() -> None:
    net = _trained(VNQ(levels=FIVE, learned="levels", warm_up=NOW))
    with torch.no_grad():
        codebooks_of(net)[0].copy_(torch.tensor([-0.2, -0.1, 0.0, 0.1, 0.10001]))
    small = laconic.convert(net)
    told = small.facts["codebooks"]["fc1.weight"]
    assert len(told) == 4 and np.allclose(told, [-0.2, -0.1, 0.0, 0.1], rtol=0.01)
    assert set(np.unique(small.tensors["fc1.weight"].values()).tolist()) <= set(np.float32(told).tolist())
    assert stored_levels(torch.tensor([0.1, 0.10001]), (0.0, 1.0)) == (0.10009765625,)


def test_a_list_of_levels_is_a_tuple() -> None:
    assert VNQ(levels=[-1.0, 0.0, 1.0]) == VNQ()  # type: ignore[arg-type]
