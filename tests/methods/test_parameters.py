"""Which parameters each method decides on: scales of channels, frozen ones, and what the user keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import laconic
from laconic.errors import InputError, ModelError
from laconic.methods import VNQ, MagnitudePruning, SparseVD, TaylorPruning
from laconic.methods.common.last_batch import UNJUDGED
from laconic.methods.common.rest import frozen_stats
from laconic.networks.policy import Policy, is_weight, scales_channels, weights_of
from laconic.schedules import WarmUp

AT_ONCE = WarmUp(0.0, 0.0)
METHODS = pytest.mark.parametrize(
    "method",
    [SparseVD(warm_up=AT_ONCE), VNQ(warm_up=AT_ONCE), MagnitudePruning(0.9)],
    ids=["sparse-vd", "vnq", "magnitude"],
)


class ScaledBlock(nn.Module):
    """A residual branch behind a LayerScale, as ConvNeXt and CaiT have it; gammas begin at 1e-6 there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)
        self.act = nn.PReLU(6)
        self.mix = nn.Conv2d(6, 6, 1)
        self.gamma = nn.Parameter(torch.full((6, 1, 1), 1e-3))
        self.scale = nn.Parameter(torch.full((1, 6, 1, 1), 1e-3))
        self.vector = nn.Parameter(torch.full((6,), 1e-3))
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        x = x + self.gamma * self.mix(x) + self.scale * x
        return self.head(x.mean((2, 3)) + self.vector)


SCALES = ("gamma", "scale", "vector", "act.weight")


def _converted(
    model: nn.Module, method: object, example: Tensor, **options: object
) -> laconic.methods.Compressed:
    net = laconic.prepare(model, method, example, data_size=100, seed=0, total_steps=1, **options)
    net.train()(example)
    laconic.step(net, terms=1)
    return laconic.convert(net)


@METHODS
def test_what_scales_channels_is_never_pruned(method: object) -> None:
    torch.manual_seed(0)
    model = ScaledBlock()
    small = _converted(model, method, torch.randn(2, 3, 4, 4))
    assert set(SCALES) <= set(small.tensors)
    for name in SCALES:
        before, after = model.get_parameter(name), small.module.get_parameter(name)
        torch.testing.assert_close(after, before, rtol=0.005, atol=0)  # on the grid of biases, 10 bits wide
    assert list(weights_of(model)) == ["conv.weight", "mix.weight", "head.weight"]


def test_scales_are_weights_for_who_says_so() -> None:
    model = ScaledBlock()
    small = _converted(model, MagnitudePruning(0.5), torch.randn(2, 3, 4, 4), weights=("gamma", "act"))
    assert not small.module.gamma.any() and small.module.scale.all()  # the smallest of all weights went
    net = laconic.prepare(model, SparseVD(), torch.randn(2, 3, 4, 4), data_size=9, weights="gamma")
    assert "gamma_log_var" in net.state_dict() and "scale_log_var" not in net.state_dict()


@pytest.mark.parametrize(
    ("layer", "name", "scale"),
    [
        (nn.Linear(1, 8), "weight", False),
        (nn.Linear(8, 1), "weight", False),
        (nn.Conv2d(8, 8, 1, groups=8), "weight", False),
        (nn.LSTM(1, 1), "weight_hh_l0", False),
        (nn.Embedding(8, 1), "weight", False),
        (nn.MultiheadAttention(1, 1), "in_proj_weight", False),
        (nn.PReLU(8), "weight", True),
        (nn.GroupNorm(2, 8), "weight", True),
        (nn.LayerNorm((4, 4)), "weight", True),
    ],
)
def test_a_narrow_matrix_is_no_scale(layer: nn.Module, name: str, scale: bool) -> None:
    assert scales_channels(layer, layer.get_parameter(name)) is scale
    assert is_weight(layer, name, layer.get_parameter(name)) is not scale


class LoRA(nn.Module):
    """A frozen linear layer beside a trained product of two narrow ones."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(96, 96)
        self.base.requires_grad_(False)
        self.down, self.up = nn.Linear(96, 2, bias=False), nn.Linear(2, 96, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


@METHODS
def test_a_frozen_base_is_compressed_and_a_kept_one_told(method: object, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = LoRA(), torch.randn(4, 96)
    small, kept = (_converted(model, method, x, keep=keep) for keep in ((), "base"))
    sizes = [laconic.save(s, tmp_path / "a.lac") for s in (small, kept)]
    assert sizes[0] < 0.35 * sizes[1]  # 6 bits of 32, and the trained part in both
    base = model.base.weight
    noise = (small.module.base.weight - base).square().mean() / base.square().mean()
    assert 10 * np.log10(float(noise)) == pytest.approx(-34.9, abs=0.5)  # a step of an rms / 16
    assert all(note.startswith(UNJUDGED) for note in small.facts["notes"])
    size = 4 * (96 * 96 + 96)
    assert kept.facts["notes"][:-1] == [
        f"2 parameters ({size} bytes: 'base.weight', 'base.bias') stay as they are: keep says so"
    ]
    assert torch.equal(kept.module.base.weight, base)
    assert not small.module.base.weight.requires_grad


@pytest.mark.parametrize("keep", [("down", "up"), ()], ids=["adapters kept", "all frozen"])
def test_a_network_without_a_weight_to_train_is_quantised(keep: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = LoRA(), torch.randn(4, 96)
    for layer in (model.up, model.down):
        layer.requires_grad_(bool(keep))
    with pytest.raises(ModelError, match="MagnitudePruning quantises weights that are all frozen"):
        laconic.prepare(model, SparseVD(), x, data_size=10, keep=keep)
    net = laconic.prepare(model, MagnitudePruning(0.5), x, data_size=10, keep=keep, total_steps=1)
    assert float(laconic.penalty(net)) == 0
    laconic.step(net, terms=1)
    small = laconic.convert(net)
    quantised = {"base.weight", "base.bias"} | (set() if keep else {"up.weight", "down.weight"})
    assert set(small.tensors) == quantised
    assert int((small.module.base.weight == 0).sum()) < 0.1 * 96 * 96  # rounded to zero, not pruned
    assert torch.equal(small.module.up.weight, model.up.weight) is bool(keep)
    assert laconic.save(small, tmp_path / "a.lac") < 0.3 * 4 * (96 * 96 + 5 * 96)
    with pytest.raises(ModelError, match="to put on a grid. Cure: .*fewer names in keep"):
        laconic.prepare(model, MagnitudePruning(), x, data_size=10, keep=["base", "down", "up"])


def test_frozen_weights_keep_their_zeros() -> None:
    weights = np.float32([0.0, 3.0, 0.0, -3.0])
    assert frozen_stats("w", weights).variance.tolist() == pytest.approx([(3 / 8) ** 2] * 4)
    model = LoRA()
    model.base.weight[:, 0] = 0.0
    small = _converted(model, SparseVD(), torch.randn(4, 96))
    assert not small.module.base.weight[:, 0].any() and small.module.base.weight[:, 1:].any()


@METHODS
def test_keep_at_convert_leaves_what_was_trained(method: object) -> None:
    x = torch.randn(4, 96)
    net = laconic.prepare(LoRA(), method, x, data_size=100, total_steps=1)
    small = laconic.convert(net, keep=["down", "base.bias"])
    assert {"up.weight", "base.weight"} == set(small.tensors)
    assert torch.equal(small.module.down.weight, net.down.weight)


def test_units_of_kept_layers_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    small = _converted(model, TaylorPruning(macs=0.8), torch.randn(4, 4), keep="0")
    assert small.module[0].out_features == 8 and small.module[2].out_features < 8
    assert torch.equal(small.module[0].weight, model[0].weight)
    assert any("keep names" in note for note in small.facts["left_whole"])


@pytest.mark.parametrize("keep", ["fc9", ["0.weigh"], [3]])
def test_a_name_of_nothing_is_refused(keep: object) -> None:
    with pytest.raises(InputError, match=r"keep .*Cure"):
        laconic.prepare(nn.Sequential(nn.Linear(2, 2)), SparseVD(), torch.zeros(1, 2), data_size=9, keep=keep)
    net = laconic.prepare(nn.Sequential(nn.Linear(2, 2)), SparseVD(), torch.zeros(1, 2), data_size=9)
    with pytest.raises(InputError, match=r"keep .*Cure"):
        laconic.convert(net, keep=keep)


def test_a_parameter_cannot_be_kept_and_weighed() -> None:
    with pytest.raises(InputError, match="'0.weight' is in keep and in weights"):
        Policy.of(keep="0", weights="0.weight").check(["0.weight", "0.bias"])


def test_nothing_left_to_prune_is_said_with_a_cure() -> None:
    model, x = nn.Linear(2, 2).requires_grad_(False), torch.zeros(1, 2)
    for method, keep in ((SparseVD(), ()), (MagnitudePruning(0.5), "weight")):
        with pytest.raises(ModelError, match=r"no weight .*Cure: requires_grad_\(True\)"):
            laconic.prepare(model, method, x, data_size=9, keep=keep)
