"""Hidden units of a keyword spotter's LSTM are removed physically, not set to zero.

    python studies/kws_lstm.py --weights lstm_M.safetensors --features mfcc49x10_f16.npz [--macs 0.45]

The network is ARM's pretrained "Basic LSTM" for Speech Commands (Zhang, Suda, Lai & Chandra, Hello Edge,
2017, arXiv 1711.07128; Apache-2.0): 49 frames of 10 MFCCs, one LSTM layer, 12 classes. The features are those
of the Speech Commands v0.02 test set (CC BY 4.0). The training set is not used: the first half of each class
is for fine-tuning (a sixth of it is the validation split), and the second half is scored once, from the
decoded files.

``TaylorPruning`` removes hidden units while the network is fine-tuned on the first half. Printed and written
to studies/results/kws_lstm/: accuracy, weights, bytes and latency of both networks, each from its .lac file
in ONNX Runtime, one thread, interleaved. A network that was fine-tuned without pruning is scored, too, since
fine-tuning alone changes the accuracy.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import interleaved, read_safetensors
from torch import Tensor, nn

import laconic
from laconic import pack
from laconic.data import TensorLoader, TensorPair
from laconic.export import save
from laconic.methods import TaylorPruning
from laconic.methods.common.grid_choice import GridChoice
from laconic.runtime import Network, load
from laconic.train.compress import compress
from laconic.train.fit import FitConfig, Hooks, fit

OUT = Path(__file__).parent / "results" / "kws_lstm"
ROUNDS = 400


class BasicLSTM(nn.Module):
    """(batch, 49, 10) MFCCs -> LSTM -> its last state -> 12 classes."""

    def __init__(self, hidden: int = 214, classes: int = 12) -> None:
        super().__init__()
        self.lstm = nn.LSTM(10, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[1][0][-1])


def halves(features: Path) -> tuple[TensorPair, TensorPair, TensorPair]:
    """Training and validation parts of the first half of each class, and the second halves."""
    archive = np.load(features)
    x, y = torch.from_numpy(archive["x"].astype(np.float32)), torch.from_numpy(archive["y"].astype(np.int64))
    train, validate, test = [], [], []
    for label in range(int(y.max()) + 1):
        places = torch.nonzero(y == label).ravel()
        first, second = places[: len(places) // 2], places[len(places) // 2 :]
        validate.append(first[::6])
        train.append(first[torch.arange(len(first)) % 6 != 0])
        test.append(second)
    parts = (torch.cat(p) for p in (train, validate, test))
    return tuple(TensorPair(x[p], y[p], 12) for p in parts)  # type: ignore[return-value]


def accuracy(network: Network, data: TensorPair) -> float:
    """Accuracy of a decoded file on a split, in per cent."""
    return 100.0 * float((network(data.inputs.numpy()).argmax(1) == data.labels.numpy()).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--macs", type=float, default=0.45)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=Path("runs/kws-lstm"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.run.mkdir(parents=True, exist_ok=True)
    train, validate, test = halves(options.features)
    loaders = TensorLoader(train, 64, seed=options.seed), TensorLoader(validate, 409, shuffle=False)
    model = BasicLSTM()
    model.load_state_dict(read_safetensors(options.weights))
    tuned = BasicLSTM()
    tuned.load_state_dict(model.state_dict())
    config = FitConfig(epochs=options.epochs, lr=5e-4, seed=options.seed)
    fit(tuned, loaders[0], config, Hooks.plain(tuned))
    method = TaylorPruning(
        options.macs, grid=GridChoice(steps=(0.25, 0.35, 0.5), prices=(0.0,), max_drop=0.0)
    )
    small = compress(model, *loaders, method, fit=config, seed=options.seed)
    report(options, {"original": model, "fine-tuned, whole": tuned}, small, test)


def report(options: argparse.Namespace, wholes: dict[str, nn.Module], small: Any, test: TensorPair) -> None:
    """Write all files, then score and time the decoded networks."""
    example = torch.zeros(1, 49, 10)
    paths = {name: options.run / f"{name.replace(', ', '-')}.lac" for name in (*wholes, "shrunk")}
    for name, module in wholes.items():
        save(module.eval(), {}, paths[name], example)
    laconic.save(small, paths["shrunk"])
    networks = {name: load(path, threads=1) for name, path in paths.items()}
    times = interleaved({n: networks[n] for n in ("original", "shrunk")}, test.inputs[:1].numpy(), ROUNDS)
    rows: dict[str, dict[str, float]] = {}
    for name, path in paths.items():
        weights = sum(t.values().size for t in pack.read(path).tensors if "weight" in t.name)
        rows[name] = {
            "accuracy": accuracy(networks[name], test),
            "weights": weights,
            "bytes": path.stat().st_size,
        }
    for name, values in times.items():
        ordered = sorted(values)
        rows[name] |= {
            "latency_ms": statistics.median(ordered),
            "latency_p10_ms": ordered[len(ordered) // 10],
            "latency_p90_ms": ordered[-1 - len(ordered) // 10],
        }
    facts = {k: v for k, v in small.facts.items() if k != "kept_units"}
    facts["hidden_units"] = small.module.lstm.hidden_size
    OUT.mkdir(parents=True, exist_ok=True)
    result = {
        "seed": options.seed,
        "macs": options.macs,
        "epochs": options.epochs,
        "rows": rows,
        "facts": facts,
    }
    (OUT / f"seed{options.seed}.json").write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(as_text(rows))


def as_text(rows: dict[str, dict[str, float]]) -> str:
    """The table, and the three ratios that have a goal."""
    lines = [f"{'network':20} {'accuracy %':>10} {'weights':>9} {'bytes':>8} {'ms':>16}"]
    for name, r in rows.items():
        ms = (
            f"{r['latency_ms']:.3f} ({r['latency_p10_ms']:.3f} .. {r['latency_p90_ms']:.3f})"
            if "latency_ms" in r
            else ""
        )
        lines.append(f"{name:20} {r['accuracy']:10.2f} {r['weights']:9.0f} {r['bytes']:8.0f} {ms:>16}")
    a, b = rows["original"], rows["shrunk"]
    weights, latency = (b[key] / a[key] for key in ("weights", "latency_ms"))
    lines.append(
        f"weights {weights:.2f}x (goal <= 0.5x), latency {latency:.2f}x (goal <= 0.65x), "
        f"drop {a['accuracy'] - b['accuracy']:.2f} points (goal <= 1.0)"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
