"""Copies of a user's network, and copies whose weights are plain parameters.

Torch refuses to deep-copy a tensor with a history, and several of its utilities store one on a module
(``weight_norm`` and ``spectral_norm`` by hooks, the masks of ``torch.nn.utils.prune``). :func:`duplicate`
copies such networks, :func:`folded` also removes the utility, so that the weight is a plain parameter
again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._pytree import tree_leaves

from laconic.errors import ModelError
from laconic.networks.modes import evaluating
from laconic.networks.wrappers import unwrapped

# What copying raises on things that cannot be copied.
_FAILURES = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError),
    *(ArithmeticError, OSError),
)


_OF_TORCH = frozenset(vars(nn.Module()))  # what every module holds: parameters, children, hooks, flags
_PLAIN = (bool, int, float, str, type(None), Tensor)


def duplicate(module: nn.Module) -> nn.Module:
    """A deep copy.

    Non-leaf tensors that a forward pass left on a module (stored activations, a spectral norm's weight) have
    a history, which torch refuses to copy: their values are copied without it.

    Args:
        module: Any network.

    Returns:
        The copy.

    Raises:
        ModelError: The network holds something that cannot be copied.

    >>> net = nn.Linear(2, 3)
    >>> net.seen = net(torch.ones(1, 2))
    >>> duplicate(net).seen.requires_grad
    False
    """
    memo: dict[int, Any] = {
        id(t): t.detach().clone()
        for part in module.modules()
        for t in tree_leaves(vars(part))
        if isinstance(t, Tensor) and not t.is_leaf
    }
    return _deep(module, memo)


def sharing(module: nn.Module) -> nn.Module:
    """A copy with modules of its own that hold the tensors of ``module``: for short-lived variants.

    Modules may be replaced in it, and tensors be put in the place of others; writing into a tensor writes
    into the network's.

    Args:
        module: Any network.

    Returns:
        The copy.

    >>> net = nn.Sequential(nn.Linear(2, 3))
    >>> copied = sharing(net)
    >>> copied[0] is net[0], copied[0].weight is net[0].weight
    (False, True)
    """
    if any(map(_holds_modules, module.modules())):
        tensors = (*module.parameters(), *module.buffers())
        return _deep(module, {id(t): t for t in tensors})
    return _shallow(module, {})


def _shallow(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) not in done:
        copied = module.__class__.__new__(module.__class__)
        done[id(module)] = copied
        held: dict[str, Any] = {
            **vars(module),
            "_parameters": dict(module._parameters),
            "_buffers": dict(module._buffers),
            "_modules": {n: m and _shallow(m, done) for n, m in module._modules.items()},
        }
        copied.__dict__.update(held)
    return done[id(module)]


def _holds_modules(module: nn.Module) -> bool:
    """Whether a module knows others beside its children, which a shallow copy would go on to call."""
    own = (v for k, v in vars(module).items() if k not in _OF_TORCH and not isinstance(v, _PLAIN))
    return any(isinstance(v, (nn.Module, MethodType)) for value in own for v in tree_leaves(value))


def _deep(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
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

    Args:
        module: Any network, wrapped or not; it is left as it was.

    Returns:
        The copy without wrappers, and the names.

    >>> net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), nn.ReLU())
    >>> plain, names = folded(net)
    >>> names, sorted(plain.state_dict()), torch.allclose(plain(torch.ones(1, 2)), net(torch.ones(1, 2)))
    (('0.weight',), ['0.bias', '0.weight'], True)
    """
    copied = duplicate(unwrapped(module))
    return copied, fold_in_place(copied)


def fold_in_place(module: nn.Module) -> tuple[str, ...]:
    """Make the computed weights of a network plain parameters, in the network itself (see :func:`folded`).

    Args:
        module: A network; it is changed.

    Returns:
        The names of the weights that were computed.

    >>> net = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    >>> fold_in_place(net), sorted(net.state_dict())
    (('weight',), ['bias', 'weight'])
    """
    names = []
    found = [(place, part, _computed(part)) for place, part in module.named_modules()]
    with evaluating(module):  # a spectral norm iterates in training mode
        for place, part, computed in found:
            for name, fold in computed:
                with torch.enable_grad():  # else some parametrisations leave a buffer instead of a parameter
                    fold(part, name)
                if isinstance(part, nn.RNNBase):
                    part._init_flat_weights()
                names.append(f"{place}.{name}" if place else name)
    return tuple(names)


def computed_weights(module: nn.Module) -> tuple[str, ...]:
    """The names of weights that a network computes from other parameters; :func:`folded` makes them plain.

    Args:
        module: Any network.

    Returns:
        The names that the plain weights would have.

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
