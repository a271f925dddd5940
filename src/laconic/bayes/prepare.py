"""From a plain network to one with posteriors, and back.

``make_bayesian`` works on a deep copy. Parameters keep their names: the posterior mean of ``conv1.weight`` is
``conv1.weight``, its log variance ``conv1.weight_log_var``. Shared layers and tied parameters stay shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from laconic.bayes.layers import (
    Draws,
    Sampling,
    Variational,
    become,
    local_layers,
    sampled_class,
)
from laconic.bayes.posteriors import Gaussian
from laconic.errors import InputError, ModelError, NotPreparedError
from laconic.networks import duplicate
from laconic.networks.noise import NoiseSource
from laconic.networks.policy import Policy, Select, weights_by_module
from laconic.networks.probe import Uses, check_model, observe

__all__ = [
    "deterministic_of",
    "make_bayesian",
    "means_only",
    "mute",
    "plain_copy",
    "posteriors_of",
    "sampling",
]

_PREPARED = "_laconic_bayes"


class _Prepared:
    """Rides on the root of a prepared network: its draws, and the plain network it came from."""

    def __init__(self, draws: Draws, plain: nn.Module) -> None:
        self.draws = draws
        self.plain = plain


def make_bayesian(
    model: nn.Module,
    *,
    example: Any,
    init_log_var: float,
    noise: NoiseSource,
    select: Select | None = None,
    policy: Policy = Policy(),  # noqa: B008 - frozen
    sampling: Sampling = "local",
) -> nn.Module:
    r"""A copy of ``model`` with a posterior :math:`N(w, e^{init\_log\_var})` around each present weight w.

    In training mode its forward pass samples, in eval mode it is the plain network's. ``example`` is one
    batch; it shows which layers run as layers (local reparameterisation) and which lend their weights to
    others or run several times (drawn whole, once per pass). ``sampling`` says which layers use local
    reparameterisation (:func:`~laconic.bayes.layers.local_layers`). ``select(name, parameter)`` may leave
    weights out; biases, what scales channels and frozen parameters are out already, and ``policy`` says what
    else is out or in. ``model`` is left as it was.

    Raises ModelError (:func:`check_model`; prepared already; no weight left) and InputError (the example).

    >>> layer, example = nn.Linear(4, 2), torch.zeros(1, 4)
    >>> net = make_bayesian(layer, example=example, init_log_var=-8.0, noise=NoiseSource(0))
    >>> list(posteriors_of(net)), list(deterministic_of(net))
    (['weight'], ['bias'])
    """
    if _PREPARED in model.__dict__ or any(isinstance(m, Variational) for m in model.modules()):
        raise ModelError(f"{type(model).__name__} is prepared already. Cure: prepare the plain network")
    if not -60.0 <= init_log_var <= 20.0:
        raise InputError(
            f"init_log_var is log sigma^2, usually -8, and must lie in [-60, 20]; got {init_log_var}"
        )
    check_model(model, None)
    uses = observe(model, example)
    net = duplicate(model)
    draws = Draws(noise)
    chosen = weights_by_module(net, select, policy)
    if not chosen:
        raise ModelError(
            f"{type(model).__name__} has no weight for a posterior: all are frozen, kept, biases or scales. "
            "Cure: requires_grad_(True) on a layer, fewer names in keep, a wider select, or weights=[names] "
            "for what is to count as a weight; MagnitudePruning quantises weights that are all frozen"
        )
    _swap(net, chosen, uses, draws, init_log_var, local_layers(sampling))
    net.__dict__[_PREPARED] = _Prepared(draws, duplicate(model))
    return net


def posteriors_of(net: nn.Module) -> dict[str, Gaussian]:
    """Each weight's posterior by the plain network's parameter name, in its order; shared ones once.

    ``mean`` and ``log_var`` are the trainable parameters themselves. Empty for a plain network.
    """
    pairs: dict[int, nn.Parameter] = {}
    for module in net.modules():
        if isinstance(module, Variational):
            for name in module._bayes_names:
                pairs[id(module._parameters[name])] = module.bayes_log_var(name)
    return {name: Gaussian(p, pairs[id(p)]) for name, p in net.named_parameters() if id(p) in pairs}


def deterministic_of(net: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter without a posterior (biases, normalisation, frozen) by name, shared ones once."""
    apart = {id(t) for q in posteriors_of(net).values() for t in (q.mean, q.log_var)}
    return {name: p for name, p in net.named_parameters() if id(p) not in apart}


def plain_copy(net: nn.Module, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
    """The plain network again: original classes and state-dict keys, with posterior means and net's buffers.

    ``weights`` replaces parameters by name. Raises NotPreparedError, and InputError for an unknown name or
    another shape.
    """
    plain = duplicate(_prepared(net).plain)
    target, source = dict(plain.named_parameters()), dict(net.named_parameters())
    buffers = dict(net.named_buffers())
    given = weights or {}
    for name, value in given.items():
        if name not in target or target[name].shape != value.shape:
            there = f"shape {tuple(target[name].shape)}" if name in target else "no such parameter"
            raise InputError(f"weights[{name!r}] has shape {tuple(value.shape)}, the network has {there}")
    for name, parameter in target.items():
        mean = source[name].detach()
        parameter.data = given[name].to(mean, copy=True) if name in given else mean.clone()
    for name, buffer in plain.named_buffers():
        buffer.data = buffers[name].detach().clone()
    for name, module in plain.named_modules():
        module.training = net.get_submodule(name).training
    return plain


@contextmanager
def sampling(net: nn.Module) -> Iterator[nn.Module]:
    """Sample in eval mode too, for Monte Carlo prediction: dropout and batch norm stay in eval.

    >>> layer = nn.Linear(4, 2)
    >>> net = make_bayesian(layer, example=torch.zeros(1, 4), init_log_var=0.0, noise=NoiseSource(0)).eval()
    >>> with sampling(net):
    ...     bool((net(torch.ones(1, 4)) != net(torch.ones(1, 4))).any())
    True
    """
    draws = _prepared(net).draws
    before, draws.sampling = draws.sampling, True
    try:
        yield net
    finally:
        draws.sampling = before


def mute(net: nn.Module, muted: bool = True) -> None:
    """Let a prepared network train on its posterior means, without noise (or with noise again).

    :func:`sampling` still samples.
    """
    _prepared(net).draws.muted = muted


@contextmanager
def means_only(net: nn.Module) -> Iterator[nn.Module]:
    """Eval mode within the block: posterior means, running statistics. Each layer's mode comes back after."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield net
    finally:
        for module, mode in modes.items():
            module.training = mode


def _prepared(net: nn.Module) -> _Prepared:
    state = net.__dict__.get(_PREPARED)
    if not isinstance(state, _Prepared):
        raise NotPreparedError(
            f"{type(net).__name__} has no posteriors. Cure: make_bayesian(model, ...) first"
        )
    return state


def _swap(
    net: nn.Module,
    chosen: Mapping[nn.Module, tuple[str, Mapping[str, nn.Parameter]]],
    uses: Uses,
    draws: Draws,
    init_log_var: float,
    local: Mapping[type[nn.Module], type[Variational]],
) -> None:
    """Turn each chosen layer into its holder; tied parameters get one log variance, made once."""
    made: dict[int, nn.Parameter] = {}
    for module, (prefix, means) in chosen.items():
        for mean in means.values():
            if id(mean) not in made:
                made[id(mean)] = nn.Parameter(torch.full_like(mean, init_log_var).detach())
        # A tied weight is read while only one of its owners runs, so it counts as used outside the other.
        alone = uses.calls.get(prefix, 0) == 1 and prefix not in uses.outside
        holder = local.get(type(module)) if alone and list(means) == ["weight"] else None
        if holder is None:
            holder = sampled_class(type(module), tuple(means))
            draws.watch(module)
        become(module, holder, draws, {name: made[id(mean)] for name, mean in means.items()})
    if net not in chosen:
        draws.watch(net)
