"""The bookkeeping of a prepared network: its method, the steps done, the parameters of its likelihood.

It lies in ``__dict__``, and in tensors on the network's root, so that state dicts, deep copies and
checkpoints hold it: ``laconic_progress`` (steps and terms), ``laconic_likelihood_*`` (the likelihood's
own parameters, as a regression's noise scale), ``laconic_zeros_*`` (which weights an earlier stage has
removed).
"""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from laconic.bayes.prepare import posteriors_of
from laconic.epoch_terms import EpochTerms
from laconic.errors import DataError, InputError, NotPreparedError, ScaleError
from laconic.methods.contract import BoolArray, Context, Method
from laconic.networks import call, to_device
from laconic.networks.masks import add_mask, as_mask
from laconic.networks.modes import evaluating
from laconic.tasks import Batch, Task, length_of
from laconic.tasks.checks import check_any_term

ATTACHED = "_laconic"
# The entry of a prepared network's state dict that says where training stands: [steps, terms], int64.
_PROGRESS = "laconic_progress"
_LIKELIHOOD = "laconic_likelihood_"
_ZEROS = "laconic_zeros_"
_ZERO_NAMES = "_laconic_zeros"


class Prepared:
    """The method of a prepared network, the context, and what the user's loop has called so far.

    A copy of a network whose weights are averages of it (``AveragedModel``, or an average of the user's own)
    is at the network's own step: schedules and decisions are then those of the weights that were averaged.
    A copy counts as an average while its parameters are written to and it is not trained itself; a copy that
    is only kept (the best network so far) stays at the step at which it was copied.

    Args:
        method: The method.
        context: Where training begins.
        weight: One of the network's parameters. A deep copy of the network holds the copy of it.
    """

    def __init__(self, method: Method, context: Context, weight: Tensor | None = None) -> None:
        self.method = method
        self._context = context
        self._weight = weight
        self._source: Prepared | None = None
        self.converted_at: int | None = None
        self.pending_terms: int | None = None
        self.pending_examples: int | None = None
        self.penalised = False
        self.original: weakref.ref[nn.Module] | None = None
        self._last_batch: Batch | None = None
        self._nats: Tensor | float = 0.0
        self._nats_terms = 0
        length = None if context.batches is None else length_of(context.batches())
        self._epoch_terms = EpochTerms(context.data_size, length)

    @property
    def context(self) -> Context:
        """What the method is told; of an average, with the steps and terms of the averaged network."""
        if self._source is None or not self._is_average():
            return self._context
        source = self._source.context
        return replace(self._context, step=source.step, terms=source.terms)

    @property
    def last_batch(self) -> Batch | None:
        """The last batch that training saw or, where it saw none that we know of, the first of the training
        batches; of a copy, that of the network it was copied from.
        """
        if self._last_batch is None and self._source is not None:
            return self._source.last_batch
        if self._last_batch is None and self._context.batches is not None:
            first = next(iter(self._context.batches()), None)
            with suppress(DataError):  # batches without labels, as calibration inputs
                return None if first is None else self._context.task.split(first)
        return self._last_batch

    def see(self, batch: Batch, nll: Tensor, terms: int) -> None:
        """Remember a batch of training, which is not copied, and count its mean likelihood in nats."""
        self._last_batch = batch
        self._nats, self._nats_terms = self._nats + nll.detach() * terms, self._nats_terms + terms

    def take_mean_nll(self) -> float | None:
        """The mean likelihood since this was last asked for, in nats per term; None if nothing was seen."""
        mean = float(self._nats) / self._nats_terms if self._nats_terms else None
        self._nats, self._nats_terms = 0.0, 0
        return mean

    def go_to(self, step: int, terms: int) -> None:
        """Set where the training of this network stands, whatever it was copied from."""
        if self._source is not None and self._last_batch is None:
            self._last_batch = self._source.last_batch
        self._source = None
        self._context = replace(self._context, step=step, terms=terms)

    def _is_average(self) -> bool:
        """Whether the parameters were written to since the copy was made, and not by training."""
        weight = self._weight
        written = weight is not None and not weight.is_inference() and weight._version > 0
        return written and weight is not None and weight.grad is None

    def __deepcopy__(self, memo: dict[int, Any]) -> Prepared:
        """For copies of the network: only the noise, which moves on, is copied with it.

        The earlier stage's result and the original network, which are as large as the network, are shared.
        """
        now = self.context
        weight = copy.deepcopy(self._weight, memo)  # the copied network's own: ``memo`` holds it
        copied = Prepared(self.method, replace(now, noise=copy.deepcopy(now.noise, memo)), weight)
        copied._source = self
        copied.converted_at, copied.pending_terms = self.converted_at, self.pending_terms
        copied.penalised, copied.original = self.penalised, self.original
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """For pickles: an average is kept at the step that it has now; no batch, and not the original."""
        left_out = {"_source": None, "_last_batch": None, "original": None, "_nats": 0.0, "_nats_terms": 0}
        return {**self.__dict__, "_context": self.context, **left_out}

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint needs to go on to the very same bits: plain numbers and tensors."""
        return {
            "step": self.context.step,
            "terms": self.context.terms,
            "noise": self.context.noise.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; raises InputError for counts that cannot be."""
        step, terms = state["step"], state["terms"]
        if any(type(count) is not int or count < 0 for count in (step, terms)):
            raise InputError(
                f"training cannot stand at step {step!r}, after {terms!r} likelihood terms. Cure: the "
                "dictionary that state_dict() gave"
            )
        self._context.noise.set_state(state["noise"])
        self.go_to(step, terms)

    def advance(self, terms: int | None) -> None:
        """Count a step of training over ``terms`` likelihood terms; raises InputError where nobody said how
        many.
        """
        counted = self.pending_terms if terms is None else terms
        if counted is None:
            raise InputError(
                "step: how many likelihood terms the batch had was not said. Cure: laconic.objective(net, "
                "batch) in "
                "the loop, or laconic.step(net, terms=N) with N the batch's examples (its labelled pixels "
                "or tokens)"
            )
        self.check_terms(counted)
        examples = self.pending_examples if terms is None else None
        note = self._epoch_terms.see(
            counted if examples is None else examples, counted, whole_batch=terms is None
        )
        if note is not None:
            warnings.warn(note, stacklevel=4)
        self.pending_terms = self.pending_examples = None
        self.go_to(self._context.step + 1, self._context.terms + counted)

    def check_terms(self, terms: int) -> None:
        """Raises ScaleError for a batch without terms, or with more than the data set has."""
        size = self.context.data_size
        if isinstance(terms, bool) or not isinstance(terms, int) or terms < 1:
            raise ScaleError(
                f"a batch must have at least one likelihood term, got {terms!r}. Cure: leave out batches "
                "without terms"
            )
        if terms > size:
            raise ScaleError(
                f"a batch with {terms} likelihood terms met data_size={size}. Cure: data_size is the number "
                "of "
                "terms in all training data (examples; for pixel or token labels, pixels or tokens)"
            )


def attach(net: nn.Module, method: Method, context: Context) -> None:
    """Make ``net``, which the method has prepared, a prepared network."""
    net.__dict__[ATTACHED] = Prepared(method, context, next(net.parameters(), None))
    add_likelihood(net, context)
    hold_zeros(net, context.removed)
    net.register_state_dict_post_hook(_add_progress)  # type: ignore[no-untyped-call]
    net.register_load_state_dict_pre_hook(_take_progress)  # type: ignore[no-untyped-call]


def prepared(net: nn.Module, verb: str) -> Prepared:
    """The bookkeeping of a prepared network; raises NotPreparedError for any other module."""
    state = net.__dict__.get(ATTACHED) if isinstance(net, nn.Module) else None
    if not isinstance(state, Prepared):
        raise NotPreparedError(
            f"{verb}: {type(net).__name__} was not prepared (or was converted already). "
            "Cure: net = laconic.prepare(model, method, example, data_size=N)"
        )
    return state


def is_prepared(net: nn.Module) -> bool:
    """Whether ``net`` carries the bookkeeping."""
    return ATTACHED in net.__dict__


# --- the likelihood's own parameters --------------------------------------------------------------------


def add_likelihood(net: nn.Module, context: Context) -> None:
    """Register what the task's likelihood learns, started from the first training batch if there is one."""
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    for name, value in likelihood_start(net, context.task, context.batches).items():
        net.register_parameter(f"{_LIKELIHOOD}{name}", nn.Parameter(value.detach().clone().to(device)))


def likelihood_start(
    net: nn.Module, task: Task, batches: Callable[[], Iterable[Any]] | None
) -> dict[str, Tensor]:
    """What the task's likelihood starts with, from the first training batch and the network as it stands.

    Args:
        net: A network, plain or prepared.
        task: The task.
        batches: A function that gives the training batches; None where there are none.
    """
    start = dict(task.learnt(None))
    first = next(iter(batches()), None) if start and batches is not None else None
    if first is None:
        return start
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    return likelihood_at(net, task, Batch(*to_device(task.split(first), device)))


def likelihood_at(net: nn.Module, task: Task, batch: Batch) -> dict[str, Tensor]:
    """What the task's likelihood starts with, from a batch on the network's device and the network's outputs.

    Args:
        net: A network, plain or prepared.
        task: The task.
        batch: Inputs and target.
    """
    with evaluating(net), torch.no_grad():
        return dict(task.learnt(batch.target, task.prediction(call(net, batch.inputs))))


def likelihood_of(net: nn.Module) -> dict[str, Tensor]:
    """The likelihood's own parameters by name; empty for a task that has none."""
    own = net.named_parameters(recurse=False)
    return {name.removeprefix(_LIKELIHOOD): p for name, p in own if name.startswith(_LIKELIHOOD)}


@contextmanager
def without_likelihood(net: nn.Module) -> Iterator[dict[str, float | list[float]]]:
    """Within the block ``net`` has only its own parameters; gives the likelihood's as numbers."""
    taken = {n: p for n, p in net.named_parameters(recurse=False) if n.startswith(_LIKELIHOOD)}
    for name in taken:
        del net._parameters[name]
    try:
        yield {n.removeprefix(_LIKELIHOOD): p.detach().cpu().tolist() for n, p in taken.items()}
    finally:
        net._parameters.update(taken)


def counted(task: Task, batch: Batch) -> int:
    """The number of likelihood terms of a batch; raises DataError where all labels are ignored."""
    terms = task.terms(batch.target)
    check_any_term(terms)
    return terms


def mean_nll(net: nn.Module, batch: Batch, outputs: Any) -> tuple[Tensor, int]:
    """Mean negative log-likelihood of a batch over its terms, in nats, and the number of terms.

    Raises DataError for a batch whose labels are all ignored.
    """
    state = prepared(net, "objective")
    terms = counted(state.context.task, batch)
    state.check_terms(terms)
    return state.context.task.nll(outputs, batch.target, **likelihood_of(net)) / terms, terms


def unfinished_of(net: nn.Module) -> tuple[str, ...]:
    """Notes on schedules that are not at their end, and on functions that the user's loop did not call."""
    state = prepared(net, "convert")
    return (*state.method.unfinished(state.context), *_never_called(net))


def unfinished_after(net: nn.Module, steps: int, epochs: int) -> tuple[str, ...]:
    """Notes on schedules that will not be at their end when so much training is over."""
    state = prepared(net, "compress")
    end = replace(state.context, step=steps, terms=epochs * state.context.data_size)
    return state.method.unfinished(end)


def _never_called(net: nn.Module) -> tuple[str, ...]:
    """A note on a loop that trained the network without the functions that the method needs."""
    state = prepared(net, "convert")
    trained = any(parameter.grad is not None for parameter in net.parameters())
    if not trained or (state.context.step and (state.penalised or not state.method.in_nats)):
        return ()
    if not state.context.step:
        called = "step" if state.penalised else "objective (or penalty) and step"
        effect = "its schedules stand at their beginning"
    else:
        called, effect = "objective (or penalty)", "it was trained on its loss alone, without the KL"
    return (
        (
            f"the network was trained, but laconic.{called} was never called: {effect}. "
            "Cure: loss = laconic.objective(net, batch); loss.backward(); optimizer.step(); laconic.step(net)"
        ),
    )


# --- what an earlier stage removed ----------------------------------------------------------------------


def hold_zeros(net: nn.Module, removed: Mapping[str, BoolArray]) -> None:
    """Remember which weights an earlier stage has removed, and put them back to zero."""
    if not removed:
        return
    net.__dict__[_ZERO_NAMES] = tuple(removed)
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    for index, mask in enumerate(removed.values()):
        add_mask(net, f"{_ZEROS}{index}", torch.from_numpy(mask).to(device))
    keep_zeros(net)


def zeros_of(net: nn.Module) -> dict[str, Tensor]:
    """By parameter name, where an earlier stage has removed weights (True: removed)."""
    names = net.__dict__.get(_ZERO_NAMES, ())
    return {name: as_mask(net.get_buffer(f"{_ZEROS}{index}")) for index, name in enumerate(names)}


def keep_zeros(net: nn.Module) -> None:
    """Set the weights that an earlier stage has removed to zero again; a posterior there loses its noise,
    too.
    """
    zeros = zeros_of(net)
    if not zeros:
        return
    posteriors, parameters = posteriors_of(net), dict(net.named_parameters())
    with torch.no_grad():
        for name, zero in zeros.items():
            if name in posteriors:
                posteriors[name].hold(~zero)
            else:
                parameters[name].masked_fill_(zero, 0.0)


# --- state dicts and copies -----------------------------------------------------------------------------


def strip(network: nn.Module) -> None:
    """Take the bookkeeping off a plain network that a method copied from the prepared one, or wrapped."""
    for module in network.modules():
        _strip_one(module)


def _strip_one(module: nn.Module) -> None:
    module.__dict__.pop(ATTACHED, None)
    for index in range(len(module.__dict__.pop(_ZERO_NAMES, ()))):
        module._buffers.pop(f"{_ZEROS}{index}", None)
    for name in [n for n in module._parameters if n.startswith(_LIKELIHOOD)]:
        del module._parameters[name]
    for key in [k for k, hook in module._state_dict_hooks.items() if hook is _add_progress]:
        del module._state_dict_hooks[key]
    before_load: dict[int, Any] = module._load_state_dict_pre_hooks  # torch wraps these hooks
    for key in [k for k, hook in before_load.items() if getattr(hook, "hook", hook) is _take_progress]:
        del before_load[key]


def _add_progress(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """State-dict hook: steps and terms travel with the weights, so that warm-up and schedules go on."""
    attached = module.__dict__.get(ATTACHED)
    if attached is not None:  # a copy of an fx.GraphModule has its hooks, but no bookkeeping
        state[prefix + _PROGRESS] = torch.tensor([attached.context.step, attached.context.terms])


def _take_progress(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load hook: go on where the saved training stood; a state dict without that entry changes nothing."""
    found = state.pop(prefix + _PROGRESS, None)
    if found is not None:
        attached = prepared(module, "load_state_dict")
        step, terms = (int(n) for n in found)
        attached.go_to(step, terms)
