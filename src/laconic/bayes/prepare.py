"""Make a network with posteriors of a plain one, and the plain one again.

``make_bayesian`` works on a deep copy. Parameters keep their names: the mean of a Gaussian around
``conv1.weight`` is ``conv1.weight``, its log variance ``conv1.weight_log_var``. Shared layers and tied
parameters stay shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from laconic.bayes.layers import NOISY_INPUTS, Sampling, local_layers
from laconic.bayes.layers.generic import sampled_class
from laconic.bayes.layers.variational import Draws, Variational, become
from laconic.bayes.posteriors import Family, Posterior
from laconic.errors import InputError, ModelError, NotPreparedError
from laconic.networks import duplicate
from laconic.networks.noise import NoiseSource
from laconic.networks.policy import Policy, Select, weights_by_module
from laconic.networks.probe import Uses, check_model, observe
from laconic.networks.stochastic import add_stochastic, sampling

__all__ = [
    "deterministic_of",
    "draw_from",
    "make_bayesian",
    "mute",
    "plain_copy",
    "posteriors_of",
    "sampling",
    "spread_of",
]

_PREPARED = "_laconic_bayes"


class _Prepared:
    """Attached to the root of a prepared network: its draws, and the plain network that it was made of."""

    def __init__(self, draws: Draws, plain: nn.Module) -> None:
        self.draws = draws
        self.plain = plain


def make_bayesian(
    model: nn.Module,
    *,
    example: Any,
    posterior: Family,
    noise: NoiseSource,
    select: Select | None = None,
    policy: Policy = Policy(),  # noqa: B008 - frozen
    sampling: Sampling = "local",
) -> nn.Module:
    """A copy of ``model`` with a posterior around each present weight.

    In training mode its forward pass samples, in eval mode it computes with the posteriors' means. The
    example shows which layers run once as layers (local reparameterisation) and whose weights others read or
    that run several times (drawn whole, once per pass), as all weights of a family are that are neither
    independent nor noise on the layer's inputs.

    Args:
        model: A plain network; it is left as it was.
        example: One input batch.
        posterior: The family: a function of a weight's name and the weight (a parameter of the copy) that
            returns its posterior, as ``GaussianFamily(-8.0)``.
        noise: The source of all draws.
        select: A function of name and parameter that may leave weights out; biases, what scales channels and
            frozen parameters are out already.
        policy: What else is out or in.
        sampling: Which layers use local reparameterisation (:func:`~laconic.bayes.layers.local_layers`).

    Returns:
        The network with posteriors; :func:`posteriors_of` lists them.

    Raises:
        ModelError: See :func:`check_model`; prepared already; no weight left.
        InputError: The example; a family that returns something else than a posterior of the weight.

    >>> import torch
    >>> from laconic.bayes.posteriors import GaussianFamily
    >>> layer, example = nn.Linear(4, 2), torch.zeros(1, 4)
    >>> net = make_bayesian(layer, example=example, posterior=GaussianFamily(-8.0), noise=NoiseSource(0))
    >>> list(posteriors_of(net)), list(deterministic_of(net))
    (['weight'], ['bias'])
    """
    if _PREPARED in model.__dict__ or any(isinstance(m, Variational) for m in model.modules()):
        raise ModelError(f"{type(model).__name__} is prepared already. Cure: prepare the plain network")
    check_model(model, None)
    uses = observe(model, example)
    net = duplicate(model)
    chosen = weights_by_module(net, select, policy)
    if not chosen:
        raise ModelError(
            f"{type(model).__name__} has no weight for a posterior: all are frozen, kept, biases or scales. "
            "Cure: requires_grad_(True) on a layer, fewer names in keep, a wider select, or weights=[names] "
            "for what is to count as a weight; MagnitudePruning quantises weights that are all frozen"
        )
    made = _posteriors(chosen, posterior)
    draws = _swap(net, chosen, made, uses, noise, local_layers(sampling))
    net.__dict__[_PREPARED] = _Prepared(draws, duplicate(model))
    add_stochastic(net, draws)
    return net


def posteriors_of(net: nn.Module) -> dict[str, Posterior]:
    """Each weight's posterior, by the plain network's parameter name and in its order; shared ones once.

    The tensors of a posterior are the trainable parameters themselves.

    Args:
        net: A network.

    Returns:
        The posteriors; none for a plain network.

    >>> posteriors_of(nn.Linear(4, 2))
    {}
    """
    found: dict[int, Posterior] = {}
    for module in net.modules():
        if isinstance(module, Variational):
            for name in module.bayes_names():
                found[id(module._parameters[name])] = module.bayes_posterior(name)
    return {name: found[id(p)] for name, p in net.named_parameters() if id(p) in found}


def deterministic_of(net: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter without a posterior (biases, normalisation, frozen), by name; a shared one once.

    Args:
        net: A network, prepared or plain.

    Returns:
        The parameters.

    >>> list(deterministic_of(nn.Linear(4, 2)))
    ['weight', 'bias']
    """
    apart = {id(t) for q in posteriors_of(net).values() for t in q.parameters().values()}
    return {name: p for name, p in net.named_parameters() if id(p) not in apart}


def spread_of(net: nn.Module) -> list[nn.Parameter]:
    """The parameters that set the width of the posteriors: log variances, log dropout rates and the like.

    Args:
        net: A prepared network.

    Returns:
        Each once; none for a plain network.

    >>> import torch
    >>> from laconic.bayes.posteriors import GaussianFamily
    >>> layer, example = nn.Linear(4, 2), torch.zeros(1, 4)
    >>> net = make_bayesian(layer, example=example, posterior=GaussianFamily(-8.0), noise=NoiseSource(0))
    >>> [tuple(p.shape) for p in spread_of(net)]
    [(2, 4)]
    """
    wanted = {id(t): t for q in posteriors_of(net).values() for t in q.spread()}
    return [cast(nn.Parameter, t) for t in wanted.values()]


def plain_copy(net: nn.Module, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
    """The plain network again: original classes and state-dict keys, posterior means, buffers of ``net``.

    Args:
        net: A prepared network; it is left as it was.
        weights: Values, by name, that take the place of parameters.

    Returns:
        The plain network.

    Raises:
        NotPreparedError: A network without posteriors.
        InputError: An unknown name, or a value of another shape.

    >>> import torch
    >>> from laconic.bayes.posteriors import GaussianFamily
    >>> layer, example = nn.Linear(4, 2), torch.zeros(1, 4)
    >>> net = make_bayesian(layer, example=example, posterior=GaussianFamily(-8.0), noise=NoiseSource(0))
    >>> bool((plain_copy(net).weight == layer.weight).all())
    True
    """
    plain = duplicate(_prepared(net).plain)
    target, source = dict(plain.named_parameters()), dict(net.named_parameters())
    buffers = dict(net.named_buffers())
    given = weights or {}
    for name, value in given.items():
        if name not in target or target[name].shape != value.shape:
            there = f"shape {tuple(target[name].shape)}" if name in target else "no such parameter"
            raise InputError(
                f"weights[{name!r}] has shape {tuple(value.shape)}, the network has {there}. Cure: names and "
                "shapes of the plain network's parameters"
            )
    posteriors = posteriors_of(net)
    for name, parameter in target.items():
        mean = (posteriors[name].expectation() if name in posteriors else source[name]).detach()
        parameter.data = given[name].to(mean, copy=True) if name in given else mean.clone()
    for name, buffer in plain.named_buffers():
        buffer.data = buffers[name].detach().clone()
    for name, module in plain.named_modules():
        module.training = net.get_submodule(name).training
    return plain


def draw_from(net: nn.Module, noise: NoiseSource) -> None:
    """Let a prepared network draw from another source from now on.

    Args:
        net: A prepared network; it is changed.
        noise: The source of all draws that follow.

    >>> import torch
    >>> from laconic.bayes.posteriors import GaussianFamily
    >>> layer, x = nn.Linear(4, 2), torch.ones(1, 4)
    >>> net = make_bayesian(layer, example=x, posterior=GaussianFamily(0.0), noise=NoiseSource(0))
    >>> first = net(x)
    >>> draw_from(net, NoiseSource(0))
    >>> bool((net(x) == first).all())
    True
    """
    _prepared(net).draws.noise = noise


def mute(net: nn.Module, muted: bool = True) -> None:
    """Let a prepared network train on its posterior means, without noise (or with noise again).

    :func:`sampling` still samples.

    Args:
        net: A prepared network; it is changed.
        muted: Whether the noise is off in training mode.

    >>> import torch
    >>> from laconic.bayes.posteriors import GaussianFamily
    >>> layer, x = nn.Linear(4, 2), torch.ones(1, 4)
    >>> net = make_bayesian(layer, example=x, posterior=GaussianFamily(0.0), noise=NoiseSource(0))
    >>> mute(net)
    >>> bool((net(x) == layer(x)).all())
    True
    """
    _prepared(net).draws.muted = muted


def _prepared(net: nn.Module) -> _Prepared:
    state = net.__dict__.get(_PREPARED)
    if not isinstance(state, _Prepared):
        raise NotPreparedError(
            f"{type(net).__name__} has no posteriors. Cure: make_bayesian(model, ...) first"
        )
    return state


_Chosen = Mapping[nn.Module, tuple[str, Mapping[str, nn.Parameter]]]


def _posteriors(chosen: _Chosen, family: Family) -> dict[int, Posterior]:
    """The posterior of each weight, by the weight's id; tied parameters get one, made once."""
    made: dict[int, Posterior] = {}
    for prefix, weights in chosen.values():
        for name, weight in weights.items():
            if id(weight) not in made:
                made[id(weight)] = _made(family, f"{prefix}.{name}" if prefix else name, weight)
    return made


def _swap(
    net: nn.Module,
    chosen: _Chosen,
    made: Mapping[int, Posterior],
    uses: Uses,
    noise: NoiseSource,
    local: Mapping[type[nn.Module], type[Variational]],
) -> Draws:
    """Make each chosen layer variational; returns the draws that all of them share."""
    draws = Draws(noise)
    for module, (prefix, weights) in chosen.items():
        posteriors = {name: made[id(weight)] for name, weight in weights.items()}
        # A tied weight is read while only one of its owners runs, so it counts as used outside the other.
        alone = uses.calls.get(prefix, 0) == 1 and prefix not in uses.outside
        kind = None
        if alone and list(weights) == ["weight"]:
            q = posteriors["weight"]
            kind = _kinds(q, local).get(type(module))
        if kind is None:
            kind = sampled_class(type(module), tuple(weights))
            if module is not net:
                draws.watch(module)
        become(module, kind, draws, posteriors)
    draws.watch(net)
    return draws


def _kinds(
    q: Posterior, local: Mapping[type[nn.Module], type[Variational]]
) -> Mapping[type[nn.Module], type[Variational]]:
    """The layers that need no draw of whole weights under this posterior."""
    if q.on_inputs:
        return NOISY_INPUTS
    return local if q.independent else {}


def _made(family: Family, name: str, weight: nn.Parameter) -> Posterior:
    """The posterior that a family gives a weight; raises InputError for something else."""
    given: Any = family
    if isinstance(given, type) and issubclass(given, Posterior):
        raise InputError(
            f"posterior: {given.__name__} is a class of posteriors, not a family. Cure: a function (name, "
            "weight) that returns one, as laconic.bayes.GaussianFamily()"
        )
    if not callable(given):
        raise InputError(
            f"posterior={given!r} is a {type(given).__name__}, not a family. Cure: a function (name, weight) "
            "that returns a posterior, as laconic.bayes.GaussianFamily()"
        )
    q = family(name, weight)
    told = f"the posterior of {name!r} by {family!r}"
    if not isinstance(q, Posterior):
        raise InputError(
            f"{told} is a {type(q).__name__}. Cure: a function (name, weight) that returns an object whose "
            "class inherits laconic.bayes.Posterior, as laconic.bayes.GaussianFamily()"
        )
    parameters = q.parameters()
    if parameters.get("") is not weight:
        raise InputError(
            f"{told} does not hold the weight itself. Cure: the parameter that is handed in as its field "
            f"{q.weight!r}, not a copy"
        )
    other = next((s for s, p in parameters.items() if not isinstance(p, nn.Parameter)), None)
    if other is not None:
        raise InputError(
            f"{told} holds {other!r} as a {type(parameters[other]).__name__}. Cure: nn.Parameter(...)"
        )
    shapes = [tuple(moment.shape) for moment in q.moments()]
    if shapes != [tuple(weight.shape)] * 2:
        raise InputError(
            f"{told} has moments of shapes {shapes[0]} and {shapes[1]}, the weight has "
            f"{tuple(weight.shape)}. Cure: moments() of the weight's shape"
        )
    return q
