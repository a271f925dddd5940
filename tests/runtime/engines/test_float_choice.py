"""An int8 network says which of its layers multiply in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from laconic.export import build_packed
from laconic.runtime import Network, calibrate, to_onnx
from laconic.runtime.precision import with_precision
from tests.helpers.networks import seeded

F32 = np.float32


class Spotter(nn.Module):
    """A convolution over time, a recurrent layer, a linear one."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.front = nn.Conv1d(4, 6, 3, padding=1)
        self.cells = kind(6, 5, batch_first=True)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(self.cells(self.front(x).relu().transpose(1, 2))[0][:, -1])
        return y


@pytest.mark.parametrize(
    ("kind", "why"), [(nn.LSTM, "takes its ranges from each batch"), (nn.GRU, "has no int8 kernel")]
)
def test_recurrent_layers(kind: type[nn.RNNBase], why: str) -> None:
    x = np.random.default_rng(0).normal(size=(8, 4, 9)).astype(F32)
    model = calibrate(
        build_packed(seeded(lambda: Spotter(kind)).eval(), {}, torch.from_numpy(x[:2]))[0], [(x,)]
    )
    network = Network.from_packed(model, 1)
    gates = {nn.LSTM: 4, nn.GRU: 3}[kind]
    assert [(line.name, line.shape, line.implementation) for line in network.layers] == [
        ("cells.weight_ih_l0", (5 * gates, 6), "dense"),
        ("cells.weight_hh_l0", (5 * gates, 5), "dense"),
    ]
    assert f"cells.weight_ih_l0 {5 * gates}x6, 0 % zeros: dense (float32: the runtime" in network.describe()
    assert all(why in line.reason for line in network.layers)
    plain = Network.from_packed(with_precision(model, "fp32"), 1)
    assert all("float32:" not in line.reason for line in plain.layers)


def test_a_transposed_convolution_without_a_kernel() -> None:
    """Stride 2 at kernel 3 has none; kernel 4 has one, but not where the network ends."""
    x = np.random.default_rng(0).normal(size=(4, 4, 5, 5)).astype(F32)
    layers = (
        nn.ConvTranspose2d(4, 6, 3, 2),
        nn.ConvTranspose2d(6, 4, 4, 2, 1),
        nn.ConvTranspose2d(4, 4, 4, 2, 1),
    )
    model = calibrate(build_packed(nn.Sequential(*layers).eval(), {}, torch.from_numpy(x[:2]))[0], [(x,)])
    network = Network.from_packed(model, 1)
    assert [(line.name, line.shape) for line in network.layers] == [
        ("0.weight", (4, 54)),
        ("2.weight", (4, 64)),
    ]
    assert all(line.reason == "float32: the runtime has no int8 kernel for this" for line in network.layers)


class Attention(nn.Module):
    """Self-attention over time and a linear layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(self.attend(x, x, x, need_weights=False)[0])
        return y


def test_the_linear_parts_of_an_attention_run_in_int8() -> None:
    """Queries, keys and values, the output's projection: softmax and its two products stay float32."""
    x = np.random.default_rng(0).normal(size=(4, 5, 8)).astype(F32)
    model = calibrate(build_packed(seeded(Attention).eval(), {}, torch.from_numpy(x[:2]))[0], [(x,)])
    network = Network.from_packed(model, 1)
    assert not network.layers
    weights = [t for t in to_onnx(model, "int8").graph.initializer if t.data_type == 3 and len(t.dims) == 2]
    assert sorted(tuple(t.dims) for t in weights) == [(8, 3), (8, 8), (8, 24)]
    wanted = np.asarray(Network.from_packed(with_precision(model, "fp32"), 1)(x))
    assert np.abs(np.asarray(network(x)) - wanted).max() < 0.05 * np.abs(wanted).max()
