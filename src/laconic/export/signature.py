"""Inputs of a network: names, order, and which axes are free."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.export import Dim

from laconic.errors import InputError
from laconic.networks import check_names, is_nested, no_tensor, place_name, positional

Dynamic = Mapping[Any, Any] | Sequence[Any]
"""Free axes in ``torch.export``'s form: ``{"x": {0: "batch", 1: "time"}}``, or one entry for each input."""


Example = torch.Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]


class OneCall(NamedTuple):
    """A module by position, and one call of it: the inputs' names in ``forward``, their values on the CPU."""

    module: nn.Module
    names: tuple[str, ...]
    tensors: tuple[torch.Tensor, ...]


def one_call(module: nn.Module, example: Any) -> OneCall:
    """An example as one call, its named tensors by position, in the order of ``forward``.

    Raises ``InputError`` for anything that is not a tensor, or a name that ``forward`` does not have.

    >>> one_call(nn.Bilinear(2, 3, 1), {"input2": torch.ones(1, 3), "input1": torch.ones(1, 2)}).names
    ('input1', 'input2')
    """
    names = input_names(module, example)
    view, given = by_position(module, example)
    return OneCall(view, names, as_arguments(given))


def as_arguments(example: Example) -> tuple[torch.Tensor, ...]:
    """The example as a tuple of CPU tensors.

    Raises ``InputError`` for anything that is not a tensor.
    """
    items: tuple[Any, ...] = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    for k, item in enumerate(items):
        if not isinstance(item, torch.Tensor):
            raise no_tensor(f"example input {k}", item)
    return tuple(item.detach().cpu().clone() for item in items)  # a network may write into its input


def by_position(module: nn.Module, example: Any) -> tuple[nn.Module, Any]:
    """A view of ``module`` that takes an example's named tensors by position, in the order of ``forward``.

    See :func:`laconic.networks.positional`; an example that has no names comes back as it is.
    """
    if not isinstance(example, Mapping):
        return module, example
    check_names(module, example)
    return positional(module, example)


def input_names(module: nn.Module, example: Any) -> tuple[str, ...]:
    """The names in ``forward`` of an example's tensors, in order.

    >>> input_names(torch.nn.Bilinear(2, 2, 2), (torch.zeros(1, 2), torch.zeros(1, 2)))
    ('input1', 'input2')
    """
    parameters = list(inspect.signature(module.forward).parameters.values())
    if isinstance(example, Mapping):
        order = [p.name for p in parameters]
        names = sorted(example, key=lambda name: order.index(name) if name in order else len(order))
        return tuple(name for name in names if isinstance(example[name], torch.Tensor))
    count = len(example) if isinstance(example, (tuple, list)) else 1
    found = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "input")
    return (*found, *(f"{rest}_{k}" for k in range(len(found), count)))


# --- which axes are free -----------------------------------------------------------------------


class FreeAxes(NamedTuple):
    """The user's free axes: their names by (input, axis), and the same for ``torch.export``.

    ``sizes``: of each named axis in the example; ``places``: where it is, and that size, in words. ``grown``:
    the example with more entries along free axes of one, since 0 and 1 are constants to torch.export.
    """

    names: Mapping[tuple[int, int], str]
    dims: tuple[Mapping[int, Any], ...]
    sizes: Mapping[str, int]
    places: Mapping[str, str]
    grown: tuple[torch.Tensor, ...]


def spread(module: nn.Module, example: Any, dynamic: Dynamic) -> Dynamic:
    """The free axes of a nested example by the names of its tensors; of any other one as they are.

    In ``torch.export``'s form the axes of a nested input are nested as the input is.

    Raises ``InputError`` where they are nested otherwise.

    >>> states = (torch.zeros(4, 2), (torch.zeros(1, 3), torch.zeros(1, 3)))
    >>> spread(nn.LSTM(2, 3), states, {"input": {0: "time"}, "hx": ({0: "n"}, None)})
    {'input': {0: 'time'}, 'hx_0': {0: 'n'}}
    """
    if not is_nested(example):
        return dynamic
    parameters = list(inspect.signature(module.forward).parameters)
    if isinstance(dynamic, Mapping):
        entries = dict(dynamic)
    elif isinstance(dynamic, Sequence) and not isinstance(dynamic, str) and len(dynamic) == len(example):
        entries = {place_name((k,), parameters): spec for k, spec in enumerate(dynamic)}
    else:
        return dynamic
    parts = example.items() if isinstance(example, Mapping) else enumerate(example)
    inputs = {place_name((key,), parameters): part for key, part in parts}
    found: dict[Any, Any] = {}
    for name, spec in entries.items():
        part = inputs.get(name)
        found |= dict(_leaf_axes(spec, part, (name,))) if isinstance(part, _NESTED) else {name: spec}
    return found


_NESTED = (tuple, list, Mapping)


def _leaf_axes(spec: Any, part: Any, path: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """The axes that ``spec`` gives for each tensor in a part of an example."""
    if spec is None:
        return
    if isinstance(part, torch.Tensor):
        yield place_name(path, ()), spec
        return
    keys = (
        list(part)
        if isinstance(part, Mapping)
        else list(range(len(part)))
        if isinstance(part, _NESTED)
        else []
    )
    if isinstance(part, Mapping) and isinstance(spec, Mapping) and set(spec) <= set(keys):
        inner = dict(spec)
    elif isinstance(part, (tuple, list)) and isinstance(spec, (tuple, list)) and len(spec) == len(part):
        inner = dict(enumerate(spec))
    else:
        place = place_name(path, ())
        names = ", ".join(repr(place_name((*path, key), ())) for key in keys) or "tensors alone"
        raise InputError(
            f"dynamic says {spec!r} of {place!r}, which is a {type(part).__name__}. "
            f"Cure: axes nested as the input is, or by the names of its tensors: {names}"
        )
    for key, value in inner.items():
        yield from _leaf_axes(value, part[key], (*path, key))


def free_axes(dynamic: Dynamic, names: Sequence[str], tensors: Sequence[torch.Tensor]) -> FreeAxes:
    """The axes that ``dynamic`` says are free, checked against the example.

    ``dynamic`` has an entry for each input, by the names of ``forward``'s parameters or in their order: None,
    a mapping from axis to name, or one name (or None) for each axis. A name is a text, a
    ``torch.export.Dim``, or ``Dim.AUTO`` and ``Dim.DYNAMIC`` (named after input and axis); ``Dim.STATIC`` and
    None are fixed.

    Raises ``InputError`` for inputs or axes that do not exist, and for invalid names.
    """
    named: dict[tuple[int, int], str] = {}
    dims: list[dict[int, Any]] = [{} for _ in tensors]
    made: dict[str, Any] = {}
    for k, spec in _by_input(dynamic, names).items():
        for axis, dim in _by_axis(spec, names[k], tensors[k]).items():
            if dim is None or dim is Dim.STATIC or isinstance(dim, int):
                continue
            name = _name_of(dim, names[k], axis)
            known = not isinstance(dim, str)
            dims[k][axis] = made.setdefault(name, dim if known else Dim(name))
            named[k, axis] = name
    _check_equal(named, names, tensors)
    sizes = {name: tensors[k].shape[axis] for (k, axis), name in named.items()}
    grown = _grown(named, sizes, tensors)
    return FreeAxes(named, tuple(dims), sizes, _places(named, names, sizes), grown)


def _grown(
    named: Mapping[tuple[int, int], str], sizes: Mapping[str, int], tensors: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """The example with more entries along free axes of one; each name gets its own number."""
    wide = {name: size if size > 1 else 2 + k for k, (name, size) in enumerate(sizes.items())}
    axes = [{a: wide[n] for (k, a), n in named.items() if k == i} for i in range(len(tensors))]
    return tuple(of_size(x, at) for x, at in zip(tensors, axes, strict=True))


def _places(
    named: Mapping[tuple[int, int], str], inputs: Sequence[str], sizes: Mapping[str, int]
) -> dict[str, str]:
    """Where each named axis is, and its size in the example, in words."""
    found: dict[str, list[str]] = {}
    for (k, axis), name in named.items():
        found.setdefault(name, []).append(f"axis {axis} of {inputs[k]!r}")
    return {name: f"{' and '.join(at)}, {sizes[name]} in the example" for name, at in found.items()}


def _by_input(dynamic: Dynamic, names: Sequence[str]) -> dict[int, Any]:
    if isinstance(dynamic, Mapping):
        for key in dynamic:
            if key not in names and not (isinstance(key, int) and 0 <= key < len(names)):
                raise InputError(
                    f"dynamic names {key!r}; the example's inputs are {', '.join(names)}. Cure: "
                    f"dynamic={{{names[0]!r}: {{0: 'batch'}}}}"
                )
        return {key if isinstance(key, int) else list(names).index(key): v for key, v in dynamic.items()}
    if isinstance(dynamic, str) or not isinstance(dynamic, Sequence) or len(dynamic) != len(names):
        raise InputError(
            f"dynamic must have one entry for each of {', '.join(names)}, got {dynamic!r}. "
            f"Cure: dynamic={{{names[0]!r}: {{0: 'batch'}}}}"
        )
    return dict(enumerate(dynamic))


def _by_axis(spec: Any, name: str, tensor: torch.Tensor) -> dict[int, Any]:
    if spec is None:
        return {}
    if isinstance(spec, Mapping):
        found = dict(spec)
    elif isinstance(spec, Sequence) and not isinstance(spec, str) and len(spec) == tensor.ndim:
        found = dict(enumerate(spec))
    else:
        raise InputError(
            f"dynamic says {spec!r} of input {name!r}, which has {tensor.ndim} axes. "
            "Cure: a dictionary from axis to name, such as {0: 'batch', 1: 'time'}"
        )
    for axis in found:
        if isinstance(axis, bool) or not isinstance(axis, int) or not -tensor.ndim <= axis < tensor.ndim:
            raise InputError(
                f"dynamic frees axis {axis!r} of input {name!r}, which has {tensor.ndim} axes. Cure: 0 <= "
                f"axis < {tensor.ndim}"
            )
    return {axis % tensor.ndim: dim for axis, dim in found.items()}


def _name_of(dim: Any, name: str, axis: int) -> str:
    if dim is Dim.AUTO or dim is Dim.DYNAMIC or type(dim).__name__ == "_DimHint":
        return f"{name}_{axis}"
    text = dim if isinstance(dim, str) else getattr(dim, "__name__", None)
    if not isinstance(text, str) or not text.isidentifier():
        raise InputError(
            f"axis {axis} of input {name!r} is called {text if text is not None else dim!r}. "
            "Cure: a name of letters, digits and _, such as 'time'"
        )
    return text


def _check_equal(
    named: Mapping[tuple[int, int], str], names: Sequence[str], tensors: Sequence[torch.Tensor]
) -> None:
    """Axes of one name have one size, in the example, too."""
    first: dict[str, tuple[int, int]] = {}
    for (k, axis), name in named.items():
        i, a = first.setdefault(name, (k, axis))
        if tensors[i].shape[a] != tensors[k].shape[axis]:
            raise InputError(
                f"dynamic calls axis {a} of {names[i]!r} and axis {axis} of {names[k]!r} {name!r}, and the "
                f"example has {tensors[i].shape[a]} and {tensors[k].shape[axis]} entries there"
                ". Cure: an example with equally many there, or two names"
            )


def of_size(x: torch.Tensor, sizes: Mapping[int, int]) -> torch.Tensor:
    """The tensor with these sizes along some axes: its entries repeated or cut."""
    for axis, size in sizes.items():
        x = x.index_select(axis, torch.arange(size) % max(1, x.shape[axis]))
    return x
