"""Error and negative log-likelihood of a classifier on a set of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.bayes.prepare import means_only
from laconic.errors import DataError, InputError
from laconic.methods.contract import Score
from laconic.train.layout import run

Batches = Iterable[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


def evaluate(module: nn.Module, batches: Batches, loss: Loss = F.cross_entropy) -> Score:
    """Share of wrong classes and mean loss (nats per example) in evaluation mode, noise off.

    Outputs are (N, C, ...), labels (N, ...) as class indices or, under a loss that takes them, (N, C, ...)
    as one number per class. ``loss`` averages over a batch. Each layer's training flag is put back. Raises
    DataError if ``batches`` is empty or, under cross-entropy, a label is out of range, and InputError if
    the labels' shape does not fit the outputs'.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    wrong, judged, total, seen = 0, 0, 0.0, 0
    with means_only(module), torch.inference_mode():
        for x, y in batches:
            x, y = x.to(device), y.to(device)
            out = _outputs(module, x)
            if loss is F.cross_entropy:
                check_labels(y, out.shape[1])
            misses = _misses(out, y)
            wrong += int(misses.sum())
            judged += misses.numel()
            total += float(loss(out, y)) * len(y)
            seen += len(y)
    if seen == 0:
        raise DataError("evaluate: the loader gave no batch. Cure: check its data set and drop_last")
    return Score(error=wrong / judged, nll=total / seen, examples=seen)


def _outputs(module: nn.Module, x: Tensor) -> Tensor:
    try:
        return run(module, x)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise DataError(
            f"evaluate: the network does not take a batch of shape {tuple(x.shape)}, {x.dtype}: "
            f"{' '.join(str(error).split())}. Cure: batches like those that it is trained on"
        ) from error


def _misses(out: Tensor, labels: Tensor) -> Tensor:
    """Where the most likely class is not the labelled one: booleans, one for each label."""
    truth = labels.argmax(1) if labels.shape == out.shape else labels
    guess = out.argmax(1)
    if guess.shape != truth.shape:
        raise InputError(
            f"labels of shape {tuple(labels.shape)} do not fit outputs of shape {tuple(out.shape)}. "
            f"Cure: class indices of shape {tuple(guess.shape)}, or one number per class"
        )
    return guess != truth


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels that a network with ``classes`` outputs cannot have (DataError names the worst)."""
    if labels.numel() == 0:
        raise DataError("the loader gave an empty batch. Cure: check its data set and batch size")
    if labels.is_floating_point():
        raise InputError(f"labels must be integers (class indices), got {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        bad = low if low < 0 else high
        raise DataError(
            f"label {bad} is out of range for a network with {classes} outputs (0..{classes - 1}). "
            "Cure: check the labels, or the network's last layer"
        )
