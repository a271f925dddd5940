"""A Bayesian LeNet-300-100: what averaging over its weights is worth, before and after compression.

    python studies/bnn_uncertainty.py [--data mnist] [--epochs 60] [--samples 30] [--seed 0] [--threads 2]

A network is trained as usual, then by mean-field variational inference (Blundell et al. 2015), then put on
the grid of the smallest file that the validation split allows. On the whole test set the table has error,
negative log-likelihood, calibration error and flips against the usual network of: that network, the posterior
means, predictions averaged over draws of the posterior, the decoded file, and predictions averaged over draws
inside the file's grid. The second table has entropy and mutual information (nats) on the test digits, on the
same digits turned by 90 degrees, and on uniform noise.

The file and its record are in the run folder; tables and figures go to studies/results/bnn_uncertainty/.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import laconic
from laconic.bayes.predictive import Predictive
from laconic.data import TensorLoader, load, split
from laconic.methods import Judge, MeanField
from laconic.schedules import WarmUp
from laconic.tasks.calibration import Flips, expected_calibration_error
from laconic.train.evaluate import evaluate
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.zoo import LeNet300

OUT = Path(__file__).parent / "results" / "bnn_uncertainty"


class Row(NamedTuple):
    """One network's quality on the test set: error and calibration error in %, nats an example, counts."""

    name: str
    error: float
    nll: float
    ece: float
    flips: Flips


def score(name: str, probabilities: Tensor, labels: Tensor, before: Tensor) -> Row:
    """A row from probabilities (N, C), labels (N,) and the answers of the usual network (N,)."""
    p, y = probabilities.double(), labels.long()
    confidence, answer = p.max(1)
    right = answer == y
    nll = -p.gather(1, y[:, None]).clamp_min(1e-12).log().mean()
    return Row(
        name,
        100 * float((~right).double().mean()),
        float(nll),
        expected_calibration_error(confidence.numpy(), right.numpy()),
        Flips.between(before.numpy(), answer.numpy(), y.numpy()),
    )


def others(inputs: Tensor, seed: int) -> dict[str, Tensor]:
    """The test images, the same turned by 90 degrees, and uniform noise of the images' range."""
    noise = torch.rand(inputs.shape, generator=torch.Generator().manual_seed(seed))
    low, high = inputs.min(), inputs.max()
    return {
        "test digits": inputs,
        "turned by 90 degrees": torch.rot90(inputs, 1, (2, 3)),
        "noise": low + (high - low) * noise,
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, compress and measure; returns the tables' numbers."""
    start = time.process_time()
    images = load(arguments.data)
    held_out = min(5000, len(images.train_labels) // 7)
    parts = split(images, validation=held_out, seed=arguments.seed)
    batch = 100 if len(images.train_labels) > 10_000 else 32
    train = TensorLoader(parts.train, batch, seed=arguments.seed, drop_last=True)
    validation = TensorLoader(parts.validation, 1000, shuffle=False)
    x, y = parts.test.inputs, parts.test.labels
    size = x[0].numel()
    usual = LeNet300(size, generator=torch.Generator().manual_seed(arguments.seed))
    fit(
        usual, train, FitConfig(epochs=max(1, arguments.epochs // 4), seed=arguments.seed), Hooks.plain(usual)
    )
    usual.eval()
    method = MeanField(warm_up=WarmUp(0.0, min(10.0, arguments.epochs / 4)))
    net = laconic.prepare(usual, method, x[:2], data_size=len(parts.train.labels), seed=arguments.seed)
    config = FitConfig(epochs=arguments.epochs, seed=arguments.seed)
    elbo: list[dict[str, float]] = []

    def record(epoch: int, loss: float) -> str:
        kl = float(laconic.penalty(net).detach())
        elbo.append({"loss": loss, "kl": kl, "expected_nll": loss - kl})
        return ""

    fit(net, train, config, Hooks.prepared(net), on_epoch=record)
    small = laconic.convert(net, Judge(lambda m: evaluate(m, validation), evaluate(usual, validation)))
    folder = arguments.runs / f"bnn-{arguments.data}-{arguments.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.lac"
    length = laconic.save(small, file)
    (folder / "record.json").write_text(json.dumps({"facts": dict(small.facts)}))
    tables = measure(usual, net, file, x, y, arguments)
    return {
        "data": arguments.data,
        "epochs": arguments.epochs,
        "samples": arguments.samples,
        "seed": arguments.seed,
        "file_bytes": length,
        "elbo_nats_per_example": elbo,
        "processor_seconds": round(time.process_time() - start, 1),
        **tables,
    }


def measure(
    usual: torch.nn.Module,
    net: torch.nn.Module,
    file: Path,
    x: Tensor,
    y: Tensor,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Both tables, on the test set."""

    def averaged(network: Any, inputs: Tensor) -> Predictive:
        g = torch.Generator().manual_seed(arguments.seed)
        return laconic.predict(network, inputs, samples=arguments.samples, generator=g)

    with torch.no_grad():
        one = usual(x).softmax(1)
        means = net.eval()(x).softmax(1)
    decoded = torch.from_numpy(np.asarray(laconic.runtime.load(file, threads=1)(x.numpy()))).softmax(1)
    answers = one.argmax(1)
    found = {
        (kind, name): averaged(network, inputs)
        for name, inputs in others(x, arguments.seed).items()
        for kind, network in (("posterior", net), ("file", file))
    }
    rows = [
        score("usual network", one, y, answers),
        score("posterior means", means, y, answers),
        score("average over the posterior", found["posterior", "test digits"].mean, y, answers),
        score("decoded file", decoded, y, answers),
        score("average inside the file's grid", found["file", "test digits"].mean, y, answers),
    ]
    return {
        "rows": [{**row._asdict(), "flips": vars(row.flips)} for row in rows],
        "uncertainty": [
            {
                "network": kind,
                "inputs": name,
                "entropy": float(p.entropy.mean()),
                "mutual_information": float(p.mutual_information.mean()),
            }
            for (kind, name), p in found.items()
        ],
    }


def make_tables(found: dict[str, Any]) -> str:
    """Both tables as Markdown."""
    lines = [
        "| network | error % | NLL (nats) | ECE % | flips (right to wrong, wrong to right) |",
        "|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        f = row["flips"]
        flips = f"{f['changed']} ({f['right_to_wrong']}, {f['wrong_to_right']})"
        lines.append(
            f"| {row['name']} | {row['error']:.2f} | {row['nll']:.4f} | {row['ece']:.2f} | {flips} |"
        )
    lines += ["", "| draws | inputs | entropy (nats) | mutual information (nats) |", "|---|---|---|---|"]
    for row in found["uncertainty"]:
        numbers = f"{row['entropy']:.3f} | {row['mutual_information']:.4f}"
        lines.append(f"| {row['network']} | {row['inputs']} | {numbers} |")
    return "\n".join([*lines, "", f"File: {found['file_bytes']} bytes.", ""])


def main() -> None:
    """Run the study and write its tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=("mnist", "digits"), default="mnist")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found = run(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = f"{arguments.data}-{arguments.seed}"
    (arguments.out / f"{stem}.json").write_text(json.dumps(found, indent=2) + "\n")
    (arguments.out / f"{stem}.md").write_text(make_tables(found))
    print(make_tables(found))


if __name__ == "__main__":
    main()
