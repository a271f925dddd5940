"""What every method promises: the same verbs, in the same order, over the same context."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from laconic.errors import InputError
from laconic.networks.noise import NoiseSource
from laconic.networks.policy import Policy, weights_of
from laconic.own import did_you_mean
from laconic.records import ActivationRange
from laconic.records import Tensor as StoredTensor
from laconic.registry import METHODS
from laconic.rows import settings_of
from laconic.schedules import WarmUp
from laconic.tasks import Batch, Classification, Metric, Task
from laconic.tasks import Score as Score
from laconic.tasks.checks import check_data_size
from laconic.text import counted

BoolArray = npt.NDArray[np.bool_]
Evaluate = Callable[[nn.Module], Score]
Divergence = Callable[[nn.Module, nn.Module], float]


@dataclass(frozen=True)
class Context:
    """What a method knows of the training that it takes part in, and how far that is.

    Args:
        data_size: Number of likelihood terms in all training data, N; the KL is divided by it.
        noise: The only source of randomness.
        step: Optimiser steps done.
        terms: Likelihood terms trained on, ignored labels not counted.
        total_steps: Planned optimiser steps, where they are known.
        example: The input that the network was prepared with.
        policy: The user's settings for single parameters: which stay as they are, which are weights.
        task: What the network is for.
        batches: A function that returns an iterable over the training batches, each time anew; None where
            the user trains with a loop of their own and handed no batches in.
        previous: What the stage before this one made, in a job of several stages.
        original: The plain network that the job began with; None where this is the first stage, which begins
            with it.

    Raises:
        InputError: ``total_steps`` below 1.
        ScaleError: A ``data_size`` that is no positive integer.

    >>> context = Context(data_size=100, noise=NoiseSource(0), step=5, terms=250)
    >>> context.epochs, context.progress(epochs=10)
    (2.5, 0.25)
    """

    data_size: int
    noise: NoiseSource
    step: int = 0
    terms: int = 0
    total_steps: int | None = None
    example: Any = None
    policy: Policy = Policy()
    task: Task = field(default_factory=Classification)
    batches: Callable[[], Iterable[Any]] | None = None
    previous: Compressed | None = None
    original: nn.Module | None = None

    def __post_init__(self) -> None:
        check_data_size(self.data_size)
        if self.total_steps is not None and self.total_steps < 1:
            raise InputError(
                f"total_steps must be positive or None, got {self.total_steps}. Cure: total_steps=None"
            )

    @property
    def removed(self) -> dict[str, BoolArray]:
        """By name, which weights the stage before this one has removed (True: removed); they stay at zero."""
        if self.previous is None:
            return {}
        weights = weights_of(self.previous.module)
        found = {n: np.asarray(t.values()) == 0 for n, t in self.previous.tensors.items() if n in weights}
        found = {**self.previous.removed, **found}
        return {name: zero for name, zero in found.items() if zero.any()}

    @property
    def epochs(self) -> float:
        """Passes over the training data so far."""
        return self.terms / self.data_size

    def progress(self, epochs: float) -> float:
        """Share of training that is done: of ``total_steps``, or of ``epochs`` where these are not known."""
        return self.epochs / epochs if self.total_steps is None else self.step / self.total_steps


@dataclass(frozen=True)
class Target:
    """What the user asks for; ``None`` leaves a side free.

    Args:
        max_drop: How much worse than the original network's the task's metric may become on the validation
            split, in the metric's unit (percentage points for an error in percent).
        max_bytes: Length of the file, in bytes.
        max_kl: How far predictions may be from the original network's on inputs that decided nothing, in nats
            per likelihood term (see ``Task.divergence``). It needs no labels, and a method that measures it.

    Raises:
        InputError: A negative ``max_drop``, a negative or infinite ``max_kl``, ``max_bytes`` that is no whole
            number from 1, or what is no number.

    >>> Target(max_drop=0.5).max_bytes is None
    True
    """

    max_drop: float | None = None
    max_bytes: int | None = None
    max_kl: float | None = None

    def __post_init__(self) -> None:
        for name, usual in (("max_drop", "0.5"), ("max_bytes", "30_000"), ("max_kl", "0.01")):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise InputError(f"{name} must be a number, got {value!r}. Cure: Target({name}={usual})")
        if self.max_kl is not None and not 0 <= self.max_kl < math.inf:
            raise InputError(
                f"max_kl is in nats per term and must be >= 0 and finite, got {self.max_kl}. "
                "Cure: max_kl=0.01"
            )
        if self.max_drop is not None and not self.max_drop >= 0:
            raise InputError(
                f"max_drop is in the metric's unit and must be >= 0, got {self.max_drop}. Cure: max_drop=0.5"
            )
        if self.max_bytes is not None and not (0 < self.max_bytes < math.inf):
            raise InputError(f"max_bytes must be positive, got {self.max_bytes}. Cure: max_bytes=30_000")
        if self.max_bytes is not None and self.max_bytes != int(self.max_bytes):
            raise InputError(
                f"max_bytes must be a whole number, got {self.max_bytes}. "
                f"Cure: max_bytes={max(1, int(self.max_bytes))}"
            )


@dataclass(frozen=True)
class Judge:
    """How ``convert`` tells good settings from bad ones: the validation split, never the test set.

    Args:
        evaluate: Scores a plain network.
        original: The uncompressed network's score.
        target: What the user asks for.
        metric: What ``Score.metric`` is.
        divergence: How far the predictions of a network (first) are from another's (second), in nats per
            likelihood term; None where nothing measures it.

    >>> original = Score(metric=2.0, nll=0.1, terms=1000)
    >>> judge = Judge(lambda network: original, original, Target(max_drop=0.5))
    >>> judge.accepts(Score(2.5, 0.1, 1000), original), judge.accepts(Score(2.6, 0.1, 1000), original)
    (True, False)
    """

    evaluate: Evaluate
    original: Score | None = None
    target: Target = field(default_factory=Target)
    metric: Metric = field(default_factory=lambda: Classification().metric)
    divergence: Divergence | None = None

    def accepts(self, score: Score, before: Score, allowance: float | None = None) -> bool:
        """Whether a metric is good enough.

        That is, no worse than the target allows against the original network or, where no target was set, no
        worse than ``before`` by ``allowance`` (None: the metric's own), in the metric's unit.
        """
        if self.target.max_drop is not None and self.original is not None:
            before, allowed = self.original, self.target.max_drop
        else:
            allowed = self.metric.allowance(before.metric) if allowance is None else allowance
        rounding = 1e-9 * max(1.0, abs(before.metric))  # a drop of exactly the allowance is allowed
        return self.metric.drop(before.metric, score.metric) <= allowed + rounding


@dataclass(frozen=True, eq=False)
class Compressed:
    """A compressed network: a plain module, its tensors as integers on grids, and facts.

    Args:
        module: A plain network whose parameters hold exactly the values that ``tensors`` decode to.
        tensors: What the file will hold, by parameter name; other parameters are stored as they are.
        facts: JSON-able: what was chosen, and what it measured on the validation split.
        example: The input that the graph is captured with when the network is saved.
        ranges: The activation ranges of a network calibrated for int8 (see ``laconic.quantize_activations``).
        dynamic: The axes that are free in its file (see ``laconic.save``).
        architecture_changed: Whether the module has other layers or sizes than the network it was made from,
            so that weights of the one cannot be loaded into the other.
        stages: The facts of the stages before this one, in order.
        removed: By name, what earlier stages have removed (True: removed) of weights that ``tensors`` does
            not hold.

    >>> from laconic.records import IntTensor, UniformGrid
    >>> weight = IntTensor("weight", np.int32([[1, 0]]), UniformGrid(0.5))
    >>> Compressed(nn.Linear(2, 1, bias=False), {"weight": weight}, {"step": 0.5}).record
    {'step': 0.5, 'tensors': {'weight': {'weights': 2, 'nonzeros': 1}}}
    """

    module: nn.Module
    tensors: Mapping[str, StoredTensor]
    facts: Mapping[str, Any]
    example: Any = None
    ranges: tuple[ActivationRange, ...] = ()
    dynamic: Any = None
    architecture_changed: bool = False
    stages: tuple[Mapping[str, Any], ...] = ()
    removed: Mapping[str, BoolArray] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """Counts by tensor beside ``facts``: weights, non-zeros, share of non-zeros."""
        rows = {name: {"weights": t.size, "nonzeros": t.nonzeros()} for name, t in self.tensors.items()}
        return {**self.facts, "tensors": rows}


class Method(ABC):
    """A published method: a frozen dataclass with these verbs, of which only ``prepare`` and ``convert``
    must be written.

    The verbs that have a default make a method that trains as usual.
    """

    in_nats: ClassVar[bool] = False
    """Whether the method weighs the likelihood against a penalty in nats, so that the loss must be a
    likelihood.
    """
    changes_architecture: ClassVar[bool] = False
    """Whether ``convert`` returns other layers or sizes than the network has that it was given."""
    measures_divergence: ClassVar[bool] = False
    """Whether ``convert`` measures how far predictions are from the original's, as ``Target.max_kl`` asks."""
    gentler: ClassVar[str] = "setting of the method that compresses less"
    """The settings to change for a smaller loss of the metric, as a message names them after "a": parts with
    commas between them, each of which ends with the name of a field, as "lower kl_weight".
    """
    smaller: ClassVar[str] = "setting of the method that compresses more"
    """The settings to change for a smaller file, written as in ``gentler``."""
    refused: ClassVar[Mapping[str, str]] = {}
    """Settings of other methods that this one cannot take, and why, for the message that refuses them."""

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Refuse a setting that the method does not have, with a cure in place of a TypeError."""
        owner = next(kind for kind in cls.__mro__ if "__init__" in vars(kind))
        if "__dataclass_fields__" in vars(owner):  # its arguments are its fields
            check_settings(cls, settings)
        return super().__new__(cls)

    deciding: ClassVar[str] = "choosing the grid on the validation split"
    """What ``convert`` does, as the progress of a run shows it."""

    @abstractmethod
    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A trainable copy with the same forward signature, the weights of ``model`` and each layer in the
        mode that it came in; ``model`` is left as it was.
        """

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """Nats for the whole data set, already weighted (KL weight, warm-up); a differentiable scalar.
        Default: zero.
        """
        return torch.zeros((), device=next(module.parameters()).device)

    def objective(
        self, module: nn.Module, batch: Batch, outputs: Any, nll: torch.Tensor, context: Context
    ) -> torch.Tensor:
        r"""What a step of training minimises, in nats per likelihood term.

        By default the description length, :math:`nll + penalty / N`. A method writes its own where it learns
        from something else: a teacher's outputs, a rate, a quantiser's regulariser.

        Args:
            module: The prepared network.
            batch: The batch's inputs and target.
            outputs: What the network returned for the batch.
            nll: Mean negative log-likelihood over the batch's terms, in nats; a differentiable scalar.
            context: Where training stands; ``context.data_size`` is N.

        Returns:
            A differentiable scalar.
        """
        return nll + self.penalty(module, context) / context.data_size

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Optimiser parameter groups with the method's learning-rate ratios. Default: all parameters at
        ``lr``.
        """
        return [{"params": list(module.parameters()), "lr": lr}]

    def step(self, module: nn.Module, context: Context) -> None:  # noqa: B027 - a default
        """Called after each optimiser step, for schedules and projections. Default: nothing."""

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """What the method's schedule still had to do where training stands, in words, each with a cure.
        Default: none.
        """
        return ()

    def planned_epochs(self) -> float:
        """Epochs that the method's schedules need to run to their end. Default: 0."""
        return 0.0

    def weights_left(self, module: nn.Module) -> dict[str, int]:
        """Weights of each tensor that would stay if training ended now; empty where the method cannot say."""
        return {}

    @abstractmethod
    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Decide: a plain network whose weights are integers on grids."""


def check_settings(kind: type[Method], settings: Iterable[str]) -> None:
    """Raises InputError for the first name that is no setting of a method's dataclass."""
    known = [f.name for f in fields(kind) if f.init]  # type: ignore[arg-type]
    wrong = next((name for name in settings if name not in known), None)
    if wrong is None:
        return
    why = f": {kind.refused[wrong]}" if wrong in kind.refused else ""
    places = METHODS.known()
    having = sorted(method for method, place in places.items() if wrong in (settings_of(place) or ()))
    cure = did_you_mean(wrong, known)
    if having:
        cure = f"leave it out, or a method that has it ({', '.join(having)})"
    raise InputError(f"{kind.__name__} has no setting {wrong!r}{why}. Cure: {cure}")


def schedule_left(reached: float, final: float, what: str, context: Context) -> tuple[str, ...]:
    """A note where a schedule has not removed all that it should."""
    if reached >= final - 1e-9:
        return ()
    return (
        (
            f"the schedule stands at {100 * reached:.1f} % of the {what} removed after {context.epochs:g} "
            "epochs, "
            f"{100 * final:.1f} % were asked for: {100 * reached:.1f} % are removed. "
            "Cure: train to the end of the schedule, a smaller epochs, or total_steps in laconic.prepare"
        ),
    )


def warm_up_left(warm_up: WarmUp, context: Context) -> tuple[str, ...]:
    """A note where training stands before a KL's warm-up is over."""
    if context.epochs >= warm_up.end:
        return ()
    return (
        (
            f"training ends after {counted(context.epochs, 'epoch')}, before the KL's warm-up does (epoch "
            f"{warm_up.end:g}): it never "
            f"counts in full. Cure: more than {warm_up.end:g} epochs, or an earlier warm_up.end"
        ),
    )


def check_method(method: Any, verb: str) -> None:
    """Raises InputError for anything but an instance of :class:`Method`."""
    if isinstance(method, Method):
        return
    if isinstance(method, type):
        told, cure = f"the class {method.__name__}", f"an instance, as {method.__name__}()"
    elif isinstance(method, str):
        told, cure = f"the text {method!r}", "an object, as laconic.methods.SparseVD()"
    else:
        told, cure = f"a {type(method).__name__}", "an object whose class inherits laconic.methods.Method"
    raise InputError(f"{verb}: {told} is no method. Cure: {cure}")
