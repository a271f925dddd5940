"""The public functions of training: prepare, objective, penalty, param_groups, step, convert.

They follow the flow of PyTorch's quantisation (prepare, convert), and add to the methods' own functions what
a user's loop needs: the units (nats per likelihood term), the bookkeeping of steps and terms, and errors that
name the place and the cure.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from laconic.errors import ModelError, at
from laconic.methods.common.last_batch import compared, ruined, unjudged
from laconic.methods.common.rest import left_raw
from laconic.methods.contract import Compressed, Context, Judge, Method, check_method
from laconic.networks import call
from laconic.networks.modules import plain_network
from laconic.networks.noise import NoiseSource
from laconic.networks.policy import Policy
from laconic.networks.probe import check_model
from laconic.networks.wrappers import unwrapped
from laconic.prepared import (
    attach,
    is_prepared,
    keep_zeros,
    likelihood_of,
    mean_nll,
    prepared,
    strip,
    unfinished_of,
    without_likelihood,
    zeros_of,
)
from laconic.progress import steps
from laconic.tasks import Batch, Classification, Loss, Task, as_task, reread


def prepare(
    model: nn.Module,
    method: Method,
    example: Any,
    *,
    data_size: int,
    task: Task | Loss = Classification(),  # noqa: B008 - frozen
    seed: int = 0,
    total_steps: int | None = None,
    keep: str | Iterable[str] = (),
    weights: str | Iterable[str] = (),
    batches: Iterable[Any] | None = None,
    previous: Compressed | None = None,
    original: nn.Module | None = None,
) -> nn.Module:
    """Make a network trainable under ``method``; same forward signature, ``model`` is left as it was.

    A wrapped network (``torch.compile``, ``DataParallel``, ``AveragedModel``) is prepared without its
    wrapper. Weights that are computed from others (``weight_norm``, ``spectral_norm``, pruning masks) become
    plain, with a warning. Biases and what scales channels one by one (normalisation, LayerScale, PReLU) are
    not pruned, but put on a grid. Frozen parameters are not trained and not pruned; their weights are put on
    a grid as they are.

    The network's ``state_dict`` also holds ``laconic_progress``: loaded into a network that was prepared
    alike, schedules go on where they stood.

    Args:
        model: The trained network.
        method: How it is compressed, as ``laconic.methods.SparseVD()``.
        example: One input batch: a tensor, a tuple of inputs, or a dictionary of keyword inputs.
        data_size: Number of likelihood terms in the training data: its examples, or its labelled pixels or
            tokens where each of these is a term. The KL is divided by it.
        task: The task, or a plain loss function (outputs, target) that averages over the
            batch.
        seed: Seed of all noise.
        total_steps: Planned optimiser steps; without it schedules count epochs of ``data_size`` terms.
        keep: Parameters, or modules with all of theirs, that are stored exactly as they are: neither pruned
            nor put on a grid.
        weights: Parameters that are to be treated as weights although they scale channels or are biases.
        batches: The training batches, which can be read again and again, for methods that look at data.
        previous: The result of the stage before, in a job of several stages: its zeros stay zero.
        original: The network that the job began with, for methods that learn from it (None: ``model``).

    Returns:
        The prepared network.

    Raises:
        ModelError: NaN weights, no parameters, already prepared, a scripted or sharded network.
        InputError: An example of the wrong shape, an unknown name in ``keep``, something that is not a
            method.
        ScaleError: A data size that is not a positive whole number.

    >>> import torch, laconic
    >>> from laconic.methods import SparseVD
    >>> model = torch.nn.Linear(4, 2)
    >>> net = laconic.prepare(model, SparseVD(), torch.zeros(1, 4), data_size=100)
    >>> net(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """
    check_method(method, "prepare")
    given = model
    model, notes = plain_network(model, "prepare")
    if is_prepared(model):
        raise ModelError(
            "prepare: this network is prepared already. Cure: prepare the plain network it came from"
        )
    _warn(notes)
    policy = Policy.of(keep, weights)
    place = f"prepare ({type(method).__name__})"
    with at(place):
        policy.check(name for name, _ in model.named_parameters(remove_duplicate=False))
        check_model(model, example)
        _check_precision(model)
    context = Context(
        data_size,
        NoiseSource(seed),
        total_steps=total_steps,
        example=example,
        policy=policy,
        task=as_task(task),
        batches=None if batches is None else reread(batches),
        previous=previous,
        original=original,
    )
    device = next(p.device for p in model.parameters())
    with at(place):
        net = method.prepare(model, example, context).to(device)
        attach(net, method, context)
    prepared(net, "prepare").original = weakref.ref(unwrapped(given))
    return net


def objective(net: nn.Module, batch: Any) -> torch.Tensor:
    r"""The objective of a training step on a batch, in nats per likelihood term.

    :math:`-\frac1M \sum_{m} \log p(y_m | x_m, w) + \frac1N KL(q \| p)` unless the method has an objective of
    its own.

    Args:
        net: A prepared network, in training mode.
        batch: A batch as the task splits it: (inputs, target), or a dictionary.

    Returns:
        A differentiable scalar.

    Raises:
        NotPreparedError: A plain network.
        DataError: A batch that cannot be split, or labels that cannot be.
        ScaleError: A batch with more terms than the data set, or with none.

    >>> import torch, laconic
    >>> from laconic.methods import SparseVD
    >>> net = laconic.prepare(torch.nn.Linear(4, 2), SparseVD(), torch.zeros(1, 4), data_size=100)
    >>> laconic.objective(net, (torch.zeros(3, 4), torch.tensor([0, 1, 1]))).ndim
    0
    """
    plain = unwrapped(net)
    state = prepared(plain, "objective")
    parts = state.context.task.split(batch)
    return objective_of(net, parts, state.context.task.prediction(call(net, parts.inputs)))


def objective_of(net: nn.Module, batch: Batch, outputs: Any) -> torch.Tensor:
    """:func:`objective` of outputs that were computed already."""
    plain = unwrapped(net)
    state = prepared(plain, "objective")
    nll, terms = mean_nll(plain, batch, outputs)
    value = state.method.objective(plain, batch, outputs, nll, state.context)
    state.pending_terms, state.penalised = terms, True
    state.see(batch, nll, terms)
    shape = getattr(batch.target, "shape", None)
    state.pending_examples = int(shape[0]) if shape else None
    return value


def penalty(net: nn.Module) -> torch.Tensor:
    """The method's penalty in nats per likelihood term: add it to the mean loss of a batch.

    ``KL weight * warm-up * KL(q || p) / data_size``. For a loop that computes its loss itself;
    :func:`objective` is the sum of both.

    Args:
        net: A prepared network.

    Returns:
        A differentiable scalar; zero for methods without a KL.

    Raises:
        NotPreparedError: A plain network.

    >>> import torch, laconic
    >>> from laconic.methods import SparseVD
    >>> net = laconic.prepare(torch.nn.Linear(4, 2), SparseVD(), torch.zeros(1, 4), data_size=100)
    >>> loss = torch.nn.functional.cross_entropy(net(torch.zeros(3, 4)), torch.tensor([0, 1, 1]))
    >>> (loss + laconic.penalty(net)).shape
    torch.Size([])
    """
    net = unwrapped(net)
    state = prepared(net, "penalty")
    state.penalised = True
    return state.method.penalty(net, state.context) / state.context.data_size


def param_groups(net: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Parameter groups for any torch optimiser, with the method's ratios of learning rates.

    Args:
        net: A prepared network.
        lr: Learning rate of the weights.

    Returns:
        Dictionaries of ``params``, ``lr`` and what else the method sets, as ``weight_decay``.

    Raises:
        NotPreparedError: A plain network.

    >>> import torch, laconic
    >>> from laconic.methods import SparseVD
    >>> net = laconic.prepare(torch.nn.Linear(4, 2), SparseVD(), torch.zeros(1, 4), data_size=100)
    >>> [group["lr"] for group in laconic.param_groups(net, lr=0.01)]
    [0.01, 0.1]
    """
    net = unwrapped(net)
    return prepared(net, "param_groups").method.param_groups(net, lr)


def step(net: nn.Module, terms: int | None = None) -> None:
    """Call after each ``optimizer.step()``: advances schedules and applies the method's projections.

    Args:
        net: A prepared network.
        terms: Number of likelihood terms of the batch (its examples, or its labelled pixels or tokens). Not
            needed where :func:`objective` was called, which counts them. Where the gradients of several
            batches are accumulated: the terms of all of them.

    Raises:
        NotPreparedError: A plain network.
        InputError: The number of terms is not known.
        ScaleError: A batch with more terms than the data set.

    Warns where an epoch of the loop turns out to have several times ``data_size`` terms.

    >>> import torch, laconic
    >>> from laconic.methods import SparseVD
    >>> net = laconic.prepare(torch.nn.Linear(4, 2), SparseVD(), torch.zeros(1, 4), data_size=100)
    >>> optimizer = torch.optim.Adam(laconic.param_groups(net, lr=0.01))
    >>> laconic.objective(net, (torch.ones(3, 4), torch.tensor([0, 1, 1]))).backward()
    >>> optimizer.step()
    >>> laconic.step(net)
    >>> net.state_dict()["laconic_progress"].tolist()  # steps, likelihood terms
    [1, 3]
    """
    net = unwrapped(net)
    state = prepared(net, "step")
    state.advance(terms)
    state.method.step(net, state.context)
    keep_zeros(net)


def convert(net: nn.Module, judge: Judge | None = None, *, keep: str | Iterable[str] = ()) -> Compressed:
    """Decide and quantise: a plain network, its tensors as integers on grids, and a record.

    ``net`` stays trainable. What stays as it is (raw float32) is told in ``facts["notes"]``, with its bytes,
    and so is a schedule that is not at its end. Without a judge a note says that nothing was measured, and
    ``facts["last_batch"]`` how far the outputs are from those of the trained network on the last training
    batch that :func:`objective` saw (or the first of the batches that :func:`prepare` was given).

    An average of a prepared network (``torch.optim.swa_utils.AveragedModel``, its ``module``, or a deep copy
    whose parameters a loop averages) is converted with the averaged weights and with the schedules of the
    network that was averaged, at its present step. A deep copy that is only kept, as the best network so far,
    is converted with the schedules of the step at which it was copied. Pruning masks are buffers: of an
    ``AveragedModel`` they are those of the network at the last update, whatever its ``use_buffers``.

    Args:
        net: A prepared network, or an average of one.
        judge: Scores candidates on the validation split; without one the finest settings are taken, and
            a warning is given only where the last training batch shows that the network is ruined.
        keep: Further parameters, or modules, that stay as they were trained (see :func:`prepare`).

    Returns:
        The compressed network.

    Raises:
        NotPreparedError: A plain (or already converted) network.
        ModelError: A network that has not been trained since it was last converted.
        InputError: An unknown name in ``keep``.

    >>> import torch, laconic
    >>> from laconic.methods import SparseVD
    >>> net = laconic.prepare(torch.nn.Linear(4, 2), SparseVD(), torch.zeros(1, 4), data_size=100)
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # it was not trained, so that the warm-up is not over
    ...     small = laconic.convert(net)
    >>> type(small.module).__name__, sorted(small.tensors)
    ('Linear', ['bias', 'weight'])
    """
    small = decide(net, judge, keep=keep)
    _warn(unfinished_of(unwrapped(net)))
    if ruined(small.facts.get("last_batch", {})):
        _warn([unjudged(small.facts["last_batch"])])
    return small


def decide(net: nn.Module, judge: Judge | None = None, *, keep: str | Iterable[str] = ()) -> Compressed:
    """:func:`convert` whose notes stand in the facts alone."""
    net = unwrapped(net)
    state = prepared(net, "convert")
    if state.converted_at == state.context.step:
        raise ModelError(
            f"convert: this network was converted already at step {state.context.step}. "
            "Cure: keep the first result, or train further before converting again"
        )
    policy = state.context.policy.keeping(keep)
    unfinished = unfinished_of(net)
    with (
        at(f"convert ({type(state.method).__name__})"),
        steps("converting"),
        without_likelihood(net) as learnt,
    ):
        policy.check(name for name, _ in net.named_parameters(remove_duplicate=False))
        check_model(net, None)
        small = state.method.convert(net, replace(state.context, policy=policy), judge)
    state.converted_at = state.context.step
    small = replace(small, removed=_still_removed(net, small))
    strip(small.module)
    notes = [*unfinished, *small.facts.get("notes", ()), *left_raw(small.module, small.tensors, policy)]
    facts = small.facts
    if judge is None and "divergence" not in facts:  # a method without training has measured it itself
        found = _on_last_batch(net, small.module)
        notes = [*notes, unjudged(found)]
        facts = {**facts, "judged": False, **({"last_batch": found} if found else {})}
    facts = {**facts, "notes": notes} if notes else facts
    facts = {**facts, "likelihood": learnt} if learnt else facts
    return replace(
        small, facts=facts, example=state.context.example, **_earlier(state.context.previous, small)
    )


def _on_last_batch(net: nn.Module, module: nn.Module) -> dict[str, float]:
    """How far the outputs are from those before, on the last training batch; empty where there is none."""
    state = prepared(net, "convert")
    batch = state.last_batch
    if batch is None:
        return {}
    original = state.context.original or (state.original() if state.original is not None else None)
    return compared(net, module, original, batch, state.context.task, likelihood_of(net))


def _still_removed(net: nn.Module, small: Compressed) -> dict[str, Any]:
    """What earlier stages have removed of weights that this one leaves as they are."""
    own = dict(small.module.named_parameters())
    raw = {
        name: zero.cpu() for name, zero in zeros_of(net).items() if name in own and name not in small.tensors
    }
    return {name: zero.numpy() for name, zero in raw.items() if zero.shape == own[name].shape}


def _earlier(previous: Compressed | None, small: Compressed) -> dict[str, Any]:
    """What the stages before this one left to be remembered."""
    if previous is None:
        return {}
    changed = previous.architecture_changed or small.architecture_changed
    return {"architecture_changed": changed, "stages": (*previous.stages, previous.facts)}


def _check_precision(model: nn.Module) -> None:
    """Refuse parameters that cannot hold the float32 values which a file decodes to."""
    for name, parameter in model.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            kind = str(parameter.dtype).removeprefix("torch.")
            raise ModelError(
                f"parameter {name!r} is {kind}; a file's values are float32. Cure: model.float()"
            )


def _warn(notes: Iterable[str]) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=3)
