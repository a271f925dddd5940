"""Small networks, each with one way of tying its layers' widths together, and an example input."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """Named layers and the function that uses them."""

    def __init__(self, run: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *x: Tensor) -> Tensor:
        return self.run(self, *x)


def conv(i: int, o: int, **options: int) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, padding=1, **options)


def residual() -> Net:
    def run(n: Net, x: Tensor) -> Tensor:
        x = F.relu(n.stem(x))
        x = F.relu(x + n.bn2(n.conv2(F.relu(n.bn1(n.conv1(x))))))
        return n.fc(x.mean((2, 3)))

    return Net(run, stem=conv(3, 8), conv1=conv(8, 12), bn1=nn.BatchNorm2d(12), conv2=conv(12, 8),
               bn2=nn.BatchNorm2d(8), fc=nn.Linear(8, 5))  # fmt: skip


def padded_shortcut() -> Net:
    def run(n: Net, x: Tensor) -> Tensor:
        x = n.stem(x)
        return n.fc((F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)) + n.down(F.relu(x))).flatten(2).mean(2))

    return Net(run, stem=conv(3, 6), down=conv(6, 10, stride=2), fc=nn.Linear(10, 4))


def dense() -> Net:
    def run(n: Net, x: Tensor) -> Tensor:
        a = F.relu(n.a(x))
        both = torch.cat([a, F.relu(n.b(a))], 1)
        return n.fc(F.avg_pool2d(F.relu(n.c(F.relu(n.bn(both)))), 2).flatten(1))

    return Net(run, a=conv(3, 6), b=conv(6, 7), bn=nn.BatchNorm2d(13), c=conv(13, 5), fc=nn.Linear(45, 4))


def mobile() -> nn.Module:
    return nn.Sequential(
        conv(3, 8), nn.BatchNorm2d(8), nn.ReLU6(), conv(8, 16, groups=8), nn.BatchNorm2d(16), nn.Hardswish(),
        nn.Conv2d(16, 12, 1), nn.PReLU(12), nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        nn.Linear(12, 3),
    )  # fmt: skip


def grouped() -> nn.Module:
    return nn.Sequential(
        conv(3, 12), nn.SiLU(), conv(12, 18, groups=3), nn.GroupNorm(6, 18), nn.GELU(), nn.Conv2d(18, 6, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2),
    )  # fmt: skip


def transposed() -> nn.Module:
    return nn.Sequential(
        conv(3, 6), nn.ELU(), nn.ConvTranspose2d(6, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(),
        nn.ConvTranspose2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 6, 3, groups=2),
        nn.Upsample(scale_factor=2), conv(6, 3),
    )  # fmt: skip


def shuffled() -> Net:
    def run(n: Net, x: Tensor) -> Tensor:
        x = n.a(x)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return n.c(F.relu(n.b(x))).amax((2, 3))

    return Net(run, a=conv(3, 8), b=conv(8, 8, groups=2), c=conv(8, 3))


def computed_sizes() -> Net:
    def run(n: Net, x: Tensor) -> Tensor:
        x = torch.tanh(n.conv(x))
        x = n.fc1(x.view(x.size(0), x.size(1) * x.size(2) * x.size(3)))
        return n.fc2(x.sigmoid())  # sigmoid(0) is not zero: only the next layer's weights make it harmless

    return Net(run, conv=conv(1, 6), fc1=nn.Linear(216, 10), fc2=nn.Linear(10, 3))


def gated() -> Net:
    return Net(lambda n, x: n.b(F.glu(n.a(x))), a=nn.Linear(4, 12), b=nn.Linear(6, 3))


def flat_pixels() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2)
    )


def recurrent(kind: type[nn.RNNBase], layers: int, both: bool, read: str, **options: int) -> Net:
    def run(n: Net, x: Tensor) -> Tensor:
        y, h = n.rnn(x)
        if read == "last":
            return n.fc(y[:, -1])
        if read == "mean":
            return n.fc(y.mean(1))
        h = h[0] if isinstance(h, tuple) else h
        return n.fc(torch.cat([h[-2], h[-1]], 1) if both else h[-1])

    width = (options.get("proj_size") or 7) * (1 + both)
    rnn = kind(5, 7, layers, bidirectional=both, batch_first=True, **options)  # type: ignore[arg-type]
    return Net(run, rnn=rnn, fc=nn.Linear(width, 4))


def cells() -> Net:
    def run(n: Net, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], n.lstm.hidden_size)
        g = torch.zeros(x.shape[0], n.gru.hidden_size, dtype=x.dtype)
        for t in range(x.shape[1]):
            h, c = n.lstm(x[:, t], (h, c))
            g = n.gru(h, g)
        return n.fc(g)

    return Net(run, lstm=nn.LSTMCell(5, 6), gru=nn.GRUCell(6, 5), fc=nn.Linear(5, 2))


class Transformer(nn.Module):
    """Embedding, learnt positions, two of torch's own blocks."""

    def __init__(self, norm_first: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.places = nn.Parameter(torch.randn(1, 8, 16))
        layer = nn.TransformerEncoderLayer(
            16, 4, 24, batch_first=True, norm_first=norm_first, activation="gelu"
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.places[:, : tokens.shape[1]]
        return self.fc(self.blocks(x).mean(1))


def own_attention(split: Callable[[Tensor], list[Tensor]], *, fused: bool) -> Net:
    """Attention written out; ``split`` makes heads of (batch, places, 48)."""

    def run(n: Net, x: Tensor) -> Tensor:
        x = n.inp(x)
        q, k, v = split(n.qkv(n.norm(x)))
        if fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = torch.softmax(torch.einsum("bhqd,bhkd->bhqk", q, k) / 2, -1) @ v
        x = x + n.out(y.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))
        return n.fc(x.mean(1))

    layers = {"inp": nn.Linear(5, 16), "norm": nn.LayerNorm(16), "qkv": nn.Linear(16, 48)}
    return Net(run, **layers, out=nn.Linear(16, 16), fc=nn.Linear(16, 2))


def heads_of_four(x: Tensor) -> list[Tensor]:
    """Heads of width 4, however many there are."""
    return [t.view(t.shape[0], t.shape[1], -1, 4).transpose(1, 2) for t in x.chunk(3, -1)]


def four_heads(x: Tensor) -> Tensor:
    """Four heads, however wide they are."""
    return x.reshape(x.shape[0], x.shape[1], 3, 4, -1).permute(2, 0, 3, 1, 4)


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(11))


# name -> network, example, names of the groups that must be found (those of inputs left out).
CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, set[str]]] = {
    "residual": (residual, image(2, 3, 6, 6), {"stem.weight:0", "conv1.weight:0"}),
    "padded shortcut": (padded_shortcut, image(2, 3, 6, 6), {"stem.weight:0"}),
    "dense": (dense, image(2, 3, 6, 6), {"a.weight:0", "b.weight:0", "c.weight:0"}),
    "depthwise": (mobile, image(2, 3, 6, 6), {"0.weight:0", "6.weight:0"}),
    "grouped": (grouped, image(2, 3, 6, 6), {"0.weight:0", "2.weight:0", "5.weight:0"}),
    "transposed": (transposed, image(2, 3, 5, 5), {"0.weight:0", "5.weight:0", "6.weight:1"}),
    "channel shuffle": (shuffled, image(2, 3, 6, 6), {"a.weight:0", "b.weight:0"}),
    "computed sizes": (computed_sizes, image(2, 1, 6, 6), {"conv.weight:0", "fc1.weight:0"}),
    "gated": (gated, image(2, 4), {"a.weight:0"}),
    "flat pixels": (flat_pixels, image(2, 1, 5, 6), {"1.weight:0", "3.weight:0"}),
    "lstm": (lambda: recurrent(nn.LSTM, 2, True, "last"), image(2, 6, 5),
             {f"rnn.weight_ih_l{k}{d}:0" for k in (0, 1) for d in ("", "_reverse")}),
    "lstm's states": (lambda: recurrent(nn.LSTM, 2, True, "state"), image(2, 6, 5),
                      {f"rnn.weight_ih_l{k}{d}:0" for k in (0, 1) for d in ("", "_reverse")}),
    "projected lstm": (lambda: recurrent(nn.LSTM, 1, True, "last", proj_size=4), image(2, 6, 5),
                       {f"rnn.weight_{m}_l0{d}:0" for m in ("ih", "hr") for d in ("", "_reverse")}),
    "gru": (lambda: recurrent(nn.GRU, 2, False, "mean"), image(2, 6, 5),
            {"rnn.weight_ih_l0:0", "rnn.weight_ih_l1:0"}),
    "rnn": (lambda: recurrent(nn.RNN, 1, False, "state"), image(2, 6, 5), {"rnn.weight_ih_l0:0"}),
    "cells": (cells, image(2, 4, 5), {"lstm.weight_ih:0", "gru.weight_ih:0"}),
    "transformer": (Transformer, torch.arange(12).reshape(2, 6) % 11,
                    {"blocks.layers.0.self_attn.out_proj.weight:0",
                     *(f"blocks.layers.{k}.{m}.weight:0" for k in (0, 1) for m in ("linear1",)),
                     *(f"blocks.layers.{k}.self_attn.in_proj_weight:0" for k in (0, 1))}),
    "pre-norm transformer": (lambda: Transformer(norm_first=True), torch.arange(12).reshape(2, 6) % 11,
                    {"blocks.layers.0.self_attn.out_proj.weight:0",
                     *(f"blocks.layers.{k}.{m}.weight:0" for k in (0, 1) for m in ("linear1",)),
                     *(f"blocks.layers.{k}.self_attn.in_proj_weight:0" for k in (0, 1))}),
    "heads": (lambda: own_attention(heads_of_four, fused=True), image(2, 6, 5),
              {"qkv.weight:0", "inp.weight:0"}),
    "head width": (lambda: own_attention(four_heads, fused=False), image(2, 6, 5),
                   {"qkv.weight:0", "inp.weight:0"}),
}  # fmt: skip
