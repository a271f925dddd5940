"""Inputs that a network can do without: pixels of MNIST, and sensors of activity recordings.

    python studies/input_ard.py mnist [--preset full] [--set fit.epochs=60 ...] [--runs runs]
    python studies/input_ard.py activity --recordings har.npz [--max-drop 1.0] [--seeds 3]

MNIST: LeNet-300-100 by ``laconic compress --method input-ard``. Activity: smartphones and smartwatches, six
channels (accelerometer and gyroscope, three axes each) at 100 Hz, five activities (doi
10.1016/j.dib.2023.109809, CC BY 4.0), as an .npz with x (samples, 6), y (samples,), length and subject by
recording. Windows of 128 samples, each half over the next, carry their most frequent label. Subjects are kept
apart: every fourth is for testing, the one after it for validation. The network has two convolutions over
time; each channel may go.

All scores of a compressed network are those of its decoded file on the test part. Results go to
studies/results/input_ard/.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import laconic
from laconic.cli import main as command
from laconic.data import TensorLoader, TensorPair
from laconic.methods import UnitChoice
from laconic.methods.input_ard import InputARD
from laconic.runtime import load
from laconic.schedules import WarmUp
from laconic.train.compress import compress
from laconic.train.fit import FitConfig, Hooks, fit

OUT = Path(__file__).parent / "results" / "input_ard"
WINDOW = 128
CHANNELS = ("acc x", "acc y", "acc z", "gyro x", "gyro y", "gyro z")


class Activity(nn.Module):
    """(batch, 6, 128) samples -> two convolutions over time -> their mean -> five activities."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(6, 32, 9, 2), nn.Conv1d(32, 32, 9, 2)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean(2))


def windows(path: Path) -> tuple[TensorPair, TensorPair, TensorPair]:
    """Training, validation and test windows; channels have mean 0 and variance 1 in training."""
    held = dict(np.load(path))
    starts = np.concatenate([[0], np.cumsum(held["length"])])
    values, labels, subjects = [], [], []
    for start, length, subject in zip(starts, held["length"], held["subject"], strict=False):
        for at in range(start, start + length - WINDOW + 1, WINDOW // 2):
            values.append(held["x"][at : at + WINDOW].T)
            labels.append(np.bincount(held["y"][at : at + WINDOW]).argmax())
            subjects.append(subject)
    x, y, subject = np.stack(values).astype(np.float32), np.array(labels), np.array(subjects)
    order = np.searchsorted(np.unique(subject), subject) % 4
    mean, std = (f(x[order > 1], axis=(0, 2), keepdims=True) for f in (np.mean, np.std))
    x = torch.from_numpy((x - mean) / std)
    parts = (order > 1, order == 1, order == 0)
    return tuple(TensorPair(x[p], torch.from_numpy(y)[p], 5) for p in parts)  # type: ignore[return-value]


def activity(options: argparse.Namespace) -> None:
    train, validate, test = windows(options.recordings)
    rows = []
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        model = Activity()
        loaders = TensorLoader(train, 64, seed=seed), TensorLoader(validate, 500, shuffle=False)
        config = FitConfig(epochs=options.epochs, lr=2e-3, seed=seed)
        fit(model, loaders[0], config, Hooks.plain(model))
        choice = UnitChoice(per_group=False, max_drop=options.max_drop, max_nll_ratio=1.5)
        method = InputARD(kl_weight=options.kl_weight, units=choice, warm_up=WarmUp(0.0, 2.0), noise_lr=20.0)
        small = compress(model, *loaders, method, fit=config, seed=seed)
        path = options.runs / f"activity-{seed}.lac"
        path.parent.mkdir(parents=True, exist_ok=True)
        laconic.save(small, path)
        with torch.no_grad():
            before = scores(model.eval()(test.inputs).numpy(), test.labels.numpy())
        after = scores(np.asarray(load(path)(test.inputs.numpy())), test.labels.numpy())
        (left,) = small.facts["inputs_left"].values()
        (shares,) = small.facts["relevance"].values()
        told = {
            "left": [CHANNELS[i] for i in left],
            "well_determined": dict(zip(CHANNELS, shares, strict=True)),
        }
        rows.append({"seed": seed, "before": before, "after": after, "bytes": path.stat().st_size, **told})
        print(json.dumps(rows[-1]), flush=True)
    write(
        "activity",
        {
            "epochs": options.epochs,
            "kl_weight": options.kl_weight,
            "max_drop": options.max_drop,
            "rows": rows,
        },
    )


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Error in per cent and negative log-likelihood in nats."""
    chances = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    error = 100 * float(np.mean(logits.argmax(1) != labels))
    return {"error": round(error, 2), "nll": round(-float(chances[np.arange(len(labels)), labels].mean()), 4)}


def mnist(options: argparse.Namespace) -> None:
    folder = options.runs / f"lenet300-input-ard-{options.preset}"
    words = ["compress", "lenet300", "--data", "mnist", "--method", "input-ard", "--preset", options.preset]
    words += ["--out", str(folder), "--no-picture", "--threads", str(options.threads)]
    words += [w for s in options.set for w in ("--set", s)]
    words += ["--resume"] if (folder / "settings.json").exists() else []
    if command(words) != 0:
        raise SystemExit("the run did not finish")
    record = json.loads((folder / "record.json").read_text())
    write(f"mnist-{options.preset}", record)
    print({k: v for k, v in record["metrics"].items() if "test" in k}, record["file_bytes"])


def write(name: str, found: dict[str, Any]) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/input-ard"))
    parser.add_argument("--threads", type=int, default=1)
    parts = parser.add_subparsers(required=True)
    pixels = parts.add_parser("mnist")
    pixels.add_argument("--preset", choices=("full", "demo"), default="full")
    pixels.add_argument("--set", nargs="+", default=[])
    pixels.set_defaults(run=mnist)
    sensors = parts.add_parser("activity")
    sensors.add_argument("--recordings", type=Path, required=True)
    sensors.add_argument("--max-drop", type=float, default=1.0)
    sensors.add_argument("--kl-weight", type=float, default=0.1)
    sensors.add_argument("--epochs", type=int, default=20)
    sensors.add_argument("--seeds", type=int, default=3)
    sensors.set_defaults(run=activity)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.run(options)


if __name__ == "__main__":
    main()
