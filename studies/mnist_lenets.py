"""Bytes and error on MNIST: each method with its full preset on LeNet-5-Caffe and LeNet-300-100.

    python studies/mnist_lenets.py [--runs runs] [--only lenet5-sparse-vd ...] [--threads 2]

Each row is one ``laconic compress`` command; its error is that of the decoded file on the whole test set, in
a process that never imports torch. Interrupted runs are resumed, finished ones are only read. The table and
the run records are written to studies/results/mnist_lenets/.

Published, for comparison (bytes derived from printed ratios; see each paper for what it counts): LeNet-5
MIRACLE 1.52 kB at 0.96 % and 3.03 kB at 0.69 % (Havasi et al. 2019), BC-GHS 2.23 kB at 1.0 % (Louizos et al.
2017), Sparse VD with Deep Compression's coding 4.71 kB at 1.0 %; LeNet-300-100 EPR 8.56 kB at 1.9 % (Oktay et
al. 2020), Sparse VD with Deep Compression's coding 9.38 kB at 1.8 %.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from laconic.cli import main as laconic
from laconic.cli.compress import MISSED

HERE = Path(__file__).parent
OUT = HERE / "results" / "mnist_lenets"
BC = ("--method", "bayesian-compression")
# Training images moved by up to a pixel.
SHIFTED = ("--data", "mnist_shifted:loaders", "--method", "sparse-vd")
# A step of LeNet-5 with weights drawn for the convolutions takes two thirds of the time of local draws.
MIXED = (
    *("--set", "sampling=mixed", "--set", "fit.epochs=75"),
    *("--set", "hold_from=45", "--set", "warm_up.end=10"),
)
SIXTY = ("--set", "fit.epochs=60")
LONGER = ("--set", "fit.epochs=150", "--set", "hold_from=90", "--set", "warm_up.end=22")
STAGED = ("--data", "mnist_shifted:loaders", "--config")
ROWS = {
    "lenet5-sparse-vd": ["lenet5", "--method", "sparse-vd"],
    "lenet5-magnitude": ["lenet5", "--method", "magnitude", "--set", "sparsity=0.98"],
    "lenet5-taylor": ["lenet5", "--method", "taylor"],
    "lenet5-shifted-sparse-vd": ["lenet5", *SHIFTED, *MIXED, "--set", "kl_weight=3"],
    "lenet5-stages": [*STAGED, str(HERE / "lenet5_stages.toml"), "--target", "1.5kB"],
    "lenet5-bc-gnj": ["lenet5", *BC],
    "lenet5-bc-ghs": ["lenet5", *BC, "--set", "scales=horseshoe"],
    "lenet5-structured-bayesian-pruning": ["lenet5", "--method", "structured-bayesian-pruning", *SIXTY],
    "lenet5-l0": ["lenet5", "--method", "l0", *SIXTY],
    "lenet5-soft-weight-sharing": ["lenet5", "--method", "soft-weight-sharing"],
    "lenet5-improved-bayesian-compression": ["lenet5", "--method", "improved-bayesian-compression", *MIXED],
    "lenet5-miracle": ["lenet5", "--method", "miracle"],
    "lenet5-miracle-small": ["lenet5", "--method", "miracle", "--set", "bits=11_840"],
    "lenet300-bc-gnj": ["lenet300", *BC],
    "lenet300-bc-gnj-1": ["lenet300", *BC, "--set", "kl_weight=1", "--set", "fit.epochs=100"],
    "lenet300-bc-ghs": ["lenet300", *BC, "--set", "scales=horseshoe"],
    "lenet300-soft-weight-sharing": ["lenet300", "--method", "soft-weight-sharing"],
    "lenet300-sparse-vd": ["lenet300", "--method", "sparse-vd"],
    "lenet300-magnitude": ["lenet300", "--method", "magnitude", "--set", "sparsity=0.97"],
    "lenet300-structured-bayesian-pruning": ["lenet300", "--method", "structured-bayesian-pruning"],
    "lenet500-structured-bayesian-pruning": ["lenet500", "--method", "structured-bayesian-pruning"],
    "lenet300-l0": ["lenet300", "--method", "l0"],
    "lenet300-shifted-sparse-vd": ["lenet300", *SHIFTED, "--set", "kl_weight=3"],
    "lenet300-shifted-sparse-vd-7": ["lenet300", *SHIFTED, *LONGER, "--set", "kl_weight=7"],
    "lenet300-shifted-sparse-vd-8": ["lenet300", *SHIFTED, "--set", "kl_weight=8"],
    "lenet300-stages": [*STAGED, str(HERE / "lenet300_stages.toml")],
    "lenet300-l0-0.3": ["lenet300", "--method", "l0", "--set", "lambdas=0.3"],
    "lenet300-miracle": ["lenet300", "--method", "miracle"],
}

COLUMNS = (
    "run",
    "epochs",
    "test error before %",
    "after %",
    "NLL before",
    "after",
    "ECE before %",
    "after %",
    "flips (right to wrong, wrong to right)",
    "non-zero weights",
    "bytes",
    "smaller by",
)


def main() -> None:
    """Run the missing runs, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--only", nargs="+", choices=sorted(ROWS), default=list(ROWS))
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        folder = arguments.runs / name
        words = ["compress", *ROWS[name], "--out", str(folder)]
        words += [] if "--data" in words else ["--data", "mnist"]
        words += ["--threads", str(arguments.threads)] if arguments.threads else []
        words += ["--resume"] if (folder / "settings.json").exists() else []
        if laconic(words) not in (0, MISSED):
            raise SystemExit(f"{name} did not finish")
        record = json.loads((folder / "record.json").read_text())
        (OUT / f"{name}.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    table = make_table({p.stem: json.loads(p.read_text()) for p in sorted(OUT.glob("*.json"))})
    (OUT / "table.md").write_text(table)
    print(table)


def make_table(records: dict[str, dict[str, Any]]) -> str:
    """One Markdown row per run."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for name, r in records.items():
        nonzeros = sum(row["nonzeros"] for row in r["layers"] if row["name"].endswith("weight"))
        metrics = r["metrics"]
        before, after = metrics["original_test_metric"], metrics["test_metric"]
        ratio = r["bytes_before"] / r["file_bytes"]
        epochs = sum(stage["fit"]["epochs"] for stage in r["settings"]["stages"])
        lines.append(
            f"| {name} | {epochs} | {before:.2f} | {after:.2f} | {quality_cells(metrics)} | {nonzeros} "
            f"| {r['file_bytes']} | {ratio:.0f}x |"
        )
    return "\n".join(lines) + "\n"


def quality_cells(metrics: dict[str, float]) -> str:
    """Negative log-likelihood (nats an example), calibration error and flips, as cells of a row.

    A dash stands for what a run recorded before these were measured does not have.
    """
    names = ("original_test_nll", "test_nll", "original_test_ece", "test_ece")
    formats = (".4f", ".4f", ".2f", ".2f")
    cells = [format(metrics[n], f) if n in metrics else "-" for n, f in zip(names, formats, strict=True)]
    if "test_changed" not in metrics:
        return " | ".join([*cells, "-"])
    counts = [f"{metrics[f'test_{n}']:.0f}" for n in ("changed", "right_to_wrong", "wrong_to_right")]
    return " | ".join([*cells, f"{counts[0]} ({counts[1]}, {counts[2]})"])


if __name__ == "__main__":
    main()
