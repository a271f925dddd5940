"""Five small networks for digits (N, 1, 8, 8): plain, residual, depthwise, recurrent, attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """A convolution and two linear layers, without a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.hidden, self.head = nn.Linear(96, 12), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(F.relu(self.conv(x)).flatten(1))))


class Residual(nn.Module):
    """Batch norms, and a block around which the stem's channels go."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.inner, self.inner_norm = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.outer, self.outer_norm = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        branch = self.outer_norm(self.outer(F.relu(self.inner_norm(self.inner(x)))))
        return self.head(F.relu(x + branch).mean((2, 3)))


class Depthwise(nn.Module):
    """Depthwise and pointwise convolutions, each with its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.depth, self.depth_norm = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8)
        self.point, self.point_norm = nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem_norm(self.stem(x)))
        x = F.relu6(self.depth_norm(self.depth(x)))
        return self.head(F.relu6(self.point_norm(self.point(x))).mean((2, 3)))


class Recurrent(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 10, batch_first=True), nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.flatten(1).view(-1, 8, 8))[0][:, -1])


class Attention(nn.Module):
    """Attention over the rows of an image, beside a residual path: a layer norm, two heads of width 4."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(8, 8), nn.Parameter(0.1 * torch.randn(1, 8, 8))
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1).view(-1, 8, 8)) + self.places
        q, k, v = (
            t.view(-1, 8, t.shape[-1] // 4, 4).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1)
        )
        y = torch.softmax(0.5 * q @ k.transpose(2, 3), -1) @ v
        return self.head((x + self.out(y.transpose(1, 2).flatten(2))).mean(1))


def _seeded(kind: type[nn.Module]) -> Callable[[], nn.Module]:
    """A function that builds the same network each time, its batch norms' statistics not the defaults."""

    def build() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            network = kind()
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(0.0, 0.2)
                    module.running_var.uniform_(0.5, 1.5)
        return network

    return build


FIVE: dict[str, Callable[[], nn.Module]] = {
    "plain": _seeded(Plain),
    "residual": _seeded(Residual),
    "depthwise": _seeded(Depthwise),
    "recurrent": _seeded(Recurrent),
    "attention": _seeded(Attention),
}
