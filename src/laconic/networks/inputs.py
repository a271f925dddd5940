"""The inputs of a user's network, by position, by name or nested, and how the network is called on them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten_with_path, tree_leaves, tree_unflatten

from laconic.errors import InputError

_FIXED = (bool, int, float, str, type(None))
_SEQUENCES = (tuple, list, Mapping)


def flattened(module: nn.Module, example: Any) -> tuple[nn.Module, Any]:
    """A nested example as a tuple of tensors, and a view of the network that takes them one by one.

    Nested are a recurrent layer's states, ``(x, (h, c))``, and an example one of whose places holds None, a
    flag, a number or a text. The view shares everything with ``module`` and fills in what is no tensor. Its
    inputs are named after ``forward``'s parameters and the places within them.

    Args:
        module: Any network.
        example: A tensor, a tuple or list, or a dictionary with the names of ``forward``, nested or not.

    Returns:
        The view and its inputs; the module and the example themselves where the example is not nested.

    >>> view, inputs = flattened(nn.LSTM(2, 3), (torch.ones(4, 2), (torch.zeros(1, 3), torch.zeros(1, 3))))
    >>> str(inspect.signature(view.forward)), len(inputs), view(*inputs)[0].shape
    ('(input, hx_0, hx_1)', 3, torch.Size([4, 3]))
    """
    named = isinstance(example, Mapping)
    if named:
        check_names(module, example)
    if not is_nested(example):
        return module, example
    plain, parameters = type(module), list(inspect.signature(module.forward).parameters)
    if named:
        order = sorted(example, key=lambda n: parameters.index(n) if n in parameters else len(parameters))
        example = {name: example[name] for name in order}
    paths, spec = tree_flatten_with_path(((), example) if named else (tuple(example), {}))
    places = [k for k, (_, leaf) in enumerate(paths) if isinstance(leaf, Tensor)]
    names = [place_name(paths[k][0][1:], parameters) for k in places]
    rest = [None if isinstance(leaf, Tensor) else leaf for _, leaf in paths]

    def forward(self: nn.Module, *values: Tensor) -> Any:
        given = dict(zip(places, values, strict=True))
        args, kwargs = tree_unflatten([given.get(k, leaf) for k, leaf in enumerate(rest)], spec)
        return plain.forward(self, *args, **kwargs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    forward.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in ("self", *names)])  # type: ignore[attr-defined]
    return with_forward(module, forward), tuple(paths[k][1] for k in places)


def place_name(path: Sequence[Any], parameters: Sequence[str]) -> str:
    """The name of a tensor of a nested example: its parameter, then its places, joined by underscores.

    Args:
        path: Keys from the outside in, positions or names, as torch's pytrees give them.
        parameters: The names of ``forward``'s parameters, in order.

    Returns:
        An identifier.

    >>> place_name((1, 0), ("input", "hx")), place_name(("batch", "image"), ("batch",))
    ('hx_0', 'batch_image')
    """
    parts = [getattr(key, "idx", getattr(key, "key", key)) for key in path]
    first, *inner = parts
    if isinstance(first, int):
        first = parameters[first] if first < len(parameters) else f"input_{first}"
    name = "_".join(str(part) for part in (first, *inner))
    return "".join(c if c.isalnum() else "_" for c in name)


def check_names(module: nn.Module, example: Mapping[Any, Any]) -> None:
    """Refuse an example with names that ``forward`` does not have.

    Args:
        module: Any network.
        example: Inputs by name.

    Raises:
        InputError: A name that is no parameter of ``forward``, where ``forward`` does not take any name.

    >>> check_names(nn.Linear(2, 3), {"input": torch.ones(1, 2)})
    """
    parameters = inspect.signature(module.forward).parameters
    order = [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    others = [str(name) for name in example if name not in order]
    if others and len(order) == len(parameters):
        raise InputError(
            f"{type(module).__name__}'s forward has no parameter {others[0]!r}. "
            f"Cure: one of {', '.join(order)}"
        )


def no_tensor(what: str, value: object) -> InputError:
    """The error for something that was given in place of a tensor, with a cure.

    Args:
        what: The place, as a message names it.
        value: What was given.

    Returns:
        The error, to be raised by the caller.

    >>> str(no_tensor("example input 0", [1.0]))
    'example input 0 must be a tensor, got list. Cure: torch.as_tensor'
    """
    cure = "torch.as_tensor"
    if not hasattr(value, "__array__") and hasattr(value, "__iter__") and not isinstance(value, _SEQUENCES):
        cure = "the inputs of one batch, as in x, y = next(iter(loader))"
    return InputError(f"{what} must be a tensor, got {type(value).__name__}. Cure: {cure}")


def positional(module: nn.Module, example: Any) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network and tensors that it takes by position: the example's, in the order of ``forward``.

    A dictionary may leave out some of ``forward``'s parameters, and may hold flags and numbers beside
    tensors: the network that comes back is then a view of ``module`` that shares everything with it and fills
    in the rest.

    Args:
        module: Any network.
        example: A tensor, a tuple or list of tensors, or a dictionary with the names of ``forward``.

    Returns:
        The network (or the view) and its inputs.

    Raises:
        InputError: Inputs that are no tensors, none at all, or names that ``forward`` does not have.

    >>> net = nn.Bilinear(2, 3, 1)
    >>> view, inputs = positional(net, {"input2": torch.ones(1, 3), "input1": torch.ones(1, 2)})
    >>> view is net, [tuple(x.shape) for x in inputs]
    (True, [(1, 2), (1, 3)])
    """
    module, example = flattened(module, example)
    if not isinstance(example, Mapping):
        inputs = tuple(example) if isinstance(example, (tuple, list)) else (example,)
        for k, x in enumerate(inputs):
            if not isinstance(x, Tensor):
                raise no_tensor(f"example input {k}", x)
        if not inputs:
            raise InputError("the example holds no tensor. Cure: torch.as_tensor")
        return module, inputs
    if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(example)):
        raise InputError("the example holds no tensor. Cure: torch.as_tensor")
    parameters = inspect.signature(module.forward).parameters
    order = [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    others = [str(name) for name in example if name not in order]
    names = [name for name in (*order, *others) if isinstance(example.get(name), Tensor)]
    given = tuple(example[name] for name in names)
    by_position = [name for name in order if parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if names == by_position[: len(names)] and len(names) == len(example):
        return module, given
    fixed = {name: value for name, value in example.items() if name not in names}
    return _view(module, tuple(names), fixed), given


def to_device(tree: Any, device: torch.device) -> Any:
    """Nested tuples, lists and dictionaries with their tensors on a device; all else stays as it is.

    Args:
        tree: Inputs, targets or a whole batch.
        device: Where the tensors go.

    Returns:
        The same structure; tuples and lists become tuples.

    >>> to_device({"a": (torch.ones(2), "text")}, torch.device("cpu"))["a"][1]
    'text'
    """
    return with_tensors(tree, lambda x: x.to(device))


def with_tensors(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested tuples, lists and dictionaries with each tensor changed.

    Args:
        tree: Inputs, targets or a whole batch.
        change: A function of one tensor.

    Returns:
        The same structure; tuples and lists become tuples.

    >>> with_tensors([torch.ones(1), {"k": 2}], lambda x: x + 1)
    (tensor([2.]), {'k': 2})
    """
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: with_tensors(value, change) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(with_tensors(value, change) for value in tree)
    return tree


def call(module: nn.Module, inputs: Any) -> Any:
    """The network's result on a batch's inputs.

    Args:
        module: Any callable, usually a network.
        inputs: A tensor, a tuple or list of inputs by position, or a dictionary of inputs by name.

    Returns:
        What the network returns.

    >>> call(lambda a, b: a - b, {"b": 1, "a": 3})
    2
    """
    args, kwargs = arguments(inputs)
    return module(*args, **kwargs)


def arguments(example: Any, device: torch.device | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An example as the arguments of a call.

    Args:
        example: A tensor, a tuple or list of inputs by position, or a dictionary of inputs by name.
        device: Where its tensors go; None leaves them.

    Returns:
        Arguments by position, and arguments by name.

    >>> arguments({"flag": True}), arguments(3)
    (((), {'flag': True}), ((3,), {}))
    """
    if isinstance(example, Mapping):
        return (), {key: _moved(value, device) for key, value in example.items()}
    values = example if isinstance(example, tuple | list) else (example,)
    return tuple(_moved(value, device) for value in values), {}


def _moved(value: Any, device: torch.device | None) -> Any:
    return value.to(device) if device is not None and isinstance(value, Tensor) else value


def is_nested(example: Any) -> bool:
    """Whether an example holds more than tensors in a row.

    Args:
        example: A tensor, a tuple or list, or a dictionary. Flags and numbers beside tensors make a tuple
            nested; a dictionary only if one of its values is itself a tuple, list or dictionary.

    Returns:
        Whether :func:`flattened` has something to do.

    >>> x = torch.ones(1)
    >>> is_nested((x, x)), is_nested((x, (x, x))), is_nested((x, None)), is_nested({"x": x, "flag": True})
    (False, True, True, False)
    """
    if isinstance(example, Mapping):
        return any(isinstance(part, _SEQUENCES) for part in example.values())
    if not isinstance(example, tuple | list):
        return False
    known = any(isinstance(part, Tensor) for part in example) and any(
        isinstance(part, _FIXED) for part in example
    )
    return known or any(isinstance(part, _SEQUENCES) for part in example)


def refilled(module: nn.Module, example: Any, tensors: tuple[Tensor, ...]) -> Any:
    """The example with other tensors in place of its own, in the order that :func:`positional` gives them.

    Args:
        module: The network of the example.
        example: The inputs as they were given.
        tensors: Their replacements.

    Returns:
        The example's form with the new tensors; a nested example as it was.

    >>> refilled(nn.Bilinear(2, 3, 1), {"input2": torch.ones(1, 3)}, (torch.zeros(1, 3),))
    {'input2': tensor([[0., 0., 0.]])}
    """
    if not tensors or is_nested(example):
        return example  # nested states are no images, so none was cut
    if not isinstance(example, Mapping):
        return tensors
    order = [*inspect.signature(module.forward).parameters, *example]
    names = dict.fromkeys(name for name in order if isinstance(example.get(name), Tensor))
    return {**example, **dict(zip(names, tensors, strict=True))}


def _view(module: nn.Module, names: tuple[str, ...], fixed: Mapping[str, Any]) -> nn.Module:
    """The same network, its inputs by position; of its own kind, so that its layers keep their names."""
    plain = type(module)

    def forward(self: nn.Module, *values: Tensor) -> Any:
        return plain.forward(self, **dict(zip(names, values, strict=True)), **fixed)

    return with_forward(module, forward)


def with_forward(module: nn.Module, forward: Callable[..., Any]) -> nn.Module:
    """A view of a module with another ``forward``; ``copy.copy`` fails on parametrised modules.

    Args:
        module: Any network; it is left as it was.
        forward: A function of the view and its inputs.

    Returns:
        A module of a subclass with the same name, which shares everything with ``module``.

    >>> net = nn.Linear(1, 1)
    >>> view = with_forward(net, lambda self, x: x + 1)
    >>> view(torch.ones(1)), view.weight is net.weight
    (tensor([2.]), True)
    """
    plain = type(module)
    view: nn.Module = object.__new__(type(plain.__name__, (plain,), {"forward": forward}))
    view.__dict__.update(module.__dict__)
    return view


@contextmanager
def inference() -> Iterator[None]:
    """Within the block, networks run layer by layer without gradients, to be traced and compared.

    Torch's fused path of attention and Transformer layers does not call their parts (and turns padded batches
    into nested tensors), so it is off.

    Returns:
        A context manager.

    >>> with inference():
    ...     nn.Linear(1, 1)(torch.ones(1)).requires_grad
    False
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
