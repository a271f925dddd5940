"""MIRACLE: five networks, the budget in bits, frozen scales, resumed training, a decoder without torch."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import laconic
from laconic import pack
from laconic.bayes.coded import coded_of
from laconic.bayes.prepare import posteriors_of, sampling
from laconic.errors import InputError
from laconic.methods import MIRACLE, Compressed, MagnitudePruning
from laconic.records import SharedCodeTensor
from laconic.testing import check_method
from laconic.testing.methods import STEPS
from laconic.zoo import DigitsLSTM, DigitsMLP, DigitsResNet
from tests.helpers.method_suite import assert_same_state, digits, train
from tests.helpers.plain_decoder import plain_decode

QUICK: dict[str, Any] = {"bits": 800, "block_bits": 8, "code_from": 0.3, "code_to": 0.9}
METHOD = MIRACLE(**QUICK)
STD = replace(METHOD, parametrisation="mean-std", beta=1e-4, beta_step=0.1)


def depthwise(generator: torch.Generator) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(int(generator.initial_seed()))
        return nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6()),
            *(nn.Conv2d(8, 12, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 10)),
        )


class Attending(nn.Module):
    """The rows of an image as eight tokens."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(int(generator.initial_seed()))
            self.embed = nn.Linear(8, 16)
            layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x.flatten(1, 2))).mean(1))


NETWORKS = {
    "plain": DigitsMLP,
    "residual": DigitsResNet,
    "depthwise": depthwise,
    "recurrent": DigitsLSTM,
    "attention": Attending,
}


def build(name: str) -> nn.Module:
    return NETWORKS[name](generator=torch.Generator().manual_seed(5))


def convert(net: nn.Module) -> Compressed:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return laconic.convert(net)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_method_suite(name: str, tmp_path: Path) -> None:
    small = check_method(METHOD, lambda: build(name), tmp_path)
    coded = {n: t for n, t in small.tensors.items() if isinstance(t, SharedCodeTensor)}
    assert all(n in coded for n, p in build(name).named_parameters() if p.ndim > 1 or "bias" in n)
    assert all(np.isfinite(t.values()).all() for t in small.tensors.values())
    assert small.facts["code_bits"] <= 800 < small.facts["code_bits"] + 8


def test_the_method_suite_as_released(tmp_path: Path) -> None:
    check_method(STD, lambda: build("plain"), tmp_path)


def test_the_file_has_the_bits_that_were_asked_for(tmp_path: Path) -> None:
    """Another block of eight bits is a byte of the file; what else the code takes is a few bytes a tensor."""
    lengths = {}
    for blocks in (100, 107):
        net = laconic.prepare(
            build("plain"), replace(METHOD, bits=4 * 16 + 8 * blocks), digits()[0][:2], data_size=192
        )
        small = convert(net)
        assert (small.facts["blocks"], small.facts["code_bits"]) == (blocks, 64 + 8 * blocks)
        lengths[blocks] = laconic.save(small, tmp_path / "model.lac")
        indices = next(iter(small.tensors.values())).code.index_bytes
        rows = {row.name: row.bytes for row in pack.layout((tmp_path / "model.lac").read_bytes())}
        tensors = sum(rows[name] for name in small.tensors)
        assert indices == blocks and tensors - indices <= 12 * len(small.tensors) + 8
    assert lengths[107] - lengths[100] == 7


def test_a_plain_python_decoder_finds_the_weights(tmp_path: Path) -> None:
    small = convert(train(build("plain"), replace(METHOD, bits=400)))
    laconic.save(small, tmp_path / "model.lac")
    found, _ = plain_decode((tmp_path / "model.lac").read_bytes())
    state = small.module.state_dict()
    for plain in found:
        if plain.name in state:
            values = np.array(plain.values, np.float32).reshape(plain.shape)
            assert np.array_equal(values, state[plain.name].numpy())


def test_a_process_without_torch_runs_the_file(tmp_path: Path) -> None:
    small = convert(train(build("plain"), METHOD))
    laconic.save(small, tmp_path / "model.lac")
    x = digits()[0][:4]
    np.save(tmp_path / "x.npy", x.numpy())
    code = """
import sys
sys.modules["torch"] = None
import numpy as np, laconic.runtime
folder = sys.argv[1]
np.save(f"{folder}/y.npy", laconic.runtime.load(f"{folder}/model.lac", threads=1)(np.load(f"{folder}/x.npy")))
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    wanted = small.module(x).detach().numpy()
    assert np.abs(np.load(tmp_path / "y.npy") - wanted).max() <= 1e-5 * np.abs(wanted).max()


# --- training ------------------------------------------------------------------------------------------


def loop(net: nn.Module, steps: range, optimizer: torch.optim.Optimizer) -> None:
    x, y = digits()
    net.train()
    for k in steps:
        rows = slice(32 * k, 32 * (k + 1))
        loss = laconic.objective(net, (x[rows], y[rows]))
        optimizer.zero_grad(set_to_none=False)  # zero gradients still move Adam's numbers
        loss.backward()
        optimizer.step()
        laconic.step(net)


def prepared(method: MIRACLE = METHOD, name: str = "plain") -> nn.Module:
    return laconic.prepare(build(name), method, digits()[0][:2], data_size=192, seed=3, total_steps=STEPS)


def test_the_budget_holds_at_every_step_by_construction() -> None:
    net = prepared()
    optimizer = torch.optim.Adam(laconic.param_groups(net, 1e-2))
    code = coded_of(net)
    for k in range(STEPS):
        assert torch.allclose(
            code.nats_by_weight().sum(1), torch.full((code.layout.blocks,), 8 * np.log(2.0))
        )
        loop(net, range(k, k + 1), optimizer)
    assert float(code.tensor("spread").detach().std()) > 0


def test_blocks_and_scales_stay_once_they_are_coded() -> None:
    net = prepared()
    optimizer = torch.optim.Adam(laconic.param_groups(net, 1e-2))
    code, blocks = coded_of(net), coded_of(net).layout.blocks
    loop(net, range(1), optimizer)
    assert (code.done, code.frozen) == (0, False)
    loop(net, range(1, 3), optimizer)
    before, scales = code.done, code.tensor("scales").clone()
    assert 0 < before < blocks and code.frozen
    assert torch.equal(scales, scales.to(torch.bfloat16).float())
    chosen, free = code.expected()[:before].clone(), code.expected()[before + 40 :].clone()
    loop(net, range(3, STEPS), optimizer)
    assert torch.equal(code.expected()[:before], chosen) and torch.equal(code.tensor("scales"), scales)
    assert code.done == blocks and not torch.equal(code.expected()[before + 40 :], free)
    small = convert(net)
    net.eval()
    x = digits()[0][:5]
    assert torch.equal(net(x), small.module(x))  # all is coded, and nothing has noise any more
    net.train()
    assert torch.equal(net(x), small.module(x))


def test_a_pass_draws_the_code_once_and_evaluation_can_sample() -> None:
    net, x = prepared(), digits()[0][:5]
    net.train()
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    with sampling(net):
        assert not torch.equal(net(x), net(x))


def test_moments_are_those_of_the_draws() -> None:
    """400 draws of 120 weights: bounds of six deviations of a mean and eight of a variance."""
    model = nn.Linear(12, 10)
    net = laconic.prepare(model, MIRACLE(bits=192, block_bits=8), torch.zeros(1, 12), data_size=9)
    q = posteriors_of(net)["weight"]
    noise = laconic.bayes.NoiseSource(1)
    drawn = torch.stack([q.rsample(noise).detach() for _ in range(400)])
    mean, variance = (t.detach() for t in q.moments())
    assert ((drawn.mean(0) - mean).abs() <= 6 * (variance / 400).sqrt() + 1e-6).all()
    assert ((drawn.var(0) / variance - 1).abs() < 0.6).all()


@pytest.mark.parametrize("method", [METHOD, STD], ids=["mean-kl", "mean-std"])
def test_training_that_is_resumed_gives_the_same_file(method: MIRACLE) -> None:
    whole = prepared(method)
    loop(whole, range(STEPS), torch.optim.SGD(laconic.param_groups(whole, 1e-3)))
    first = prepared(method)
    loop(first, range(3), torch.optim.SGD(laconic.param_groups(first, 1e-3)))
    second = prepared(method)
    second.load_state_dict(first.state_dict())
    second._laconic.load_state_dict(first._laconic.state_dict())  # the noise, as a checkpoint keeps it
    loop(second, range(3, STEPS), torch.optim.SGD(laconic.param_groups(second, 1e-3)))
    assert_same_state(second.state_dict(), whole.state_dict(), "resumed")
    for name, tensor in convert(whole).tensors.items():
        assert np.array_equal(tensor.values(), convert(copy.deepcopy(second)).tensors[name].values())


def test_other_seeds_give_other_codes() -> None:
    def values(seed: int) -> Any:
        return convert(train(build("plain"), METHOD, seed=seed)).tensors["fc1.weight"].values()

    assert not np.array_equal(values(1), values(2))


def test_as_released_each_blocks_weight_follows_its_kl() -> None:
    net = prepared(STD)
    code = coded_of(net)
    with torch.no_grad():
        code.tensor("spread")[:10].zero_()
        code.tensor("mean")[:10].zero_()  # these blocks are the prior: no nats
    loop(net, range(1), torch.optim.SGD(laconic.param_groups(net, 1e-12)))
    weight = code.tensor("weight")
    assert torch.allclose(weight[:10], torch.tensor(1e-4 / 1.1)) and torch.allclose(
        weight[10:], torch.tensor(1.1e-4)
    )
    nats = code.nats_by_weight().sum(1)
    assert laconic.penalty(net).item() == pytest.approx(float((nats * weight).detach().sum()), rel=1e-5)
    assert laconic.penalty(prepared()).item() == 0


def test_a_budget_that_falls_ends_where_coding_begins() -> None:
    net = prepared(replace(METHOD, first_budget=4.0, code_from=0.5))
    code = coded_of(net)
    seen = [float(code.nats_by_weight()[0].detach().sum()) / code.block_nats]
    for k in range(3):
        loop(net, range(k, k + 1), torch.optim.SGD(laconic.param_groups(net, 1e-3)))
        seen.append(float(code.nats_by_weight()[0].detach().sum()) / code.block_nats)
    assert np.allclose(seen, [4.0, 4 ** (2 / 3), 4 ** (1 / 3), 1.0], rtol=1e-4)


def test_the_start_is_near_the_network_where_the_budget_allows_it() -> None:
    """24 bits for each weight: the means are the weights, but for those that a block's share cuts off."""
    model = nn.Linear(12, 10)
    nn.init.normal_(model.weight, 0.0, 0.3, generator=torch.Generator().manual_seed(1))
    net = laconic.prepare(model, MIRACLE(bits=24 * 60 + 32, block_bits=24), torch.zeros(1, 12), data_size=9)
    q = posteriors_of(net)["weight"]
    assert torch.allclose(q.expectation(), model.weight, rtol=0.05, atol=0.01)


# --- ties ----------------------------------------------------------------------------------------------


def test_ties_by_name_and_by_themselves() -> None:
    named = laconic.prepare(build("plain"), replace(METHOD, tied=("fc1=4",)), digits()[0][:2], data_size=192)
    layout = coded_of(named).layout
    assert {p.name: p.buckets for p in layout.parts if p.buckets} == {"fc1.weight": 1024, "fc1.bias": 16}
    own = laconic.prepare(
        build("plain"), replace(METHOD, bits_per_weight=2.0), digits()[0][:2], data_size=192
    )
    assert coded_of(own).layout.size * 2 <= 800
    none = laconic.prepare(
        build("plain"), replace(METHOD, bits_per_weight=0.0), digits()[0][:2], data_size=192
    )
    assert coded_of(none).layout.size == 4810


def test_tied_weights_are_one_number_with_signs() -> None:
    small = convert(train(build("plain"), replace(METHOD, tied=("fc1.weight=64",))))
    assert len(np.unique(np.abs(small.tensors["fc1.weight"].values()))) <= 64
    assert len(np.unique(small.tensors["fc1.weight"].values())) > 64


# --- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bits": 0}, "bits must be positive"),
        ({"block_bits": 40}, "block_bits=40"),
        ({"slack_bits": 16.0}, "slack_bits must be in"),
        ({"code_from": 0.9, "code_to": 0.5}, "code_from < code_to"),
        ({"first_budget": 0.5}, "first_budget must be at least 1"),
        ({"mean_lr": 0.0}, "mean_lr must be positive"),
        ({"bits_per_weight": -1.0}, "bits_per_weight"),
        ({"parametrisation": "mean"}, "parametrisation must be one of mean-kl, mean-std"),
        ({"choice": "closest"}, "choice must be one of draw, best"),
        ({"tied": ("fc1",)}, "tied: 'fc1'.*Cure: fc1.weight=64"),
        ({"tied": ("fc1=0.5",)}, "tied: 'fc1=0.5'"),
    ],
)
def test_settings_outside_their_bounds(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        MIRACLE(**settings)


def test_a_budget_that_cannot_hold_one_block() -> None:
    with pytest.raises(
        InputError, match="bits=71 holds no block: 4 scales take 64 bits.*Cure: bits=72 at least"
    ):
        laconic.prepare(build("plain"), MIRACLE(bits=71, block_bits=8), digits()[0][:2], data_size=192)
    net = laconic.prepare(build("plain"), MIRACLE(bits=72, block_bits=8), digits()[0][:2], data_size=192)
    assert coded_of(net).layout.blocks == 1


def test_a_tied_tensor_that_there_is_not() -> None:
    with pytest.raises(InputError, match="tied: no tensor is called 'fc9'.*Cure"):
        laconic.prepare(build("plain"), MIRACLE(bits=900, tied=("fc9=4",)), digits()[0][:2], data_size=192)


def test_zeros_of_an_earlier_stage() -> None:
    before = convert(train(build("plain"), MagnitudePruning(0.5, every=1)))
    given = {"example": digits()[0][:2], "data_size": 192, "previous": before}
    with pytest.raises(InputError, match=r"removed weights of 'fc1.weight'.*Cure: regrow=True"):
        laconic.prepare(before.module, METHOD, **given)
    net = laconic.prepare(before.module, replace(METHOD, regrow=True), **given)
    assert convert(net).tensors["fc1.weight"].nonzeros() == 4096


def test_what_was_not_trained_to_the_end_is_told() -> None:
    net = prepared()
    loop(net, range(3), torch.optim.SGD(laconic.param_groups(net, 1e-3)))
    with pytest.warns(UserWarning, match="33 % of the blocks are coded.*Cure"):
        laconic.convert(net)


def test_what_the_user_keeps_is_not_coded() -> None:
    net = laconic.prepare(build("plain"), METHOD, digits()[0][:2], data_size=192, keep="fc2")
    small = convert(net)
    assert sorted(small.tensors) == ["fc1.bias", "fc1.weight"]
    assert torch.equal(small.module.fc2.weight, build("plain").fc2.weight)
