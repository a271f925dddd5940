"""MACs of every kind of layer: by hand, and against PyTorch's own counter where that knows the layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import laconic
from laconic.cost import Cost, count
from laconic.cost.counts import einsum_macs
from laconic.errors import InputError
from laconic.records import NetworkFacts, OpFacts, ValueFacts
from tests.helpers.networks import TransformerClassifier, UNet, depthwise, lenet300, seeded
from tests.helpers.parity import Fn


def cost_of(module: nn.Module, *example: torch.Tensor) -> Cost:
    return laconic.cost_of(module.eval(), example)


def counted_by_torch(module: nn.Module, *example: torch.Tensor) -> int:
    """MACs as PyTorch counts them: half its floating-point operations."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(*example)
    return counter.get_total_flops() // 2


CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "plain": (lambda: nn.Conv2d(3, 8, 3), (1, 3, 9, 9), 8 * 7 * 7 * 27),
    "stride and padding": (lambda: nn.Conv2d(3, 8, 3, 2, 1), (2, 3, 9, 9), 2 * 8 * 5 * 5 * 27),
    "dilation": (lambda: nn.Conv2d(3, 8, 3, dilation=2), (1, 3, 9, 9), 8 * 5 * 5 * 27),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6), (1, 6, 5, 5), 6 * 25 * 9),
    "groups": (lambda: nn.Conv2d(6, 4, 3, groups=2), (1, 6, 5, 5), 4 * 9 * (3 * 9)),
    "one axis": (lambda: nn.Conv1d(4, 5, 3), (1, 4, 10), 5 * 8 * 12),
    "three axes": (lambda: nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), 3 * 27 * 16),
    # each input pixel meets each of its kernel's weights once
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1), (1, 4, 5, 5), 4 * 25 * 6 * 9),
    "transposed, groups": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2),
        (1, 4, 5, 5),
        4 * 25 * 3 * 9,
    ),
    "linear": (lambda: nn.Linear(7, 3), (4, 7), 4 * 21),
    "linear on sequences": (lambda: nn.Linear(7, 3, bias=False), (2, 5, 7), 10 * 21),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_layers_that_own_a_matrix(name: str) -> None:
    build, shape, by_hand = CONVOLUTIONS[name]
    module, x = build(), torch.zeros(shape)
    assert cost_of(module, x).macs == by_hand == counted_by_torch(module, x)


def test_pytorch_counts_nothing_for_an_lstm_and_we_do() -> None:
    """One step multiplies (4H x I) and (4H x H)."""
    lstm, x = nn.LSTM(10, 6, batch_first=True), torch.zeros(2, 7, 10)
    assert counted_by_torch(lstm, x) == 0
    assert cost_of(lstm, x).macs == 2 * 7 * (4 * 6 * 10 + 4 * 6 * 6)


RECURRENT: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    # per step: matrices; then gates and the products that update the state
    "lstm": (lambda: nn.LSTM(5, 3, batch_first=True), 4 * 3 * (5 + 3), 8 * 3),
    "lstm, two layers": (
        lambda: nn.LSTM(5, 3, 2, batch_first=True),
        4 * 3 * (5 + 3) + 4 * 3 * (3 + 3),
        2 * 8 * 3,
    ),
    "lstm, both ways, two layers": (
        lambda: nn.LSTM(5, 3, 2, batch_first=True, bidirectional=True, bias=False),
        2 * 4 * 3 * (5 + 3) + 2 * 4 * 3 * (6 + 3),
        2 * 2 * 8 * 3,
    ),
    "gru": (lambda: nn.GRU(5, 3, batch_first=True), 3 * 3 * (5 + 3), 6 * 3),
    "gru, time first": (lambda: nn.GRU(5, 3), 3 * 3 * (5 + 3), 6 * 3),
    "rnn": (lambda: nn.RNN(5, 3, batch_first=True), 3 * (5 + 3), 3),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name: str) -> None:
    build, macs, other = RECURRENT[name]
    cost = cost_of(build(), torch.zeros(2, 7, 5))
    assert cost.macs == 14 * macs
    assert cost.other_ops == 14 * other


def test_a_recurrent_layer_reads_its_matrices_once_a_step() -> None:
    """Batch 2, 7 steps; PyTorch keeps two biases of 4H each, read once."""
    cost = cost_of(nn.LSTM(5, 3, batch_first=True), torch.zeros(2, 7, 5))
    assert sum(layer.weight_traffic for layer in cost.layers) == 4 * (7 * 12 * (5 + 3) + 2 * 12)


def test_attention_is_two_products_of_activations() -> None:
    """Batch 2, 3 heads, 4 queries, 5 keys of width 6, values of width 7."""

    class Attention(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(self.weight * q, k, v)

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

    q, k, v = torch.zeros(2, 3, 4, 6), torch.zeros(2, 3, 5, 6), torch.zeros(2, 3, 5, 7)
    cost = cost_of(Attention(), q, k, v)
    scores = 2 * 3 * 4 * 5
    assert cost.macs == scores * 6 + scores * 7
    [attention] = [layer for layer in cost.layers if layer.op == "sdpa"]
    assert attention.other_ops == 5 * scores
    assert attention.weight_bits == 32
    moved = 2 * 3 * (4 * 6 + 5 * 6 + 5 * 7 + 4 * 7)
    assert attention.activation_traffic == 4 * (moved + 2 * scores)
    assert attention.live_bytes == 4 * (moved + scores)


def test_a_transformer_block_by_hand() -> None:
    """Width 8, 2 heads, 5 tokens, feed-forward 16."""
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    projections = 5 * (3 * 8 * 8 + 8 * 8)
    attention = 2 * (2 * 5 * 5 * 4)
    feed_forward = 5 * (8 * 16 + 16 * 8)
    assert cost_of(block, torch.zeros(1, 5, 8)).macs == projections + attention + feed_forward


@pytest.mark.parametrize(
    ("build", "x"),
    [
        (lenet300, torch.zeros(2, 1, 28, 28)),
        (depthwise, torch.zeros(2, 3, 16, 16)),
        (UNet, torch.zeros(2, 1, 8, 8)),
        (lambda: Fn(lambda layer, x: layer(x) @ x.mT, nn.Linear(5, 5)), torch.zeros(2, 4, 5)),
        (
            lambda: Fn(lambda f, x: torch.einsum("bij,bkj->bik", f(x), x), nn.Linear(5, 5)),
            torch.zeros(2, 4, 5),
        ),
    ],
    ids=["lenet300", "depthwise", "unet", "matmul", "einsum"],
)
def test_whole_networks_as_pytorch_counts_them(build: Callable[[], nn.Module], x: torch.Tensor) -> None:
    network = seeded(build)
    assert cost_of(network, x).macs == counted_by_torch(network, x) > 0


def test_a_transformer_of_tokens() -> None:
    """Six tokens and the class token: 7; width 8, two blocks of two heads, a head of three classes."""
    block = 7 * 4 * 8 * 8 + 2 * 2 * 7 * 7 * 4 + 2 * 7 * 8 * 16
    cost = cost_of(seeded(TransformerClassifier), torch.zeros(1, 6, dtype=torch.int64))
    assert cost.macs == 2 * block + 8 * 3
    [look_up] = [layer for layer in cost.layers if layer.op == "embedding"]
    # six rows of 8 floats are read, of a table of eleven; six indices of 64 bits come in, 48 floats go out
    assert look_up.weight_traffic == 4 * 48
    assert look_up.activation_traffic == 8 * 6 + 4 * 48


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], 24),
        ("ij,jk", [(2, 3), (3, 4)], 24),
        ("b i j, b k j -> b i k", [(2, 4, 5), (2, 4, 5)], 160),
        ("...ij,...jk->...ik", [(6, 2, 3), (6, 3, 4)], 144),
        ("...i,ij->...j", [(5, 2, 3), (3, 4)], 120),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)], 720),
        ("ij->ji", [(2, 3)], 0),
        # two products one after the other: 2*3*4, then 2*4*5
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], 24 + 40),
        ("i,i->", [(7,), (7,)], 7),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], macs: int) -> None:
    assert einsum_macs(equation, shapes) == macs


def test_zero_weights_are_counted_apart() -> None:
    conv = nn.Conv2d(2, 3, 2, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0] = 1.0  # four weights of 24
    cost = cost_of(conv, torch.zeros(1, 2, 5, 5))
    assert cost.macs == 16 * 24
    assert cost.macs_nonzero == 16 * 4


OTHER: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int]] = {
    # x is 2 x 4 x 6 x 6; 0 * w makes every function a network
    "max pool": (lambda x: F.max_pool2d(x, 3, 2), 2 * 4 * 2 * 2 * 9),
    "average pool": (lambda x: F.avg_pool2d(x, 2), 2 * 4 * 3 * 3 * 4),
    "global pool": (lambda x: F.adaptive_avg_pool2d(x, 1), 288),
    "mean": (lambda x: x.mean((2, 3)), 288),
    "softmax": (lambda x: x.softmax(1), 4 * 288),
    "logsumexp": (lambda x: x.logsumexp(1), 3 * 288),
    "layer norm": (lambda x: F.layer_norm(x, (6,)), 3 * 288),
    "gelu": (F.gelu, 288),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2.0), 0),
    "bilinear": (lambda x: F.interpolate(x, size=(12, 12), mode="bilinear"), 4 * 4 * 288),
    "transpose": (lambda x: x.transpose(1, 2), 0),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_operations(name: str) -> None:
    function, by_hand = OTHER[name]
    cost = cost_of(Fn(lambda layer, x: function(layer(x)), nn.Conv2d(4, 4, 1)), torch.zeros(2, 4, 6, 6))
    assert cost.other_ops == by_hand
    assert cost.macs == 288 * 4


def test_an_operation_without_a_rule_is_refused_and_not_free() -> None:
    values = (ValueFacts((2, 3), "float32"),) * 2
    facts = NetworkFacts(1, values, (OpFacts("mystery", (0,), (1,)),), (1,), (), 0)
    with pytest.raises(InputError, match="'mystery' of kind '' has no rule"):
        count(facts)


SEARCHES: dict[str, tuple[Callable[..., object], int]] = {
    # 2 x 6 x 5 entries read
    "the best of each row": (lambda x: x.topk(1)[0], 60),
    "the best four": (lambda x: x.topk(4)[0], 60 * 2),
    "written": (lambda x: x.scatter(1, x.argmax(1, keepdim=True), x[:, :1]), 60),  # the argmax
    "added": (lambda x: x.scatter_add(1, x.argmax(1, keepdim=True), x[:, :1]), 60 + 2 * 5),
    "folded": (lambda x: F.fold(x[:, :4], (1, 6), (1, 2)), 2 * 4 * 5),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches(name: str) -> None:
    function, other = SEARCHES[name]
    layer = nn.Linear(5, 5)
    cost = cost_of(Fn(lambda f, x: function(f(x)), layer), torch.zeros(2, 6, 5))
    assert cost.other_ops == other


def test_a_grid_is_sampled_with_four_products_an_entry() -> None:
    def sampled(f: nn.Module, x: torch.Tensor) -> torch.Tensor:
        grid = f(x)[:, :2].permute(0, 2, 3, 1)
        return F.grid_sample(x, grid, align_corners=False)

    cost = cost_of(Fn(sampled, nn.Conv2d(3, 2, 1)), torch.zeros(2, 3, 4, 5))
    assert cost.other_ops == 2 * 3 * 4 * 5 * 4 + 2 * 4 * 5 * 2


def test_a_projected_lstm() -> None:
    """Units 6, projected to 3: W_ih 24 x 5, W_hh 24 x 3, the projection 3 x 6; eight operations a unit."""
    cost = cost_of(nn.LSTM(5, 6, batch_first=True, proj_size=3), torch.zeros(2, 7, 5))
    assert cost.macs == 14 * (24 * 5 + 24 * 3 + 3 * 6)
    assert cost.other_ops == 14 * 8 * 6
