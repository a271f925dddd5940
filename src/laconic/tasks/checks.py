"""Checks that tasks share: shapes that do not fit, labels out of range, outputs that are NaN.

Each function takes torch tensors and NumPy arrays alike, unless it says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from laconic.errors import DataError, InputError, ScaleError
from laconic.tasks.outputs import PREDICTIONS
from laconic.tasks.task import Sums


def whole_or_none(task: str, name: str, value: Any, least: int | None = None) -> None:
    """Refuse a setting that is neither None nor a whole number of at least ``least`` (InputError)."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = "" if least is None else f" >= {least}"
        raise InputError(
            f"{task}: {name} must be a whole number{bound} or None, got {value!r}. Cure: {name}=None"
        )


def kind_of(values: Any) -> str:
    """Whether values are "float", "int", "bool" or "other"."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return {"f": "float", "i": "int", "u": "int", "b": "bool"}.get(dtype.kind, "other")
    if dtype.is_floating_point:
        return "float"
    if dtype.is_complex:
        return "other"
    return "bool" if str(dtype) == "torch.bool" else "int"


def arrays_only(outputs: Any, target: Any) -> None:
    """Refuse what is no NumPy array (InputError)."""
    for what, values in (("outputs", outputs), ("targets", target)):
        if not isinstance(values, np.ndarray):
            raise InputError(
                f"{what} are a {type(values).__name__}, not a NumPy array. Cure: .detach().cpu().numpy()"
            )


def check_any_term(terms: int) -> None:
    """Refuse a batch without a likelihood term (DataError): a mean over its terms is not defined."""
    if terms < 1:
        raise DataError(
            "a batch has no likelihood term: all of its labels are ignored, or it is empty. "
            "Cure: leave such batches out"
        )


def has_shape(outputs: Any, target: Any) -> None:
    """Refuse outputs or a target that are several tensors, or none (InputError)."""
    for what, values in (("the network's outputs", outputs), ("the target", target)):
        if not hasattr(values, "shape") or not hasattr(values, "dtype"):
            raise InputError(
                f"{what} are a {type(values).__name__}, not one tensor. "
                f"Cure: a network that returns one tensor (or one called {', '.join(PREDICTIONS)} among "
                "others), or a task of your own that reads the one it needs"
            )


def check_pair(task: str, outputs: Any, reference: Any, least: int = 1) -> None:
    """Refuse two predictions that are not one tensor each, of one shape with ``least`` axes (InputError)."""
    has_shape(outputs, reference)
    out, to = tuple(outputs.shape), tuple(reference.shape)
    if out != to:
        raise InputError(
            f"{task}: predictions of shape {out} and {to} cannot be compared. Cure: two networks with the "
            "same outputs"
        )
    if len(out) < least:
        raise InputError(
            f"{task}: predictions have the shape {out}, and {least} axes or more are needed, one of them "
            "for classes. Cure: the task that it is for, as Regression (--task regression) for a quantity"
        )


def check_classes(task: str, outputs: Any, axis: int) -> None:
    """Refuse outputs of one class alone (InputError): its probability is 1 whatever the network returns."""
    if outputs.shape[axis] < 2:
        raise InputError(
            f"{task}: predictions of shape {tuple(outputs.shape)} have one class on axis {axis}, whose "
            "probability is always 1. Cure: the task Regression (--task regression) for a quantity, Binary "
            "(--task binary) for yes or no, or two classes or more"
        )


def misfit(task: str, takes: str, outputs: Any, target: Any, fact: str) -> InputError:
    """The error of outputs and targets that a task does not take, with the task that does."""
    other = task_that_fits(outputs, target)
    cure = _reshaped(task, outputs, target) or (f"the task {other}" if other and other != task else takes)
    return InputError(
        f"{task} takes {takes}, but outputs are {tuple(outputs.shape)} and targets {tuple(target.shape)} "
        f"{_dtype(target)}: {fact}. Cure: {cure}"
    )


def _reshaped(task: str, outputs: Any, target: Any) -> str:
    """How the target is made to fit the outputs where one axis or its type is wrong; empty where not so."""
    out, to, kind = tuple(outputs.shape), tuple(target.shape), kind_of(target)
    if task == "Regression":
        if out == (*to, 1):
            binary = kind in ("int", "bool") and _all(target, (target == 0) | (target == 1))
            return "targets[:, None]" + (", or the task BinaryClassification" if binary else "")
        return "outputs[:, None]" if to == (*out, 1) else ""
    axis = len(out) - 1 if task in ("SequenceLabelling", "LanguageModelling") else 1
    wanted = (*out[:axis], *out[axis + 1 :])
    if task not in _OF_CLASSES or len(out) < 2 or out[axis] < 2:
        return ""
    lone = next((k for k in range(1, len(to)) if to[k] == 1 and (*to[:k], *to[k + 1 :]) == wanted), None)
    if to != wanted and lone is None:
        return ""
    if kind not in ("float", "int") or (kind == "float" and not _all(target, target == target.round())):
        return ""
    whole = ".astype(int)" if isinstance(target, np.ndarray) else ".long()"
    change = ("" if lone is None else f".squeeze({lone})") + (whole if kind == "float" else "")
    return f"labels{change}" if change else ""


_OF_CLASSES = ("Classification", "Segmentation", "SequenceLabelling", "LanguageModelling")


def _all(values: Any, which: Any) -> bool:
    return math.prod(values.shape) > 0 and bool(which.all())


def task_that_fits(outputs: Any, target: Any) -> str:
    """What a user may have meant, for an error's cure only; empty where nothing fits.

    >>> task_that_fits(np.zeros((2, 7, 12)), np.zeros((2, 7), int))
    'SequenceLabelling or LanguageModelling'
    """
    out, to = tuple(outputs.shape), tuple(target.shape)
    kind = kind_of(target)
    whole = kind in ("int", "bool")
    one_output = len(out) == 1 or (len(out) == 2 and out[1] == 1)
    if one_output and to in (out, out[:1]) and whole:
        return "BinaryClassification"
    if kind == "float" and to == out:
        return "Regression, or MultiLabel for labels of 0 and 1" if len(out) == 2 else "Regression"
    if not whole or len(out) < 2:
        return ""
    if len(out) == 2:
        return {out[:1]: "Classification", out: "MultiLabel"}.get(to, "")
    if len(out) == 3 and to == out[:2]:
        return "SequenceLabelling or LanguageModelling"
    return "Segmentation" if to == (out[0], *out[2:]) else ""


def _dtype(values: Any) -> str:
    return str(values.dtype).removeprefix("torch.")


def check_labels(labels: Any, classes: int, ignore: int | None) -> None:
    """Refuse labels outside 0..classes-1 that are not ``ignore`` (DataError names the worst)."""
    if math.prod(labels.shape) == 0:
        return
    low, high = int(labels.min()), int(labels.max())
    if ignore is not None and (low < 0 or high >= classes):
        kept = labels * counted(labels, ignore)  # 0 is a class; three times as fast as taking the others out
        low, high = int(kept.min()), int(kept.max())
    if low < 0 or high >= classes:
        marker = low if low < 0 else high
        raise DataError(
            f"label {marker} is out of range for a network with {classes} outputs (0..{classes - 1}). "
            f"Cure: check the labels, the network's last layer, or the task's ignore={marker} "
            "where this label means that there is none"
        )


def least_classes(labels: Any, ignore: int | None) -> int:
    """The least number of classes, at least 2, that whole numbers can be labels of; 2 for other targets."""
    if kind_of(labels) != "int" or math.prod(labels.shape) == 0:
        return 2
    kept = labels if ignore is None else labels * counted(labels, ignore)
    return max(2, int(kept.max()) + 1)


def check_unit_interval(targets: Any, what: str) -> None:
    """Refuse targets outside [0, 1], NaN among them (DataError)."""
    if math.prod(targets.shape) == 0:
        return
    low, high = float(targets.min()), float(targets.max())
    if not (low >= 0 and high <= 1):
        bad = low if not low >= 0 else high
        raise DataError(f"{what} {bad:g} is outside [0, 1]. Cure: 0 and 1, or probabilities")


def count_labels(labels: Any, ignore: int | None) -> int:
    """Number of labels that are not ``ignore``."""
    return int(math.prod(labels.shape)) if ignore is None else int(counted(labels, ignore).sum())


def counted(labels: Any, ignore: int | None) -> Any:
    """Booleans of the labels' shape: which of them are not ``ignore``."""
    if ignore is None:
        return labels == labels
    # torch compares -1 with unsigned bytes as 255, so that they are made wide first; NumPy does not.
    wide = labels.long() if kind_of(labels) == "int" and not isinstance(labels, np.ndarray) else labels
    return wide != ignore


def refuse_nan(lost: int, of: int, what: str, read: str = "class") -> None:
    """Refuse outputs that are NaN (DataError says how many)."""
    if lost:
        raise DataError(
            f"the network gives NaN for {lost} of {of} {what}, which no {read} can be read from. "
            "Cure: look for NaN in the inputs, or for values that were not scaled as in training"
        )


def predictions(logits: Any, labels: Any, axis: int, ignore: int | None, what: str) -> tuple[Any, Any]:
    """Most likely class and label of each term, as flat NumPy arrays; refuses NaN among their logits.

    Args:
        logits: A NumPy array with the classes on ``axis``.
        labels: Class indices, of the shape that remains without ``axis``.
        axis: Where the classes are.
        ignore: The label that is no term.
        what: What a term is, in the plural, as "pixels".
    """
    kept = counted(labels, ignore)
    rows = np.moveaxis(logits, axis, -1)[kept]
    refuse_nan(int(np.isnan(rows).any(-1).sum()), len(rows), what)
    return rows.argmax(-1), labels[kept].astype(np.int64)


def wrong_and_counted(guess: Any, truth: Any) -> Sums:
    """Number of wrong predictions, and of all."""
    return np.array([(guess != truth).sum(), guess.size], dtype=np.float64)


def check_data_size(data_size: int) -> None:
    """Raises ScaleError unless ``data_size`` is a positive whole number."""
    if isinstance(data_size, bool) or not isinstance(data_size, int) or data_size < 1:
        raise ScaleError(
            "data_size must be the number of likelihood terms in the training data, a positive integer, got "
            f"{data_size!r}. Cure: len(train_set), or the number of its labelled pixels or tokens where each "
            "is a term; not a fraction, and not the number of batches"
        )
