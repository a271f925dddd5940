"""What every room needs of a user's network: a copy of it, a copy with plain weights, one way to run it.

Torch refuses to deep-copy a tensor with a history, and several of its utilities leave one on a module
(``weight_norm`` and ``spectral_norm`` by hooks, the masks of ``torch.nn.utils.prune``). :func:`duplicate`
copies such networks, :func:`folded` also takes the utility off, so that the weight is a plain parameter
again.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._pytree import tree_leaves

from laconic.errors import InputError, ModelError
from laconic.wrappers import unwrapped

# What copying raises on things that cannot be copied.
_FAILURES = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError),
    *(ArithmeticError, OSError),
)


def duplicate(module: nn.Module, *, share_parameters: bool = False) -> nn.Module:
    """A deep copy; raises ModelError if the network holds something that cannot be copied.

    What a forward pass left on a module (activations kept for a look, a spectral norm's weight) has a
    history, which torch refuses to copy: its values are copied without it.

    Args:
        module: Any network.
        share_parameters: Whether the copy's parameters are the module's own: for copies that only look.

    >>> net = nn.Linear(2, 3)
    >>> net.seen = net(torch.ones(1, 2))
    >>> duplicate(net).seen.requires_grad, duplicate(net, share_parameters=True).weight is net.weight
    (False, True)
    """
    memo: dict[int, Any] = {
        id(t): t.detach().clone()
        for part in module.modules()
        for t in tree_leaves(vars(part))
        if isinstance(t, Tensor) and not t.is_leaf
    }
    if share_parameters:
        memo |= {id(p): p for p in module.parameters()}
    try:
        return copy.deepcopy(module, memo)
    except _FAILURES as error:
        raise ModelError(
            f"{type(module).__name__} cannot be deep-copied: {error}. Cure: keep no tensors with a history "
            "as attributes (detach them), and no open files or locks"
        ) from error


def folded(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    r"""A copy whose weights are plain parameters, and the names of those that were computed from others.

    Weight norm, :math:`W = g\, V / \lVert V \rVert`, spectral norm, :math:`W = V / \sigma(V)`, any other
    parametrisation and the masks of pruning: the copy holds W as it is in evaluation mode.

    >>> net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), nn.ReLU())
    >>> plain, names = folded(net)
    >>> names, sorted(plain.state_dict()), torch.allclose(plain(torch.ones(1, 2)), net(torch.ones(1, 2)))
    (('0.weight',), ['0.bias', '0.weight'], True)
    """
    copied = duplicate(unwrapped(module))
    return copied, fold_in_place(copied)


def fold_in_place(module: nn.Module) -> tuple[str, ...]:
    """Make the computed weights of ``module`` itself plain (see :func:`folded`); their names."""
    modes = {part: part.training for part in module.modules()}
    module.eval()  # a spectral norm iterates in training mode
    names = []
    for place, part in list(module.named_modules()):
        for name, fold in _computed(part):
            with torch.enable_grad():  # else some parametrisations leave a buffer instead of a parameter
                fold(part, name)
            if isinstance(part, nn.RNNBase):
                part._init_flat_weights()
            names.append(f"{place}.{name}" if place else name)
    for part, mode in modes.items():
        part.training = mode
    return tuple(names)


def computed_weights(module: nn.Module) -> tuple[str, ...]:
    """The names of weights that the network computes from other parameters; ``folded`` makes them plain.

    >>> computed_weights(nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 3)), nn.Linear(3, 1)))
    ('0.weight',)
    """
    return tuple(
        f"{place}.{name}" if place else name
        for place, part in module.named_modules()
        for name, _ in _computed(part)
    )


def _computed(module: nn.Module) -> list[tuple[str, Callable[[Any, str], Any]]]:
    """Names of a module's own weights that are computed, each with what makes it plain."""
    found: dict[str, Callable[[Any, str], Any]] = {}
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            found[hook.name] = remove_weight_norm
        elif isinstance(hook, SpectralNorm):
            found[hook.name] = remove_spectral_norm
        elif isinstance(hook, prune.BasePruningMethod):
            found[hook._tensor_name] = prune.remove
    if parametrize.is_parametrized(module):
        parametrizations: Any = module.parametrizations
        found |= dict.fromkeys(parametrizations, _remove_parametrization)
    return list(found.items())


def _remove_parametrization(module: Any, name: str) -> None:
    """Torch takes the weight's property off the class, which a copied module shares with the original."""
    frozen = [p for p in module.parametrizations[name].parameters() if not p.requires_grad]
    kind = type(module)
    module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
    parametrize.remove_parametrizations(module, name)
    if frozen and name in module._buffers:  # torch takes what needs no gradient for a buffer
        value = module._buffers.pop(name)
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def positional(module: nn.Module, example: Any) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network and tensors that it takes by position: the example's, in the order of ``forward``.

    A dictionary may skip some of ``forward``'s parameters, and may hold flags and numbers beside tensors: the
    network that comes back is then a view of ``module`` that shares everything with it and knows the rest.

    Args:
        module: Any network.
        example: A tensor, a tuple or list of tensors, or a dictionary with the names of ``forward``.

    Raises InputError for inputs that are no tensors, and for names that ``forward`` does not have.

    >>> net = nn.Bilinear(2, 3, 1)
    >>> view, inputs = positional(net, {"input2": torch.ones(1, 3), "input1": torch.ones(1, 2)})
    >>> view is net, [tuple(x.shape) for x in inputs]
    (True, [(1, 2), (1, 3)])
    """
    if not isinstance(example, Mapping):
        inputs = tuple(example) if isinstance(example, (tuple, list)) else (example,)
        for k, x in enumerate(inputs):
            if not isinstance(x, Tensor):
                raise InputError(
                    f"example input {k} must be a tensor, got {type(x).__name__}. Cure: torch.as_tensor"
                )
        return module, inputs
    parameters = inspect.signature(module.forward).parameters
    order = [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    others = [str(name) for name in example if name not in order]
    if others and len(order) == len(parameters):
        raise InputError(
            f"{type(module).__name__}'s forward has no parameter {others[0]!r}. "
            f"Cure: one of {', '.join(order)}"
        )
    names = [name for name in (*order, *others) if isinstance(example.get(name), Tensor)]
    given = tuple(example[name] for name in names)
    by_position = [name for name in order if parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if names == by_position[: len(names)] and len(names) == len(example):
        return module, given
    fixed = {name: value for name, value in example.items() if name not in names}
    return _view(module, tuple(names), fixed), given


def refilled(module: nn.Module, example: Any, tensors: tuple[Tensor, ...]) -> Any:
    """The example with other tensors in place of its own, which :func:`positional` put in this order.

    >>> refilled(nn.Bilinear(2, 3, 1), {"input2": torch.ones(1, 3)}, (torch.zeros(1, 3),))
    {'input2': tensor([[0., 0., 0.]])}
    """
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

    view = copy.copy(module)
    view.__class__ = type(plain.__name__, (plain,), {"forward": forward})
    return view


@contextmanager
def inference() -> Iterator[None]:
    """How a network is run to be watched, traced and compared: each layer by itself, without gradients.

    The fused path of torch's attention and Transformer layers passes their parts by (and turns padded batches
    into nested tensors), so it is off.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
