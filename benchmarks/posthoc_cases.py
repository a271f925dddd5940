"""Trained networks that ``posthoc.py`` compresses, each with inputs to calibrate on and inputs to score on.

LeNet-300-100 and LeNet-5 are trained here, plainly, on MNIST. The others are published weights, read from
files that the caller names: ResNet-20 on CIFAR-10 (Y. Idelbayev, BSD-2-Clause), ARM's keyword spotters
(Hello Edge, Apache-2.0). A case of one's own is a function without arguments that returns a :class:`Case`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))

from common import read_safetensors
from kws_lstm import BasicLSTM
from resnet20_cifar10 import pretrained, read_cifar10

from laconic.data import TensorLoader, load, split
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.zoo import LeNet5, LeNet300

TARGETS = tuple(float(f"{0.0005 * 2 ** (k / 2):.2g}") for k in range(15))
"""From 0.0005 to 0.064 by factors of the square root of two: accuracies are read off the smallest file."""


@dataclass(frozen=True, eq=False)
class Case:
    """A trained network with its data.

    Attributes:
        network: The network, in evaluation mode.
        pool: Inputs that calibration samples are drawn from, (N, ...).
        test: Inputs that files are scored on, none of them in ``pool``.
        labels: Classes of ``test``; None where only the distance to the original counts.
        embeds: Whether the outputs are embeddings, compared by cosine, and not logits.
        max_kl: Targets of the search, in nats an example (or 1 - cosine), each of which gives a file.
        bits: Bits a weight that are asked for as well, each of which gives a file of the first draw.
        qps: NNCodec's quantisation parameters.
        augment: Changes calibration inputs in a refinement (``--augment``); None where none is known.
    """

    network: nn.Module
    pool: Tensor
    test: Tensor
    labels: Tensor | None = None
    embeds: bool = False
    max_kl: tuple[float, ...] = TARGETS
    bits: tuple[float, ...] = ()
    qps: tuple[int, ...] = tuple(range(-44, -3))
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W) moved by up to so many pixels in both directions, filled up with zeros."""
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (most,) * 4)
    down, right = torch.randint(2 * most + 1, (2, len(images)), generator=generator).tolist()
    return torch.stack(
        [x[:, d : d + height, r : r + width] for x, d, r in zip(padded, down, right, strict=True)]
    )


def flipped_and_shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """What CIFAR-10 networks are trained with: half of the images mirrored, all moved by up to 4 pixels."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return shifted(torch.where(mirrored[:, None, None, None], images.flip(3), images), 4, generator)


def digits_shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """MNIST's digits, flat or not, moved by up to one pixel."""
    return shifted(images.reshape(-1, 1, 28, 28), 1, generator).reshape(images.shape)


def _mnist(kind: Callable[..., nn.Module], epochs: int, options: argparse.Namespace) -> Case:
    """Trained with Adam on 55 000 images; the 5 000 left out are the pool, the test set is the test set."""
    parts = split(load("mnist"), validation=5000, seed=0)
    network = kind(generator=torch.Generator().manual_seed(0))
    path = options.cache / f"{kind.__name__}-{epochs}.pt"
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
    else:
        loader = TensorLoader(parts.train, 128, seed=0, drop_last=True)
        fit(network, loader, FitConfig(epochs=epochs, lr=1e-3), Hooks.plain(network))
        torch.save(network.state_dict(), path)
    pool, test = parts.validation, parts.test
    return Case(network.eval(), pool.inputs, test.inputs, test.labels, augment=digits_shifted)


def lenet300(options: argparse.Namespace) -> Case:
    """LeNet-300-100 after 20 epochs."""
    return _mnist(LeNet300, 20, options)


def lenet5(options: argparse.Namespace) -> Case:
    """LeNet-5-Caffe after 3 epochs."""
    return _mnist(LeNet5, 3, options)


def resnet20(options: argparse.Namespace) -> Case:
    """ResNet-20; training images are the pool (``--resnet20``, ``--cifar10``)."""
    train, test = read_cifar10(options.cifar10)
    network, bits = pretrained(options.resnet20).eval(), (0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    pool = train.inputs[:10_000].clone()
    return Case(network, pool, test.inputs, test.labels, bits=bits, augment=flipped_and_shifted)


def resnet20_fresh(options: argparse.Namespace) -> Case:
    """ResNet-20, calibrated on images that it was not trained on: the first 2 000 of the test set.

    On its training images the network is sure of each answer, and their outputs say less of it. The other
    8 000 images of the test set are the test.
    """
    _, test = read_cifar10(options.cifar10)
    network = pretrained(options.resnet20).eval()
    pool, scored = test.inputs[:2000].clone(), test.inputs[2000:].clone()
    return Case(network, pool, scored, test.labels[2000:].clone(), augment=flipped_and_shifted)


class DSCNN(nn.Module):
    """(batch, 49, 10) MFCCs -> depthwise separable convolutions -> 12 classes (Zhang et al. 2017, S)."""

    def __init__(self, width: int = 64, blocks: int = 4, classes: int = 12) -> None:
        super().__init__()
        first = nn.Conv2d(1, width, (10, 4), 2)
        layers = [nn.Sequential(nn.ZeroPad2d((1, 1, 4, 5)), first, self._norm(width)), nn.ReLU()]
        for _ in range(blocks):
            depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
            layers += [nn.Sequential(depthwise, self._norm(width)), nn.ReLU()]
            layers += [nn.Sequential(nn.Conv2d(width, width, 1), self._norm(width)), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(width, classes)

    @staticmethod
    def _norm(width: int) -> nn.Module:
        return nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.fc(self.features(x.unsqueeze(1)).mean((2, 3)))
        return logits


def _keywords(network: nn.Module, weights: Path, options: argparse.Namespace) -> Case:
    """The first half of each class is the pool, the second half the test."""
    state = read_safetensors(weights)
    missing = network.load_state_dict(state, strict=False).missing_keys
    if any("num_batches_tracked" not in name for name in missing):
        raise SystemExit(f"{weights} lacks {', '.join(missing)}")
    archive = np.load(options.features)
    x, y = torch.from_numpy(archive["x"].astype(np.float32)), torch.from_numpy(archive["y"].astype(np.int64))
    places = [torch.nonzero(y == label).ravel() for label in range(int(y.max()) + 1)]
    first = torch.cat([p[: len(p) // 2] for p in places])
    second = torch.cat([p[len(p) // 2 :] for p in places])
    return Case(network.eval(), x[first], x[second], y[second])


def lstm(options: argparse.Namespace) -> Case:
    """ARM's Basic LSTM (``--lstm``, ``--features``); its hidden size is read from the weights."""
    hidden = read_safetensors(options.lstm)["fc.weight"].shape[1]
    return _keywords(BasicLSTM(hidden), options.lstm, options)


def dscnn(options: argparse.Namespace) -> Case:
    """ARM's DS-CNN S (``--dscnn``, ``--features``)."""
    return _keywords(DSCNN(), options.dscnn, options)


CASES = {
    "lenet300": lenet300,
    "lenet5": lenet5,
    "resnet20": resnet20,
    "resnet20-fresh": resnet20_fresh,
    "lstm": lstm,
    "dscnn": dscnn,
}
