"""A module and its tensors -> the records of one file, with a graph where one can be captured."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

import torch
from torch import nn

from laconic import pack
from laconic.errors import CaptureError, ModelError
from laconic.export.graph_capture import captured_call
from laconic.export.signature import Dynamic, Example, OneCall, one_call, spread
from laconic.export.stored_tensors import file_records
from laconic.export.verify import disagreement, padded_otherwise
from laconic.networks import flattened
from laconic.networks.modules import plain_network, shared_names
from laconic.progress import steps
from laconic.records import ActivationRange, PackedModel, Tensor
from laconic.runtime.reading import loading_note

_WEIGHTS_ONLY = "the file holds weights only; load them with laconic.restore(path, into=module)"


def build_packed(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    example: Example | None,
    dynamic: Dynamic | None = None,
) -> tuple[PackedModel, tuple[str, ...]]:
    """The content of a file, and notes for the user.

    When the graph cannot be captured or does not compute what the module computes, the result holds weights
    only and a note says so. Integer buffers that the graph does not read (batch normalisation's counter) stay
    out of files with a graph, and so does extra state that is no tensor. Wrappers are removed and computed
    weights folded first (see ``laconic.networks.modules.plain_network``).

    Args:
        module: The network; it is left as it was.
        tensors: State-dict names with integers on grids or raw arrays. Values must be those of the module,
            bit for bit, so that the file computes what was measured; other tensors are taken as they are.
        example: One call's inputs; None for a file of weights alone.
        dynamic: The free axes, as for :func:`laconic.export.capture`.

    Returns:
        The model to be packed, and the notes.

    Raises:
        ModelError: No parameters, NaN weights, or weights that are no plain numbers.
        InputError: Unknown names, wrong shapes or values, or an example that the module refuses.

    >>> import torch
    >>> model, notes = build_packed(nn.Linear(3, 2), {}, torch.zeros(1, 3))
    >>> [tensor.name for tensor in model.tensors], notes
    (['weight', 'bias'], ())
    """
    model, notes, _ = _built(module, tensors, example, dynamic)
    return model, notes


def _built(
    module: nn.Module, tensors: Mapping[str, Tensor], example: Example | None, dynamic: Dynamic | None
) -> tuple[PackedModel, tuple[str, ...], OneCall | None]:
    """:func:`build_packed`, with the example's call."""
    module, folded = plain_network(module, "save")
    names = shared_names(module)
    before = (*folded, *_check_module(module))
    dynamic = None if dynamic is None else spread(module, example, dynamic)
    module, example = flattened(module, example)
    given = {names.get(name, name): tensor for name, tensor in tensors.items()}
    call = None if example is None else one_call(module, example)
    captured = None
    notes: tuple[str, ...] = (f"no example input was given: {_WEIGHTS_ONLY}",)
    if call is not None:
        try:
            with steps("capturing the graph"):
                captured = captured_call(call, names, dynamic)
            notes = captured.notes
        except CaptureError as error:
            notes = (f"{error}. So {_WEIGHTS_ONLY}",)
    model = file_records(module, names, given, captured)
    if captured is not None and call is not None:
        with steps("comparing the file with the module"):
            problem = disagreement(call, model)
            padded = None if problem else padded_otherwise(call)
        if problem is not None:
            notes = (f"{problem}. So {_WEIGHTS_ONLY}",)
            model = file_records(module, names, given, None)
        elif padded is not None:
            notes = (*notes, padded)
    return model, (*before, *notes), call


def save(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    example: Example | None,
    ranges: tuple[ActivationRange, ...] = (),
    dynamic: Dynamic | None = None,
) -> int:
    """Write one .lac file (see :func:`build_packed`).

    Notes (a file of weights alone, a fixed batch size, int8 left out) are issued as warnings.

    Args:
        module: The network.
        tensors: State-dict names with the stored tensors, as for :func:`build_packed`.
        path: The file; an existing one is replaced.
        example: One call's inputs; None for a file of weights alone.
        ranges: Activation ranges of the same module, for int8; they are left out where the network does not
            run in int8 on this machine.
        dynamic: The free axes, as for :func:`laconic.export.capture`.

    Returns:
        The length of the file in bytes.

    Raises:
        ModelError: As :func:`build_packed`.
        InputError: As :func:`build_packed`.
        WriteError: The file cannot be written; an existing one is unchanged.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(nn.Linear(3, 2), {}, f"{folder}/net.lac", torch.zeros(1, 3)) > 32
    True
    """
    length, notes = write(module, tensors, path, example, ranges, dynamic)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return length


def write(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    example: Example | None,
    ranges: tuple[ActivationRange, ...] = (),
    dynamic: Dynamic | None = None,
) -> tuple[int, tuple[str, ...]]:
    """:func:`save`, with the notes returned: who called is known to the caller alone.

    Args:
        module: As for :func:`save`.
        tensors: As for :func:`save`.
        path: As for :func:`save`.
        example: As for :func:`save`.
        ranges: As for :func:`save`.
        dynamic: As for :func:`save`.

    Returns:
        The length of the file in bytes, and the notes for the user.

    Raises:
        ModelError, InputError, WriteError: As :func:`save`.
    """
    with steps("saving"):
        model, notes, call = _built(module, tensors, example, dynamic)
        if ranges and call is not None:
            from laconic.export.int8_check import checked_ranges, stays_float

            model, note = checked_ranges(model, ranges, call.tensors)
            notes = (*notes, note) if note else (*notes, *stays_float(model))
        with steps("encoding"):
            length = pack.write(path, model)
    large = loading_note(path)
    return length, notes if large is None else (*notes, large)


def _check_module(module: nn.Module) -> tuple[str, ...]:
    """Refuse what no file can hold; notes on what it leaves out."""
    if not any(p.numel() for p in module.parameters()):
        raise ModelError(
            f"{type(module).__name__} has no parameters, so there is nothing to compress. Cure: a network "
            "that holds its weights as nn.Parameter"
        )
    left_out = []
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            left_out.append(f"{name!r} ({type(tensor).__name__})")
        elif not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        elif bool(torch.isnan(tensor).any()):
            count = int(torch.isnan(tensor).sum())
            raise ModelError(
                f"tensor {name!r} of shape {tuple(tensor.shape)} holds {count} NaN. "
                "Cure: train again with a smaller learning rate or gradient clipping"
            )
    if not left_out:
        return ()
    return (f"the state dict holds {', '.join(left_out)}, which is no tensor: the file leaves it out",)
