"""Error and nll of a decoded file on a test set, without torch: what every figure of ours is made of."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from laconic.cli.trust import limits_of
from laconic.errors import DataError, InputError, LaconicError
from laconic.records import AnyArray


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """A file that cannot be opened is an InputError that names it, whatever reads it."""
    try:
        yield
    except LaconicError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. Cure: check the path") from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The file's bytes, or an InputError that names it."""
    with reading(path):
        return Path(path).read_bytes()


def test_arrays(data: str) -> tuple[AnyArray, AnyArray]:
    """Inputs and labels of a built-in test set, or what a user's ``package.module:function`` returns."""
    from laconic.cli.own import call_own
    from laconic.data import load
    from laconic.data.images import as_input

    if ":" not in data:
        images = load(data)
        return as_input(images.test_images, images.scale), images.test_labels
    found = call_own(data, "--data")
    if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(a, np.ndarray) for a in found)):
        raise InputError(f"--data {data} should return two NumPy arrays: inputs (batch first) and labels")
    inputs, labels = found
    check_labels(inputs, labels)
    return inputs, labels


def check_labels(inputs: AnyArray, labels: AnyArray) -> None:
    """Refuse labels that are not one class index for each input (DataError)."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"labels must be whole numbers (N,), got {labels.dtype} {labels.shape}. "
            "Cure: class indices, such as labels.argmax(1) of one-hot rows or labels.astype('int64')"
        )
    if inputs.ndim == 0 or len(inputs) != len(labels):
        raise DataError(
            f"inputs {inputs.shape} and labels {labels.shape} differ in number. Cure: one label an input"
        )


def check_scores(logits: AnyArray, labels: AnyArray) -> None:
    """Refuse outputs that are no logits, and labels that are not among their classes (DataError)."""
    if logits.ndim != 2 or len(logits) != len(labels):
        raise DataError(
            f"the network gives {logits.shape} for {len(labels)} inputs, not (batch, classes). "
            "Cure: only classifiers can be scored; laconic run shows what other networks say"
        )
    lost = int(np.isnan(logits).any(1).sum())
    if lost:
        raise DataError(
            f"the network gives NaN for {lost} of {len(logits)} inputs, which no class can be read from. "
            "Cure: look for NaN in the inputs, or for values that were not scaled as in training"
        )
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if low < 0 or high >= logits.shape[1]:
        raise DataError(
            f"label {low if low < 0 else high} is out of range for a network with {logits.shape[1]} outputs "
            f"(0..{logits.shape[1] - 1}). Cure: check the labels, or that the data are this network's"
        )


def score_batches(
    path: str | os.PathLike[str],
    batches: Iterable[tuple[AnyArray, AnyArray]],
    arithmetic: str | None = None,
    trusted: bool = False,
) -> dict[str, float | int | bool | str]:
    """Error and nll of a decoded file on batches, with its size; ``arithmetic`` as in :mod:`cli.arithmetic`.

    A ``trusted`` file may take any memory.

    Raises DataError: no batch, labels that are no class indices, outputs that are no logits.
    """
    from laconic.cli.arithmetic import network_in, says
    from laconic.pack import layout

    with reading(path):
        net = network_in(path, arithmetic, trusted)
    if net.outputs != 1:
        raise DataError(f"{path} has {net.outputs} outputs. Cure: only classifiers, with one, can be scored")
    wrong, nll, examples = 0, 0.0, 0
    for x, labels in batches:
        check_labels(x, labels)
        logits = net.run((x,))[0].astype(np.float64)
        check_scores(logits, labels)
        wrong += int((logits.argmax(1) != labels).sum())
        shifted = logits - logits.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        nll -= float(log_p[np.arange(len(labels)), labels.astype(np.int64)].sum())
        examples += len(labels)
    if examples == 0:
        raise DataError("the test set is empty: there is nothing to score. Cure: check what returns it")
    size = os.path.getsize(path)
    fp32 = 4 * sum(r.weights for r in layout(read_bytes(path), limits=limits_of(trusted)))
    return {
        "bytes": size,
        "fp32_bytes": fp32,
        "ratio": fp32 / size,
        "wrong": wrong,
        "examples": examples,
        "error_percent": 100 * wrong / examples,
        "nll": nll / examples,
        "torch_imported": "torch" in sys.modules,
        **({} if arithmetic is None else {"arithmetic": says(net, arithmetic)}),
    }
