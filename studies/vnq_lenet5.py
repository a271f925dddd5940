"""Variational network quantisation of LeNet-5 on MNIST: the table and the figures of Achterhold et al. 2018.

    python studies/vnq_lenet5.py --run runs/vnq-lenet5 [--set fit.epochs=60] [--threads 2]

Ternary weights in all layers, first and last included, no fine-tuning after pruning and quantising. The run
folder is that of ``laconic compress lenet5 --data mnist --method vnq``; an interrupted run is resumed; of a
finished one only the figures are drawn again. Results are written to studies/results/vnq_lenet5/.

Source: Achterhold, Koehler, Schmeink & Genewein, Variational Network Quantization, ICLR 2018, section 4.1,
table 1 and figures 2-4. Published errors: 0.83 % at 24.5 % non-zero (submission), 0.73 % at 28.3 % (final).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from laconic import pack
from laconic.cli import main as laconic
from laconic.data import TensorLoader, load, split
from laconic.records import AnyArray
from laconic.train.evaluate import evaluate
from laconic.zoo import LeNet5

HERE = Path(__file__).parent
LAYERS = ("conv1", "conv2", "fc1", "fc2")
PUBLISHED = (
    ("original (published)", 0.80, 100.0, 32, None),
    ("VNQ, before P&Q (published: submission)", 0.69, 100.0, 32, None),
    ("VNQ + P&Q (published: submission)", 0.83, 24.5, 2, None),
    ("VNQ + P&Q (published: final)", 0.73, 28.3, 2, None),
)


def main() -> None:
    """Run or resume the experiment, then write its table and figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/vnq-lenet5"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "vnq_lenet5")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    compress(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    reference = torch.load(arguments.run / "reference.pt", weights_only=True)
    state = torch.load(arguments.run / "checkpoint.pt", weights_only=True)["net"]
    record = json.loads((arguments.run / "record.json").read_text())
    table = make_table(record, reference, state)
    (arguments.out / "table.md").write_text(table)
    (arguments.out / "record.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    decoded = {t.name: t.values() for t in pack.read(arguments.run / "model.lac").tensors}
    for name, figure in figures(reference, state, decoded).items():
        figure.savefig(arguments.out / f"{name}.png", dpi=110)
    print(table)


def compress(arguments: argparse.Namespace) -> None:
    """Run the command line's ``compress``."""
    words = ["compress", "lenet5", "--data", "mnist", "--method", "vnq", "--out", str(arguments.run)]
    words += [w for text in arguments.set for w in ("--set", text)]
    words += ["--threads", str(arguments.threads)] if arguments.threads else []
    words += ["--resume"] if (arguments.run / "settings.json").exists() else []
    if laconic(words) != 0:
        raise SystemExit("the run did not finish")


def make_table(record: dict[str, Any], reference: dict[str, Any], state: dict[str, Any]) -> str:
    """Error, non-zero share, bits and bytes beside the published figures, as Markdown."""
    metrics, layers = record["metrics"], record["layers"]
    weights = [r for r in layers if r["name"].endswith("weight")]
    share = 100 * sum(r["nonzeros"] for r in weights) / sum(r["weights"] for r in weights)
    seed = record["seed"]
    rows = [
        *PUBLISHED[:1],
        ("original (ours)", metrics["original_test_metric"], 100.0, 32, record["bytes_before"]),
        PUBLISHED[1],
        ("VNQ, before P&Q (ours)", mean_error(state, seed), 100.0, 32, record["bytes_before"]),
        *PUBLISHED[2:],
        ("VNQ + P&Q (ours, from the file)", metrics["test_metric"], share, 2, record["file_bytes"]),
    ]
    lines = ["| | test error % | non-zero % | bits | bytes |", "|---|---|---|---|---|"]
    lines += [f"| {n} | {e:.2f} | {s:.1f} | {b} | {'-' if f is None else f} |" for n, e, s, b, f in rows]
    ratio = record["bytes_before"] / record["file_bytes"]
    epochs = record["settings"]["stages"][0]["fit"]["epochs"]
    lines.append(f"\n{ratio:.1f}x smaller than fp32; {epochs} epochs, seed {seed}. By layer:\n")
    lines += ["| tensor | weights | non-zero | levels | bytes |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['name']} | {r['weights']} | {r['nonzeros']} | {r['levels']} | {r['bytes_after']} |"
        for r in layers
    ]
    return "\n".join(lines) + "\n"


def mean_error(state: dict[str, Any], seed: int) -> float:
    """Test error (percent) of the posterior means, neither pruned nor quantised."""
    net = LeNet5()
    net.load_state_dict({name: state[name] for name in net.state_dict()})
    test = split(load("mnist"), validation=5000, seed=seed).test
    return evaluate(net, TensorLoader(test, 1000, shuffle=False)).metric


def figures(
    reference: dict[str, Any], state: dict[str, Any], decoded: Mapping[str, AnyArray]
) -> dict[str, Figure]:
    """All figures by file name; ``decoded`` holds the tensors of model.lac by name."""
    scales = [float(state[f"laconic_scale_{i}"]) for i in range(len(LAYERS))]
    return {
        "posteriors": draw_posteriors(state, decoded, scales),
        "histograms": draw_histograms(reference, state, scales),
        "filters": draw_filters(reference, state, decoded, scales[0]),
    }


def draw_posteriors(state: dict[str, Any], decoded: Mapping[str, AnyArray], scales: list[float]) -> Figure:
    """Posterior mean against log variance, before and after pruning and quantising (figure 2)."""
    figure, axes = plt.subplots(2, 4, figsize=(14, 6), sharey="row", layout="constrained")
    for column, (layer, a) in enumerate(zip(LAYERS, scales, strict=True)):
        mean, log_var = posterior(state, layer)
        pick = np.random.default_rng(0).permutation(mean.size)[:8000]
        after = decoded[f"{layer}.weight"].ravel()
        for row, values in enumerate((mean, after)):
            axes[row, column].scatter(values[pick], log_var[pick], s=2, alpha=0.3, linewidths=0)
            axes[row, column].set_title(f"{layer}, {'before' if row == 0 else 'after'}", fontsize=10)
            axes[row, column].set_xlabel("mean")
            axes[row, column].locator_params(axis="x", nbins=5)
            for level in (-a, 0.0, a):
                axes[row, column].axvline(level, color="tab:red", linewidth=0.5)
    for row in range(2):
        axes[row, 0].set_ylabel("log variance")
    return figure


def draw_histograms(reference: dict[str, Any], state: dict[str, Any], scales: list[float]) -> Figure:
    """Weights after standard training and posterior means after VNQ (figure 3)."""
    figure, axes = plt.subplots(2, 4, figsize=(14, 5.5), layout="constrained")
    for column, (layer, a) in enumerate(zip(LAYERS, scales, strict=True)):
        standard = reference[f"{layer}.weight"].numpy().ravel()
        mean, _ = posterior(state, layer)
        for row, (values, title) in enumerate(((standard, "standard training"), (mean, "VNQ, means"))):
            axes[row, column].hist(values, bins=121, range=(-2 * a, 2 * a), log=True)
            axes[row, column].set_title(f"{layer}, {title}", fontsize=10)
    return figure


def draw_filters(
    reference: dict[str, Any], state: dict[str, Any], decoded: Mapping[str, AnyArray], a: float
) -> Figure:
    """First-layer filters: standard training, posterior means, ternary (figure 4)."""
    mean, _ = posterior(state, "conv1")
    sets = {
        "standard": reference["conv1.weight"].numpy(),
        "VNQ means": mean.reshape(20, 1, 5, 5),
        "ternary": decoded["conv1.weight"].reshape(20, 1, 5, 5),
    }
    figure, axes = plt.subplots(3, 20, figsize=(14, 2.6), layout="constrained")
    for row, (title, filters) in enumerate(sets.items()):
        for column in range(20):
            axes[row, column].imshow(filters[column, 0], cmap="RdBu", vmin=-2 * a, vmax=2 * a)
            axes[row, column].set_xticks([])
            axes[row, column].set_yticks([])
        axes[row, 0].set_ylabel(title, fontsize=9)
    return figure


def posterior(state: dict[str, Any], layer: str) -> tuple[AnyArray, AnyArray]:
    """Mean and log variance of a layer's weights, flat."""
    return state[f"{layer}.weight"].numpy().ravel(), state[f"{layer}.weight_log_var"].numpy().ravel()


if __name__ == "__main__":
    main()
