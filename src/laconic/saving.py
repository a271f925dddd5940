"""The public functions of a finished network: quantize_activations and save."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from laconic.errors import InputError, ModelError
from laconic.export.build import write
from laconic.export.ranges import activation_ranges, first_example
from laconic.methods.common.rest import mostly_raw
from laconic.methods.contract import Compressed
from laconic.networks.modules import plain_network
from laconic.pack.codecs.mix_search import unmixed_note
from laconic.prepared import is_prepared
from laconic.progress import steps
from laconic.runtime import LeastOutputError, RangeChoice


def save(
    small: Compressed | nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Any = None,
    calibrate: Iterable[Any] | None = None,
    dynamic: Any = None,
) -> int:
    """Write one self-contained .lac file.

    A network whose graph cannot be captured is packed weights-only, with a warning that says how to load it.
    The file is written to a sibling first, then renamed.

    Args:
        small: What :func:`convert` returned. A plain module is taken, too: it is stored exactly as it is,
            with its graph where there is an ``example``, and a warning says how to make it smaller.
        path: Where the file is written.
        example: One input batch, as for :func:`prepare`, that the graph is captured with (None: the one that
            the network was prepared with).
        calibrate: Batches of training data (see :func:`quantize_activations`): the file then also holds the
            activation ranges, and ``laconic.runtime.load`` runs it in int8 where that is faster. The network
            runs in int8 before it is written; where it cannot, or computes other numbers than integer
            arithmetic does, the file is written for float32 alone, with a warning that says why.
        dynamic: The axes of the inputs that are free when the file runs, in ``torch.export``'s form:
            ``{"x": {0: "batch", 1: "time"}}``, by the names of ``forward``'s parameters, or one entry for
            each input, in order. A name is a text or a ``torch.export.Dim``; axes of one name have one size;
            all other axes have the example's size. None: the batch is free, where the network allows it.

    Returns:
        Length of the file in bytes.

    Raises:
        WriteError: The disk is full, or the folder may not be written to; an old file still stands.
        ModelError: A network that is still prepared, or that has no parameters.
        InputError: A ``dynamic`` that does not fit the example, or not the one that the network was
            calibrated with.

    >>> import tempfile, torch, warnings
    >>> from laconic.runtime import load
    >>> model, x = torch.nn.Linear(4, 2), torch.ones(1, 4)
    >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     size = save(model, f"{folder}/plain.lac", example=x)
    ...     y = load(f"{folder}/plain.lac")(x.numpy())
    >>> size, bool(abs(y - model(x).detach().numpy()).max() < 1e-6)
    (74, True)
    """
    if not isinstance(small, Compressed):
        small = _as_it_is(small, "save", example)
    elif example is not None:
        small = replace(small, example=example)
    if calibrate is not None:
        small = quantize_activations(small, calibrate, dynamic=dynamic)
    elif dynamic is not None and small.ranges and dynamic != small.dynamic:
        raise InputError(
            f"save: dynamic={dynamic!r}, but the network was calibrated with {small.dynamic!r}. "
            "Cure: quantize_activations(..., dynamic=...) with the same"
        )
    free = small.dynamic if dynamic is None else dynamic
    length, notes = write(small.module, small.tensors, path, small.example, small.ranges, free)
    unmixed = unmixed_note(tensor.shape for tensor in small.tensors.values())
    _warn((*notes, *mostly_raw(small.module, small.tensors, length), *unmixed))
    return length


def quantize_activations(
    small: Compressed | nn.Module,
    batches: Iterable[Any],
    *,
    choice: RangeChoice | LeastOutputError = LeastOutputError(),  # noqa: B008 - frozen
    examples: int = 1024,
    dynamic: Any = None,
) -> Compressed:
    """The network with int8 ranges of its activations; ``small`` is left as it was.

    Each tensor that enters or leaves a linear layer or convolution gets one scale and zero point. Weights
    stay as they are: int8 weights are derived from them, row by row, when a file is loaded. What stays in
    float32 (recurrent layers, layers without a range) is told in ``facts["notes"]``.

    Args:
        small: What :func:`convert` returned, or a plain module, whose weights are then stored as raw float32.
        batches: Inputs as in training: a tensor each, or a tuple whose first entries are the network's
            inputs; labels behind them are not read.
        choice: How ranges are chosen. ``LeastOutputError()`` takes of several ways the one that changes the
            network's outputs least. ``MinMax()``, ``Percentile(99.99)`` and ``LeastError(2.0)`` (least
            squares), all of ``laconic.runtime``, run nothing in int8 and are quicker.
        examples: Number of examples that are used, the first of ``batches``.
        dynamic: The free axes of the file (see :func:`save`).

    Returns:
        The network, with its ranges.

    Raises:
        DataError: No batches.
        CaptureError: A network whose graph cannot be captured.
        InputError: Inputs that do not fit, or a network without a linear layer or convolution.

    >>> import torch, laconic
    >>> small = laconic.quantize_activations(torch.nn.Linear(4, 2), [torch.eye(4)])
    >>> [r.value for r in small.ranges], small.ranges[0].bounds
    ([0, 1], (0.0, 1.0000000591389835))
    """
    if not isinstance(small, Compressed):
        small = _as_it_is(small, "quantize_activations", None)
    if small.example is None:
        batches = batches if iter(batches) is not batches else list(batches)  # it is read twice
        small = replace(small, example=first_example(small.module, batches))
    small = replace(small, dynamic=small.dynamic if dynamic is None else dynamic)
    with steps("calibrating"):
        found, notes = activation_ranges(
            small.module, small.tensors, small.example, batches, choice, examples, small.dynamic
        )
    facts = {**small.facts, "notes": [*small.facts.get("notes", ()), *notes]} if notes else small.facts
    return replace(small, ranges=found, facts=facts)


def _as_it_is(model: Any, verb: str, example: Any) -> Compressed:
    """A module that no method has worked on: all of its values are stored as they are."""
    plain, notes = plain_network(model, verb)
    if is_prepared(plain):
        raise ModelError(f"{verb}: this network is still prepared. Cure: laconic.convert(net)")
    _warn(notes, above=2)
    return Compressed(plain, {}, {}, example)


def _warn(notes: Iterable[str], above: int = 1) -> None:
    """Warn at the user's line, which stands ``above`` functions over the one that calls this."""
    for note in notes:
        warnings.warn(note, stacklevel=2 + above)
