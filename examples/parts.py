"""What the examples share: real data in batches, and the metric of a file without torch."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laconic.data import load, split
from laconic.runtime import load as load_file
from laconic.tasks import Task

Batches = list[tuple[Tensor, Tensor]]
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))  # what texts are made of; anything else reads "?"


def batches(inputs: Tensor, targets: Tensor, size: int = 64) -> Batches:
    """Pairs of so many examples; read again and again, in one order."""
    return [(inputs[i : i + size], targets[i : i + size]) for i in range(0, len(inputs), size)]


def digits() -> tuple[tuple[Tensor, Tensor], ...]:
    """The 8 x 8 digits (N, 1, 8, 8) and their labels (N,): training, validation, test."""
    parts = split(load("digits"), validation=237, seed=0)
    return tuple((part.inputs, part.labels) for part in (parts.train, parts.validation, parts.test))


def camvid(path: str) -> tuple[tuple[Tensor, Tensor], ...]:
    """Street scenes (N, 3, H, W) and labels (N, H, W), 11 where there is none: training, validation, test.

    ``path``: a folder or a zip with train/, val/ and test/, each with NAME.webp and NAME_mask.png.
    """
    from PIL import Image

    root = zipfile.Path(path) if path.endswith(".zip") else Path(path)
    sets = []
    for name in ("train", "val", "test"):
        masks = sorted((f for f in (root / name).iterdir() if f.name.endswith("_mask.png")), key=str)
        scenes = [root / name / f.name.replace("_mask.png", ".webp") for f in masks]
        x = np.stack([np.asarray(Image.open(f.open("rb")).convert("RGB")) for f in scenes])
        y = np.stack([np.asarray(Image.open(f.open("rb"))) for f in masks])
        inputs = torch.from_numpy(x).permute(0, 3, 1, 2) / 255 - 0.5
        sets.append((inputs, torch.from_numpy(y).long()))
    return tuple(sets)


def ink(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Digits with a label for each pixel: the digit where there is ink, 10 where none is, 11 between."""
    level = x[:, 0]
    return x, torch.where(level > 0.5, y[:, None, None], torch.where(level < 0.25, 10, 11))


class SmallUNet(nn.Module):
    """Images (N, channels, H, W), H and W multiples of 8, -> logits (N, classes, H, W)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        widths = (channels, 24, 32, 64)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in zip(widths, widths[1:], strict=False)
        )
        self.middle = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in ((64, 32), (32, 24), (24, classes))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        first = self.down[0](x)
        second = self.down[1](first)
        low = self.middle(self.down[2](second))
        high = torch.relu(self.up[0](low) + second)
        return self.up[2](torch.relu(self.up[1](high) + first))


class CharacterGRU(nn.Module):
    """Characters (N, T) -> logits (N, T, outputs)."""

    def __init__(self, hidden: int, outputs: int, *, both_ways: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), 16)
        self.gru = nn.GRU(16, hidden, batch_first=True, bidirectional=both_ways)
        self.out = nn.Linear(hidden * (1 + both_ways), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.out(self.gru(self.embedding(x))[0])


def text(path: str | None = None) -> str:
    """A text file, or Python's own documentation of its language as it is installed with Python."""
    return (
        Path(path).read_text(encoding="utf-8") if path else "\n".join(topics[key] for key in sorted(topics))
    )


def encoded(characters: str) -> Tensor:
    """Places in ``CHARACTERS``."""
    known = {c: k for k, c in enumerate(CHARACTERS)}
    return torch.tensor([known.get(c, known["?"]) for c in characters])


def verify(path: str, data: Iterable[Any], task: Task) -> float:
    """The metric of a file on batches, run without torch."""
    net = load_file(path, precision="fp32", threads=1)
    pairs = [task.split(batch) for batch in data]
    return task.value(sum(task.measure(net(b.inputs.numpy()), b.target.numpy()) for b in pairs))
