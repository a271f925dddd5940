"""Small whole networks of the shapes that people use, with random weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def seeded(build: object) -> nn.Module:
    """A network whose weights depend on nothing but its code; batch-norm moments are not the defaults."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build()  # type: ignore[operator]
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2.0)
                if module.affine:
                    nn.init.normal_(module.weight, 1.0, 0.2)
                    nn.init.normal_(module.bias, 0.0, 0.2)
    return network.eval()


def lenet5() -> nn.Module:
    """LeNet-5-Caffe: 431 080 parameters."""
    convolutions = (nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*convolutions, nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def lenet300() -> nn.Module:
    layers = (nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    return nn.Sequential(nn.Flatten(), *layers)


class Block(nn.Module):
    """A CIFAR ResNet block; the shortcut subsamples and pads channels, as in the paper's option A."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.stride, self.extra = stride, wide - narrow

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra // 2, self.extra // 2))
        return F.relu(x + y)


class ResNet20(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)
        )
        widths = [width] * 3 + [2 * width] * 3 + [4 * width] * 3
        before = [width, *widths[:-1]]
        self.blocks = nn.Sequential(
            *(Block(a, b, 1 if a == b else 2) for a, b in zip(before, widths, strict=True))
        )
        self.head = nn.Linear(4 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def depthwise() -> nn.Module:
    def separable(a: int, b: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(a, a, 3, padding=1, groups=a),
            nn.BatchNorm2d(a),
            nn.ReLU6(),
            nn.Conv2d(a, b, 1),
            nn.Hardswish(),
        )

    pools = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), separable(8, 12), separable(12, 16), *pools)


class TransformerClassifier(nn.Module):
    """Tokens, a class token, learned positions, two encoder blocks; the head shares nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 8)
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.register_buffer("positions", torch.randn(1, 7, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.cls.expand(ids.shape[0], -1, -1), self.tokens(ids)], 1) + self.positions
        return self.head(self.encoder(x)[:, 0])


class LSTMClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 6, num_layers=2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, (h, _) = self.rnn(x)
        return self.head(h[-1])


class GRUTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 5, bidirectional=True, batch_first=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0]).log_softmax(-1)


class BagOfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 6, padding_idx=0)
        self.head = nn.Linear(6, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.words(ids).mean(1))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 4 * k, 4, 3, padding=1) for k in range(3))
        self.head = nn.Linear(15, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(torch.relu(layer(torch.cat(features, 1))))
        return self.head(F.adaptive_avg_pool2d(torch.cat(features, 1), 1).flatten(1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = F.leaky_relu(self.down(x))
        y = self.up(F.silu(self.deep(F.max_pool2d(skip, 2))))
        return torch.sigmoid(self.out(torch.cat([skip, y], 1)))
