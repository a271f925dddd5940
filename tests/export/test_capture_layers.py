"""Each covered layer, alone: captured, encoded, rebuilt, and compared at two other batch sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.helpers.networks import seeded
from tests.helpers.parity import Fn, assert_parity

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d}
MAX_POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG_POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
ADAPTIVE_MAX = {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d}
LINEAR_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def image(n: int) -> torch.Tensor:
    return torch.randn(3, 4, *(7, 8, 6)[:n])


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
        {"kernel_size": 4, "padding": "same", "dilation": 2},
        {"kernel_size": 3, "padding": "valid", "bias": False},
        {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 3, "padding": "same", "padding_mode": "replicate"},
    ],
    ids=["strided", "same", "valid", "circular", "reflect", "replicate"],
)
def test_convolutions(n: int, settings: dict[str, object]) -> None:
    assert_parity(seeded(lambda: CONVS[n](4, 6, **settings)), image(n))


def test_convolution_with_one_setting_per_axis() -> None:
    layer = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2))
    assert_parity(layer, image(2))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_transposed_convolutions(n: int) -> None:
    assert_parity(TRANSPOSED[n](4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), image(n))
    assert_parity(TRANSPOSED[n](4, 6, 2, stride=2, bias=False), image(n))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_batch_norms(n: int) -> None:
    assert_parity(
        seeded(lambda: nn.Sequential(CONVS[n](4, 6, 3), BATCH_NORMS[n](6), nn.ReLU(inplace=True))), image(n)
    )
    assert_parity(seeded(lambda: BATCH_NORMS[n](4, affine=False, eps=1e-3)), image(n))


def test_batch_norm_of_vectors() -> None:
    assert_parity(seeded(lambda: nn.BatchNorm1d(4)), torch.randn(3, 4))


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_instance_norms(n: int, affine: bool) -> None:
    layer = INSTANCE_NORMS[n](4, affine=affine)
    if affine:
        nn.init.uniform_(layer.weight)
        nn.init.uniform_(layer.bias)
    assert_parity(layer, image(n))


OTHER_NORMS = {
    "layer": (lambda: nn.LayerNorm(5), (3, 4, 5)),
    "layer over two axes": (lambda: nn.LayerNorm([4, 5]), (3, 4, 5)),
    "layer without weights": (lambda: nn.LayerNorm(5, elementwise_affine=False), (3, 4, 5)),
    "layer without bias": (lambda: nn.LayerNorm(5, bias=False, eps=1e-3), (3, 4, 5)),
    "rms": (lambda: nn.RMSNorm(5), (3, 4, 5)),
    "group": (lambda: nn.GroupNorm(2, 4), (3, 4, 5, 5)),
    "group of sequences": (lambda: nn.GroupNorm(2, 4), (3, 4, 5)),
    "group without weights": (lambda: nn.GroupNorm(2, 4, affine=False), (3, 4, 5)),
}


@pytest.mark.parametrize("name", OTHER_NORMS)
def test_other_norms(name: str) -> None:
    build, shape = OTHER_NORMS[name]
    layer = build()
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    assert_parity(layer, torch.randn(shape))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_pools(n: int) -> None:
    assert_parity(MAX_POOLS[n](3, 2, 1), image(n))
    assert_parity(MAX_POOLS[n](2, ceil_mode=True), image(n))
    assert_parity(MAX_POOLS[n](2, stride=1, dilation=2), image(n))
    assert_parity(AVG_POOLS[n](3, 2, 1), image(n))
    assert_parity(AVG_POOLS[n](3, 2, 1, count_include_pad=False), image(n))
    assert_parity(AVG_POOLS[n](2, ceil_mode=True), image(n))
    assert_parity(ADAPTIVE[n](1), image(n))
    assert_parity(ADAPTIVE[n](2), torch.randn(3, 4, *(4, 8, 6)[:n]))


@pytest.mark.parametrize("n", [1, 2])
def test_adaptive_max_pools(n: int) -> None:
    assert_parity(ADAPTIVE_MAX[n](1), image(n))
    assert_parity(ADAPTIVE_MAX[n](2), torch.randn(3, 4, *(4, 8)[:n]))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_upsampling(n: int) -> None:
    assert_parity(nn.Upsample(scale_factor=2), image(n))
    assert_parity(nn.Upsample(scale_factor=2, mode=LINEAR_MODES[n]), image(n))
    assert_parity(nn.Upsample(size=(9, 9, 9)[:n], mode=LINEAR_MODES[n], align_corners=True), image(n))


ACTIVATIONS = [
    nn.ReLU(), nn.LeakyReLU(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.CELU(0.5), nn.GELU(),
    nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Sigmoid(), nn.Tanh(), nn.Hardtanh(), nn.ReLU6(),
    nn.Hardswish(), nn.Hardsigmoid(), nn.Softplus(), nn.Softplus(2.0), nn.Softsign(), nn.LogSigmoid(),
    nn.Tanhshrink(), nn.Softshrink(), nn.Threshold(0.1, 0.2), nn.Softmax(1), nn.Softmax(-1),
    nn.LogSoftmax(-1), nn.GLU(1), nn.RReLU(), nn.PReLU(), nn.PReLU(4),
]  # fmt: skip


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_activations(layer: nn.Module) -> None:
    assert_parity(layer, 2 * torch.randn(3, 4, 5))


def test_dropout_and_identity_leave_no_node() -> None:
    layers = nn.Sequential(nn.Dropout(), nn.Linear(5, 5), nn.Identity(), nn.AlphaDropout(), nn.Dropout1d())
    model = assert_parity(layers, torch.randn(3, 4, 5))
    assert model.graph is not None
    assert [node.op for node in model.graph.nodes] == ["linear"]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "settings",
    [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}],
    ids=["plain", "stacked both ways", "no bias"],
)
def test_recurrent_layers(kind: type[nn.RNNBase], settings: dict[str, object]) -> None:
    assert_parity(kind(4, 3, batch_first=True, **settings), torch.randn(3, 6, 4))


def test_recurrent_layers_with_time_first() -> None:
    assert_parity(nn.LSTM(4, 3), torch.randn(6, 3, 4), axis=1)
    assert_parity(nn.GRU(4, 3), torch.randn(6, 3, 4), axis=1)


def test_a_plain_recurrence_with_relu() -> None:
    assert_parity(nn.RNN(4, 3, nonlinearity="relu", batch_first=True), torch.randn(3, 6, 4))


def test_recurrent_layers_with_given_states() -> None:
    def lstm(layer: nn.Module, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> object:
        return layer(x, (h.transpose(0, 1).contiguous(), c.transpose(0, 1).contiguous()))

    def gru(layer: nn.Module, x: torch.Tensor, h: torch.Tensor) -> object:
        return layer(x, h.transpose(0, 1).contiguous())

    x, state = torch.randn(3, 6, 4), torch.randn(3, 2, 3)
    assert_parity(Fn(lstm, nn.LSTM(4, 3, num_layers=2, batch_first=True)), x, state, state + 1)
    assert_parity(Fn(gru, nn.GRU(4, 3, bidirectional=True, batch_first=True)), x, state)


def test_zero_states_that_a_user_writes_out_are_the_default() -> None:
    def forward(layer: nn.Module, x: torch.Tensor) -> object:
        zeros = torch.zeros(1, x.shape[0], 3)
        return layer(x, (zeros, zeros))[0]

    model = assert_parity(Fn(forward, nn.LSTM(4, 3, batch_first=True)), torch.randn(3, 6, 4))
    assert model.graph is not None
    assert [node.op for node in model.graph.nodes] == ["lstm"]


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention(need_weights: bool) -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    assert_parity(Fn(lambda a, x: a(x, x, x, need_weights=need_weights), layer), torch.randn(3, 5, 8))


def test_attention_with_masks_and_other_widths() -> None:
    def masked(layer: nn.Module, x: torch.Tensor) -> object:
        return layer(x, x, x, attn_mask=torch.ones(5, 5).triu(1).bool(), need_weights=False)[0]

    assert_parity(Fn(masked, nn.MultiheadAttention(8, 2, batch_first=True)), torch.randn(3, 5, 8))
    cross = nn.MultiheadAttention(8, 2, batch_first=True, kdim=6, vdim=6)
    forward = Fn(lambda a, x, y: a(x, y, y, need_weights=False)[0], cross)
    assert_parity(forward, torch.randn(3, 5, 8), torch.randn(3, 7, 6))


@pytest.mark.parametrize("first", [True, False])
def test_transformer_encoder_layers(first: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=first)
    assert_parity(layer, torch.randn(3, 5, 8))


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
def test_embedding_bags(mode: str) -> None:
    assert_parity(nn.EmbeddingBag(10, 4, mode=mode), torch.arange(18).reshape(3, 6) % 10)


class Inputs(nn.Module):
    """A parameter with the name that a graph input usually has."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.randn(4, 4)))
        self.name = name

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        return sum(x) @ getattr(self, self.name)  # type: ignore[no-any-return]


def test_a_parameter_called_input() -> None:
    assert_parity(Inputs("input"), torch.randn(3, 4))
    assert_parity(Inputs("input_1"), torch.randn(3, 4), torch.randn(3, 4))


@pytest.mark.parametrize("kernel", [3, 4, (2, 5)])
def test_same_padding_beside_a_computed_weight(kernel: object) -> None:
    norm = nn.utils.parametrizations.weight_norm
    assert_parity(norm(nn.Conv2d(4, 3, kernel, padding="same")), image(2))


def test_weights_that_are_computed_at_run_time() -> None:
    norm = nn.utils.parametrizations.weight_norm
    layers = (norm(nn.Conv2d(4, 3, 3, padding=1)), nn.Flatten(), norm(nn.Linear(3 * 56, 2)))
    assert_parity(nn.Sequential(*layers), image(2))
