"""Small networks in the manner of other people's libraries, which do what plain layers of torch do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tests.helpers.coupled_networks import Net, conv, image


class PaddedEncoder(nn.Module):
    """Torch's own Transformer, told which places are padding; nested tensors and the fused path are on."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 16)
        self.blocks = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 24, batch_first=True), 2)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        y = self.blocks(self.embed(x), src_key_padding_mask=padding)
        return self.fc(y.masked_fill(padding[..., None], 0.0).sum(1))


def squeeze_and_excite() -> Net:
    """Channels are weighed by a bottleneck whose activation writes in place."""

    def run(n: Net, x: Tensor) -> Tensor:
        x = n.stem(x)
        gate = n.down(x.mean((2, 3), keepdim=True))
        return n.fc((x * torch.sigmoid(n.up(n.act(gate)))).mean((2, 3)))

    return Net(run, stem=conv(3, 8), down=nn.Conv2d(8, 4, 1), act=nn.ReLU(inplace=True),
               up=nn.Conv2d(4, 8, 1), fc=nn.Linear(8, 2))  # fmt: skip


def same_padding(value: float) -> Callable[[], Net]:
    """Convolutions padded by hand, with zeros or another number, and once by reflection."""

    def run(n: Net, x: Tensor) -> Tensor:
        x = F.relu(n.a(F.pad(x, (1, 1, 1, 1), value=value)))
        x = F.relu(n.b(F.pad(x, (0, 1, 0, 1), value=value)))
        return n.fc(F.relu(n.c(F.pad(x, (1, 1, 1, 1), mode="reflect"))).mean((2, 3)))

    return lambda: Net(run, a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 6, 3, stride=2), c=nn.Conv2d(6, 4, 3),
                       fc=nn.Linear(4, 2))  # fmt: skip


def padded_sequence_of_channels() -> Net:
    """Padding in one dimension, of one channel less than is then read."""

    def run(n: Net, x: Tensor) -> Tensor:
        x = F.pad(F.relu(n.a(F.pad(x, (2, 1)))), (1, 2, 0, 1), value=0.5)
        return n.fc(n.b(x).mean(2))

    return Net(run, a=nn.Conv1d(2, 7, 4), b=nn.Conv1d(8, 5, 4), fc=nn.Linear(5, 2))


def grid_of_places() -> Net:
    """Places are told the network by two channels made in its forward."""

    def run(n: Net, x: Tensor) -> Tensor:
        x = F.relu(n.a(x))
        sides = (torch.linspace(-1, 1, k, dtype=x.dtype) for k in x.shape[2:])
        grid = torch.stack(torch.meshgrid(*sides, indexing="ij")).expand(x.shape[0], -1, -1, -1)
        return n.fc(F.relu(n.b(torch.cat([x, grid], 1))).mean((2, 3)))

    return Net(run, a=conv(3, 8), b=conv(10, 6), fc=nn.Linear(6, 2))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of an image: torch's parameters, a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class ScaledBlocks(nn.Module):
    """A scale for each channel of a branch, a slope for each channel, and an embedding added to channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 2, 2), ChannelNorm(8)
        self.deep, self.inner = conv(8, 8, groups=8), ChannelNorm(8)
        self.wide, self.slope, self.narrow = nn.Conv2d(8, 12, 1), nn.PReLU(12), nn.Conv2d(12, 8, 1)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 0.5))
        self.kind, self.fc = nn.Embedding(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        x = x + self.gamma * self.narrow(self.slope(self.wide(self.inner(self.deep(x)))))
        return self.fc(x.mean((2, 3)) + self.kind(kind))


class Matrix(nn.Module):
    """A linear layer whose weight is (in, out), by ``addmm``."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf) / nx**0.5), nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], self.nf)


class CausalLanguage(nn.Module):
    """Tokens, places, one block by :class:`Matrix`; the output layer's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 16), nn.Embedding(9, 16)
        self.first, self.read, self.write = nn.LayerNorm(16), Matrix(48, 16), Matrix(16, 16)
        self.second, self.up, self.down = nn.LayerNorm(16), Matrix(24, 16), Matrix(16, 24)
        self.last, self.head = nn.LayerNorm(16), nn.Linear(16, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])
        starts = torch.cat([places.new_ones(1), torch.diff(places)]) == 1
        x = self.tokens(ids) + self.places(places) * starts[:, None]
        q, k, v = (t.unflatten(-1, (-1, 4)).transpose(1, 2) for t in self.read(self.first(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.write(y)
        return self.head(self.last(x + self.down(F.gelu(self.up(self.second(x))))))


def sampled_and_sorted() -> Net:
    """Images turned by a grid; then what changes from step to step, in order of size."""

    def run(n: Net, x: Tensor) -> Tensor:
        turn = torch.tensor([[[0.0, 1.0, 0.1], [-1.0, 0.2, 0.0]]], dtype=x.dtype).expand(x.shape[0], 2, 3)
        y = F.relu(n.a(x))
        y = F.grid_sample(y, F.affine_grid(turn, [*y.shape], align_corners=False), align_corners=False)
        steps = torch.diff(n.b(y).flatten(2)).sort(dim=-1).values
        return n.fc(steps.topk(3, dim=2)[0].mean(2))

    return Net(run, a=conv(3, 8), b=conv(8, 6), fc=nn.Linear(6, 2))


def written_in_parts() -> Net:
    """Results are written into a tensor that was made first."""

    def run(n: Net, x: Tensor) -> Tensor:
        y = torch.relu(n.a(x))
        steps = torch.zeros(x.shape[0], 3, y.shape[1], dtype=x.dtype)
        for t in range(3):
            steps[:, t] = y * (t + 1) - 1.0
        return n.b(steps.square().mean(1))

    return Net(run, a=nn.Linear(4, 6), b=nn.Linear(6, 3))


def normalised(first: Callable[[nn.Module], nn.Module], second: Callable[[nn.Module], nn.Module]) -> Any:
    """Two convolutions whose weights torch computes from others, after a step of training."""

    def build() -> nn.Module:
        layers = first(conv(3, 8)), nn.ReLU(), second(conv(8, 6)), nn.Flatten(), nn.Linear(216, 2)
        net = nn.Sequential(*layers).train()
        net(image(2, 3, 6, 6)).sum().backward()
        return net

    return build


def half(layer: nn.Module) -> nn.Module:
    return prune.l1_unstructured(layer, "weight", 0.5)


def _padding() -> Tensor:
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[1, 4:] = True
    return mask


def _ids() -> Tensor:
    return torch.tensor([[0, 3, 5, 2, 9, 10], [4, 4, 1, 8, 7, 6]])


IMAGE = (image(2, 3, 6, 6),)
TWO = {"0.weight:0", "2.weight:0"}
# name -> network, its inputs by position, names of the groups that must be found (those of inputs left out).
STRANGERS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...], set[str]]] = {
    "padded encoder": (PaddedEncoder, (image(2, 6, 5), _padding()),
                       {"embed.weight:0",
                        *(f"blocks.layers.{k}.{m}:0" for k in (0, 1)
                          for m in ("self_attn.in_proj_weight", "linear1.weight"))}),
    "squeeze and excite": (squeeze_and_excite, IMAGE, {"stem.weight:0", "down.weight:0"}),
    "same padding": (same_padding(0.0), IMAGE, {"a.weight:0", "b.weight:0", "c.weight:0"}),
    "padding with a number": (same_padding(1.5), IMAGE, {"a.weight:0", "b.weight:0", "c.weight:0"}),
    "padded channels": (padded_sequence_of_channels, (image(2, 2, 9),), {"a.weight:0", "b.weight:0"}),
    "grid of places": (grid_of_places, IMAGE, {"a.weight:0", "b.weight:0"}),
    "scaled blocks": (ScaledBlocks, (image(2, 3, 8, 8), torch.tensor([1, 3])),
                      {"stem.weight:0", "wide.weight:0"}),
    "causal language": (CausalLanguage, (_ids(),), {"write.weight:0", "down.weight:0", "read.weight:0"}),
    "sampled and sorted": (sampled_and_sorted, IMAGE, {"a.weight:0", "b.weight:0"}),
    "written in parts": (written_in_parts, (image(2, 4),), {"a.weight:0"}),
    "norms by hooks": (normalised(nn.utils.weight_norm, nn.utils.spectral_norm), IMAGE, TWO),
    "norms by parametrizations": (normalised(parametrizations.weight_norm, parametrizations.spectral_norm),
                                  IMAGE, TWO),
    "orthogonal": (normalised(parametrizations.orthogonal, nn.Identity()), IMAGE, TWO),
    "pruning masks": (normalised(half, half), IMAGE, TWO),
}  # fmt: skip
