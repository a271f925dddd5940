"""The public verbs: prepare, penalty, param_groups, step, convert, quantize_activations, save.

They follow the flow of PyTorch's quantisation (prepare, convert), and add to the methods' own verbs what a
user's loop needs: the units (nats per example), the bookkeeping of steps and examples, and errors that
name the place and the cure.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from laconic.bayes.layers.noise import NoiseSource
from laconic.bayes.objective import Objective
from laconic.bayes.policy import Policy
from laconic.bayes.prepare import check_model
from laconic.errors import InputError, ModelError, NotPreparedError, at
from laconic.export import save as _save
from laconic.export.ranges import activation_ranges, first_example
from laconic.methods.contract import Compressed, Context, Judge, Method
from laconic.methods.rest import left_raw, mostly_raw
from laconic.modules import plain_network
from laconic.progress import steps
from laconic.runtime import LeastOutputError, RangeChoice
from laconic.wrappers import unwrapped

_ATTACHED = "_laconic"
# The entry of a prepared network's state dict that says where training stands: [steps, examples], int64.
_PROGRESS = "laconic_progress"


class Prepared:
    """What rides along with a prepared network: its method and where training stands."""

    def __init__(self, method: Method, context: Context) -> None:
        self.method = method
        self.context = context
        self.converted_at: int | None = None
        self.largest_batch = 0

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint needs to go on to the very same bits: plain numbers and tensors."""
        return {
            "step": self.context.step,
            "examples": self.context.examples,
            "noise": self.context.noise.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; raises InputError for counts that cannot be."""
        step, examples = state["step"], state["examples"]
        if any(type(count) is not int or count < 0 for count in (step, examples)):
            raise InputError(f"training cannot stand at step {step!r}, after {examples!r} examples")
        self.context.noise.set_state(state["noise"])
        self.context = replace(self.context, step=step, examples=examples)


def prepare(
    model: nn.Module,
    method: Method,
    example: Any,
    *,
    data_size: int,
    seed: int = 0,
    total_steps: int | None = None,
    keep: str | Iterable[str] = (),
    weights: str | Iterable[str] = (),
) -> nn.Module:
    """Make a network trainable under ``method``; same forward signature, ``model`` is left as it was.

    ``example`` is one input batch (a tensor; a tuple or a mapping for several inputs), ``data_size`` the
    number of training examples N by which the KL is divided, ``seed`` the source of all noise,
    ``total_steps`` the planned optimiser steps (without it schedules count epochs of ``data_size``
    examples; the first dimension of the first input is the batch).

    ``keep`` names parameters, or modules with all of theirs, that end up in the file exactly as they are:
    neither pruned nor put on a grid. Biases and what scales channels one by one (normalisation, LayerScale,
    PReLU) are not pruned either, but put on a grid; ``weights`` names those that are to be treated as
    weights. Frozen parameters are not trained and not pruned; their weights are put on a grid as they are.

    A wrapped network (``torch.compile``, ``DataParallel``, ``AveragedModel``) is prepared without its
    wrapper. Weights that are computed from others (``weight_norm``, ``spectral_norm``, pruning masks) become
    plain, with a warning.

    The network's ``state_dict`` also holds ``laconic_progress``: loaded into a network that was prepared
    alike, schedules go on where they stood.

    Raises ModelError (NaN weights, no parameters, already prepared, a scripted or sharded network),
    InputError (an example of the wrong shape, a name in ``keep`` that is none), ScaleError (a data size that
    cannot be).

    >>> import torch, laconic
    >>> from laconic.methods import SparseVD
    >>> model = torch.nn.Linear(4, 2)
    >>> net = laconic.prepare(model, SparseVD(), torch.zeros(1, 4), data_size=100)
    >>> net(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """
    if isinstance(method, type) or not hasattr(method, "prepare"):
        told = f"the class {method.__name__}" if isinstance(method, type) else repr(method)
        raise InputError(f"prepare: {told} is no method. Cure: an instance, as laconic.methods.SparseVD()")
    model, notes = plain_network(model, "prepare")
    if _ATTACHED in model.__dict__:
        raise ModelError(
            "prepare: this network is prepared already. Cure: prepare the plain network it came from"
        )
    _warn(notes)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    policy = Policy.of(keep, weights)
    context = Context(data_size, NoiseSource(seed), total_steps=total_steps, example=example, policy=policy)
    with at(f"prepare ({type(method).__name__})"):
        policy.check(name for name, _ in model.named_parameters(remove_duplicate=False))
        check_model(model, example)
        _check_precision(model)
        net = method.prepare(model, example, context).to(device)
    net.__dict__[_ATTACHED] = Prepared(method, context)
    net.register_forward_pre_hook(_count_examples, with_kwargs=True)
    net.register_state_dict_post_hook(_add_progress)  # type: ignore[no-untyped-call]
    net.register_load_state_dict_pre_hook(_take_progress)  # type: ignore[no-untyped-call]
    return net


def penalty(net: nn.Module) -> torch.Tensor:
    """The method's penalty in nats per example: add it to the mean loss of a batch.

    ``KL weight * warm-up * KL(q || p) / data_size``, a differentiable scalar. Raises NotPreparedError for
    a plain network, ScaleError if a batch was larger than the data set.
    """
    net = unwrapped(net)
    state = prepared(net, "penalty")
    if state.largest_batch:
        Objective(state.context.data_size).check_batch(state.largest_batch)
    return state.method.penalty(net, state.context) / state.context.data_size


def param_groups(net: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Parameter groups for any torch optimiser, with the method's ratios of learning rates."""
    net = unwrapped(net)
    return prepared(net, "param_groups").method.param_groups(net, lr)


def step(net: nn.Module) -> None:
    """Call after each ``optimizer.step()``: advances schedules and applies the method's projections."""
    net = unwrapped(net)
    state = prepared(net, "step")
    state.context = replace(state.context, step=state.context.step + 1)
    state.method.step(net, state.context)


def convert(net: nn.Module, judge: Judge | None = None, *, keep: str | Iterable[str] = ()) -> Compressed:
    """Decide and quantise: a plain network, its tensors as integers on grids, and a record.

    ``judge`` scores candidates on the validation split; without one the finest settings are taken.
    ``keep`` names further parameters, or modules, that stay as they were trained (see :func:`prepare`).
    ``net`` stays trainable; an average of it (``AveragedModel``) is converted like the network itself. What
    stays as it is (raw float32) is told in ``facts["notes"]``, with its bytes.

    Raises NotPreparedError for a plain (or already converted) network, ModelError when ``net`` has not been
    trained since it was last converted, InputError for a name in ``keep`` that is none.
    """
    net = unwrapped(net)
    state = prepared(net, "convert")
    if state.converted_at == state.context.step:
        raise ModelError(
            f"convert: this network was converted already at step {state.context.step}. "
            "Cure: keep the first result, or train further before converting again"
        )
    policy = state.context.policy.keeping(keep)
    with at(f"convert ({type(state.method).__name__})"), steps("converting"):
        policy.check(name for name, _ in net.named_parameters(remove_duplicate=False))
        check_model(net, None)
        small = state.method.convert(net, replace(state.context, policy=policy), judge)
    state.converted_at = state.context.step
    _strip(small.module)
    notes = [*small.facts.get("notes", ()), *left_raw(small.module, small.tensors, policy)]
    facts = {**small.facts, "notes": notes} if notes else small.facts
    return replace(small, facts=facts, example=state.context.example)


def save(
    small: Compressed | nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Any = None,
    calibrate: Iterable[Any] | None = None,
    dynamic: Any = None,
) -> int:
    """Write one self-contained .lac file and return its length in bytes.

    ``small`` is what :func:`convert` returned. A plain module is taken, too: it is stored as it is, exactly,
    with its graph if an ``example`` input is given (as for :func:`prepare`), and a warning says how to make
    it smaller.

    ``dynamic`` says which axes of the inputs are free when the file runs, in ``torch.export``'s form:
    ``{"x": {0: "batch", 1: "time"}}``, by the names of ``forward``'s parameters (or one entry for each input,
    in order). A name is a text or a ``torch.export.Dim``; axes of one name have one size; all that it does
    not name have the example's size. Without it the batch is free, where the network allows it.

    With ``calibrate``, batches of training data (see :func:`quantize_activations`), the file also says how
    its activations become int8, and ``laconic.runtime.load`` runs it in int8 where that is faster. The
    calibrated network runs in int8 before it is written; where it cannot, or computes other numbers than
    integer arithmetic does, the file is written for float32 alone, with a warning that says why.

    A network whose graph cannot be captured is packed weights-only, with a warning that says how to
    load it. The file is written to a sibling first, then renamed. Raises WriteError (disk full), ModelError
    (a network that is still prepared, or that has no parameters), InputError (a ``dynamic`` that does not fit
    the example, or not the one that the network was calibrated with).

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
    length = _save(small.module, small.tensors, path, small.example, small.ranges, free)
    _warn(mostly_raw(small.module, small.tensors, length))
    return length


def quantize_activations(
    small: Compressed | nn.Module,
    batches: Iterable[Any],
    *,
    choice: RangeChoice | LeastOutputError = LeastOutputError(),  # noqa: B008 - frozen
    examples: int = 1024,
    dynamic: Any = None,
) -> Compressed:
    """The network with int8 ranges of its activations, taken from ``batches``; ``small`` is left as it was.

    ``batches`` give inputs (a tensor, or a tuple whose first entries are the network's inputs: labels
    behind them are not looked at), training data that the network will see alike; the first ``examples``
    examples are used. ``choice`` says where ranges end: by default, of several ways to choose them the one
    that changes the network's outputs least (``laconic.runtime.LeastOutputError()``); or ``MinMax()``,
    ``Percentile(99.99)`` or ``LeastError(2.0)`` (least squares), which run nothing in int8 and are quicker.
    Each tensor that enters or leaves a linear layer or convolution gets one scale and zero point. Weights
    stay as they are: int8 weights are derived from them, row by row, when a file is loaded. What stays in
    float32 (recurrent layers, layers without a range) is told in ``facts["notes"]``. A plain module is taken
    too; its weights are then stored as raw float32. ``dynamic`` are the free axes of the file (see
    :func:`save`).

    Raises DataError (no batches), CaptureError (a network whose graph cannot be captured), InputError
    (inputs that do not fit, a network without a linear layer or convolution).

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
    if _ATTACHED in plain.__dict__:
        raise ModelError(f"{verb}: this network is still prepared. Cure: laconic.convert(net)")
    _warn(notes)
    return Compressed(plain, {}, {}, example)


def prepared(net: nn.Module, verb: str) -> Prepared:
    """The bookkeeping of a prepared network; raises NotPreparedError for any other module."""
    state = net.__dict__.get(_ATTACHED)
    if not isinstance(state, Prepared):
        raise NotPreparedError(
            f"{verb}: {type(net).__name__} was not prepared (or was converted already). "
            "Cure: net = laconic.prepare(model, method, example, data_size=N)"
        )
    return state


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


def _strip(network: nn.Module) -> None:
    """Take our bookkeeping off a plain network that a method copied from the prepared one, or wrapped."""
    for module in network.modules():
        _strip_one(module)


def _strip_one(module: nn.Module) -> None:
    module.__dict__.pop(_ATTACHED, None)
    hooks = module._forward_pre_hooks
    for key in [k for k, hook in hooks.items() if hook is _count_examples]:
        del hooks[key]
        module._forward_pre_hooks_with_kwargs.pop(key, None)
    for key in [k for k, hook in module._state_dict_hooks.items() if hook is _add_progress]:
        del module._state_dict_hooks[key]
    before_load: dict[int, Any] = module._load_state_dict_pre_hooks  # torch wraps these hooks
    for key in [k for k, hook in before_load.items() if getattr(hook, "hook", hook) is _take_progress]:
        del before_load[key]


def _add_progress(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """State-dict hook: steps and examples travel with the weights, so that warm-up and schedules go on."""
    attached = module.__dict__.get(_ATTACHED)
    if attached is not None:  # a copy of an fx.GraphModule has its hooks, but no bookkeeping
        state[prefix + _PROGRESS] = torch.tensor([attached.context.step, attached.context.examples])


def _take_progress(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load hook: go on where the saved training stood; a state dict without that entry changes nothing."""
    found = state.pop(prefix + _PROGRESS, None)
    if found is not None:
        attached = prepared(module, "load_state_dict")
        step, examples = (int(n) for n in found)
        attached.context = replace(attached.context, step=step, examples=examples)


def _count_examples(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Forward pre-hook: count the examples seen in training, so that schedules know the epoch."""
    if not module.training or _ATTACHED not in module.__dict__:
        return
    first = next((v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)), None)
    if first is not None and first.ndim:
        state = prepared(module, "forward")
        batch = first.shape[0]
        state.largest_batch = max(state.largest_batch, batch)
        state.context = replace(state.context, examples=state.context.examples + batch)
