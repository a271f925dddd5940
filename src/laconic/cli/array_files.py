"""``--calibrate FILE``: calibration inputs from a file of arrays, so that no Python has to be written."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laconic.cli.array_checks import check_examples, check_type
from laconic.cli.readers import in_place, read_archive, read_array
from laconic.cli.scoring import reading
from laconic.cli.sources import array_file
from laconic.errors import InputError, LaconicError
from laconic.own import did_you_mean

TOGETHER = 64
"""Examples in a batch."""


def batches_of(name: str) -> list[Any]:
    """Batches of inputs from a file of arrays, whose first axes are the examples.

    Args:
        name: ``.npy`` (one array), or ``.npz`` or ``.safetensors`` (arrays by the names of ``forward``'s
            parameters; ``arr_0``, ``arr_1``, ... of ``numpy.savez`` are inputs by position).

    Returns:
        Tensors, tuples of tensors, or dictionaries of tensors. Floating-point numbers become float32,
        integers int64; booleans stay.

    Raises:
        InputError: No such file, no arrays of numbers, or the package safetensors is not installed.
        DataError: No array, an array without examples, or arrays with different numbers of examples.
    """
    if name.endswith(".npy"):
        arrays: Mapping[str, Tensor] = {"": _tensor(name, "the array", read_array(name))}
    else:
        found = read_archive(name, "--calibrate ") if name.endswith(".npz") else _safetensors(name)
        arrays = {key: _tensor(name, f"array {key!r}", value) for key, value in found.items()}
    count = check_examples(name, {key: tuple(x.shape) for key, x in arrays.items()})
    pieces = [{key: x[i : i + TOGETHER] for key, x in arrays.items()} for i in range(0, count, TOGETHER)]
    if set(arrays) == {""}:
        return [piece[""] for piece in pieces]
    placed = [in_place(piece) for piece in pieces]
    return [tuple(piece) for piece in placed if piece is not None] or pieces


def check_arguments(text: str | None, batches: Any, model: nn.Module, *, pretrained: bool = False) -> None:
    """Refuse a file of arrays with a name that the network's ``forward`` does not have, or too many arrays.

    Args:
        text: What ``--calibrate`` was given; anything but a file is not looked at.
        batches: What :func:`batches_of` returned.
        model: The network.
        pretrained: Whether it is one of another library, whose ``**kwargs`` are options and no inputs: a name
            that only these take would be passed over.

    Raises:
        InputError: Names the array and the parameters that there are.
    """
    if text is None or not array_file(text):
        return
    parameters = inspect.signature(model.forward).parameters.values()
    names = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    first, kind = batches[0], type(model).__name__
    if isinstance(first, Mapping) and (pretrained or not any(p.kind is p.VAR_KEYWORD for p in parameters)):
        for key in first:
            if key not in names:
                raise InputError(
                    f"--calibrate {text}: {kind}'s forward has no parameter {key!r}. "
                    f"Cure: {did_you_mean(key, names)}"
                )
    given = len(first) if isinstance(first, tuple) else 1
    if given > len(names) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise InputError(
            f"--calibrate {text}: {given} arrays, and {kind}'s forward takes {len(names)} "
            f"({', '.join(names)}). Cure: the inputs alone, without labels"
        )


def _safetensors(name: str) -> dict[str, Any]:
    try:
        load_file: Any = import_module("safetensors.torch").load_file
    except ModuleNotFoundError as error:
        raise InputError(
            f"--calibrate {name} needs the package safetensors. Cure: pip install safetensors, or a .npz file"
        ) from error
    try:
        with reading(name), open(name, "rb"):
            return dict(load_file(name))
    except LaconicError:
        raise
    except Exception as error:  # the package's own kinds
        raise InputError(
            f"--calibrate {name} is no whole safetensors file ({' '.join(str(error).split())}). "
            "Cure: safetensors.numpy.save_file({'input_ids': array}, name)"
        ) from error


def _tensor(name: str, what: str, values: Any) -> Tensor:
    """Floats as float32, integers as int64, booleans as they are."""
    if isinstance(values, np.ndarray):
        check_type(name, what, values.dtype)
        kinds = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}
        values = torch.from_numpy(np.asarray(values, kinds[values.dtype.kind], order="C"))
    tensor: Tensor = values
    if tensor.is_complex():
        raise InputError(
            f"--calibrate {name}: {what} is complex. Cure: real and imaginary parts by themselves"
        )
    if tensor.is_floating_point():
        return tensor.float()
    return tensor if tensor.dtype == torch.bool else tensor.long()
