r"""Distillation (Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network", 1503.02531,
section 2).

Posterior: none (a point). Decision: none; all weights stay, as they are or on a grid. The objective is

.. math:: (1-w)\, L(z, y) + w\, T^2\, \mathrm{KL}\big(p(z^t/T) \,\|\, p(z/T)\big), \quad p = \mathrm{softmax}

in nats per likelihood term, with a teacher's logits :math:`z^t`; :math:`T^2` keeps the gradient's size
whatever the temperature. Another method can be used at the same time: with ``method=SparseVD()`` a network is
pruned while it learns from the teacher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.methods.common.grid_choice import GridChoice, finish
from laconic.methods.common.point import on_a_grid
from laconic.methods.contract import Compressed, Context, Judge, Method, check_method
from laconic.methods.registry import MethodEntry
from laconic.networks import arguments, duplicate, with_tensors
from laconic.networks.probe import check_model
from laconic.tasks import (
    Batch,
    BinaryClassification,
    LanguageModelling,
    MultiLabel,
    Regression,
    Segmentation,
    SequenceLabelling,
    Task,
)
from laconic.tasks.checks import check_any_term


@dataclass(frozen=True)
class NoCompression(Method):
    """Training as usual: nothing is removed; the weights stay float32, or go on a grid.

    Args:
        grid: How the weights are quantised; None leaves them as they are.

    >>> import laconic
    >>> net = laconic.prepare(nn.Linear(8, 4), NoCompression(GridChoice()), torch.zeros(1, 8), data_size=100)
    >>> list(laconic.convert(net).tensors)
    ['weight', 'bias']
    """

    grid: GridChoice | None = None

    @property
    def gentler(self) -> str:  # type: ignore[override]
        """Smaller steps; without a grid nothing but training changes the metric."""
        return "lower fit.lr" if self.grid is None else "finer grid.steps"

    @property
    def smaller(self) -> str:  # type: ignore[override]
        """Larger steps, or a grid at all."""
        return "value for grid" if self.grid is None else "coarser grid.steps"

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A copy."""
        check_model(model, example)
        return duplicate(model)

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """The network as it was trained."""
        plain = duplicate(module)
        if self.grid is None:
            return finish(plain, {}, {}, judge)
        return on_a_grid(plain, self.grid, context, judge)


@dataclass(frozen=True)
class Distillation(Method):
    r"""A network learns from a teacher's outputs as well as from the labels (Hinton 2015, section 2).

    .. math:: (1-w)\, L(z, y) + w\, T^2\, \mathrm{KL}\big(p(z^t/T) \,\|\, p(z/T)\big)

    Both parts are means over the terms of the likelihood: ignored positions do not count in either.

    The teacher is copied, put into evaluation mode and never trained. Where none is given, it is the network
    that the job began with, before anything was removed from it.

    Args:
        method: What else is done to the network; by default nothing.
        teacher: The network to learn from, which takes the same inputs; None: the job's original network.
        temperature: By what the logits are divided, T.
        weight: The teacher's share of the loss, w, in (0, 1].

    Raises:
        InputError: A setting outside its bounds, or a ``method`` that is none.

    >>> z = torch.tensor([[2.0, 0.0]])
    >>> float(Distillation(weight=1.0).loss(z, z, torch.tensor(5.0)))  # it agrees with the teacher
    0.0
    """

    method: Method = field(default_factory=NoCompression)
    teacher: nn.Module | None = None
    temperature: float = 4.0
    weight: float = 0.9

    def __post_init__(self) -> None:
        check_method(self.method, "distillation")
        if not (self.temperature > 0 and math.isfinite(self.temperature)) or not 0 < self.weight <= 1:
            raise InputError(
                f"need temperature > 0 and 0 < weight <= 1, got {self.temperature} and {self.weight}"
                ". Cure: temperature=4, weight=0.9"
            )

    @property
    def in_nats(self) -> bool:  # type: ignore[override]
        """As the other method."""
        return self.method.in_nats

    @property
    def gentler(self) -> str:  # type: ignore[override]
        """The other method's, whose fields are named as fields of ``method``."""
        return _within_method(self.method.gentler)

    @property
    def smaller(self) -> str:  # type: ignore[override]
        """The other method's, whose fields are named as fields of ``method``."""
        return _within_method(self.method.smaller)

    @property
    def changes_architecture(self) -> bool:  # type: ignore[override]
        """As the other method."""
        return self.method.changes_architecture

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """What the other method prepares, with the teacher beside it."""
        if isinstance(context.task, Regression):
            raise InputError(
                "distillation compares classes, and Regression has none. Cure: another method, or the "
                "teacher's outputs as targets"
            )
        net = self.method.prepare(model, example, context)
        device = next(model.parameters()).device
        original = model if context.original is None else context.original
        teacher = duplicate(original if self.teacher is None else self.teacher).to(device).eval()
        for parameter in teacher.parameters():
            parameter.requires_grad_(False)
        net.__dict__[_TEACHER] = teacher  # no child module: its weights are no part of the network's state
        return net

    def penalty(self, module: nn.Module, context: Context) -> Tensor:
        """The other method's."""
        return self.method.penalty(module, context)

    def objective(
        self, module: nn.Module, batch: Batch, outputs: Any, nll: Tensor, context: Context
    ) -> Tensor:
        """The loss on the labels and the divergence from the teacher, weighed, in place of the likelihood."""
        # The student's layout may not be the teacher's: one that flattens with .view takes only plain images.
        args, kwargs = arguments(with_tensors(batch.inputs, torch.Tensor.contiguous))
        with torch.no_grad():
            said = context.task.prediction(module.__dict__[_TEACHER](*args, **kwargs))
        loss = self.loss(outputs, said, nll, context.task, batch.target)
        return self.method.objective(module, batch, outputs, loss, context)

    def loss(
        self,
        student: Tensor,
        teacher: Tensor,
        nll: Tensor,
        task: Task | None = None,
        target: Any = None,
    ) -> Tensor:
        """The weighted loss of a batch, in nats per term (equation at the top of this module).

        Args:
            student: Logits, the classes along axis 1 of two or four, or along the last of three axes; one
                logit for each answer of yes or no.
            teacher: Logits of the same shape.
            nll: Mean negative log-likelihood of the labels, in nats per term: a scalar.
            task: What the network is for: where the classes are, and which positions are terms (None: all).
            target: The batch's target. The divergence is averaged over the terms of the likelihood alone, so
                that ignored pixels and padded tokens do not count.

        Returns:
            A differentiable scalar.

        Raises:
            DataError: A batch whose labels are all ignored, or that is empty.
            InputError: Different shapes, outputs that are no logits, or a task that does not say which
                positions are terms or where the classes are.
        """
        if not isinstance(student, Tensor) or not isinstance(teacher, Tensor) or student.ndim < 1:
            raise InputError("distillation needs logits: one tensor with classes. Cure: another method")
        if student.shape != teacher.shape:
            raise InputError(
                f"the teacher returns shape {tuple(teacher.shape)}, the student {tuple(student.shape)}. "
                "Cure: a teacher with the same classes"
            )
        axis = _class_axis(student, task, target)
        if axis is None:  # the two classes of one logit z have logits z and 0
            student, teacher = (torch.stack([z, torch.zeros_like(z)], -1) for z in (student, teacher))
            axis = student.ndim - 1
        counted = _counted(student, axis, task, target)
        if counted is not None and not bool(counted.all()):
            student, teacher = (z.movedim(axis, -1)[counted] for z in (student, teacher))
            axis = 1
        t = self.temperature
        exact = torch.promote_types(student.dtype, torch.float32)  # not in a network's 16 bits
        ours, theirs = (F.log_softmax(z.to(exact) / t, dim=axis) for z in (student, teacher))
        terms = student.numel() // student.shape[axis]
        check_any_term(terms)
        divergence = F.kl_div(ours, theirs, log_target=True, reduction="sum") / terms
        return (1 - self.weight) * nll + self.weight * t * t * divergence

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """The other method's."""
        return self.method.param_groups(module, lr)

    def step(self, module: nn.Module, context: Context) -> None:
        """The other method's."""
        self.method.step(module, context)

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """The other method's."""
        return self.method.unfinished(context)

    def planned_epochs(self) -> float:
        """The other method's."""
        return self.method.planned_epochs()

    def weights_left(self, module: nn.Module) -> dict[str, int]:
        """The other method's."""
        return self.method.weights_left(module)

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """What the other method makes of the network, without the teacher."""
        teacher = module.__dict__.pop(_TEACHER)
        try:
            small = self.method.convert(module, context, judge)
        finally:
            module.__dict__[_TEACHER] = teacher
        return replace(
            small, facts={**small.facts, "temperature": self.temperature, "teacher_weight": self.weight}
        )


def _within_method(cure: str) -> str:
    """A cure whose fields are those of the field ``method``; settings of training (``fit.``) stay.

    >>> _within_method("higher kl_weight, coarser grid.steps")
    'higher method.kl_weight, coarser method.grid.steps'
    """
    parts = (part.rpartition(" ") for part in cure.split(", "))
    return ", ".join(f"{a}{b}{c if c.startswith('fit.') else f'method.{c}'}" for a, b, c in parts)


def _class_axis(logits: Tensor, task: Task | None, target: Any) -> int | None:
    """The axis of the classes; None where each logit stands for two classes.

    For a task that does not say, it is the axis by which logits have one more than the labels.
    """
    if isinstance(task, BinaryClassification | MultiLabel) or logits.ndim < 2:
        return None
    axis = 2 if logits.ndim == 3 and not isinstance(task, Segmentation) else 1
    shape = getattr(target, "shape", None)
    if logits.ndim > 2 and not isinstance(task, Segmentation | SequenceLabelling | LanguageModelling):
        sizes = tuple(logits.shape)
        fits = [k for k in (1, logits.ndim - 1) if (*sizes[:k], *sizes[k + 1 :]) == shape]
        if len(fits) > 1:
            raise InputError(
                f"distillation: the classes of outputs {sizes} with targets {tuple(target.shape)} may be on "
                f"axis {fits[0]} or on axis {fits[1]}. Cure: the task Segmentation (axis 1), "
                "SequenceLabelling or LanguageModelling (the last axis)"
            )
        axis = fits[0] if fits else axis
    return None if logits.shape[axis] == 1 else axis


def _counted(logits: Tensor, axis: int, task: Task | None, target: Any) -> Tensor | None:
    """Which positions of the logits, the classes left out, are terms of the likelihood (None: all).

    A loss that is a mean over examples has one term an example, whatever number of positions it has.
    """
    if task is None or target is None:
        return None
    sizes = (*logits.shape[:axis], *logits.shape[axis + 1 :])
    counted, name = task.counted(target), type(task).__name__
    if counted is None:
        terms = task.terms(target)
        if terms not in (math.prod(sizes), logits.shape[0]):
            raise InputError(
                f"distillation: {name} counts {terms} terms, and the outputs have {math.prod(sizes)} "
                f"positions. Cure: a task whose counted(target) says which of them are terms"
            )
        return None
    if counted.numel() != math.prod(sizes):
        raise InputError(
            f"distillation: {name}.counted returned shape {tuple(counted.shape)}, and the outputs have "
            f"positions {sizes}. Cure: one boolean a position"
        )
    found: Tensor = counted.reshape(sizes)
    return found


_TEACHER = "_laconic_teacher"


METHOD = MethodEntry(
    "distillation",
    Distillation,
    presets={"full": {"": {"fit.epochs": 20}}, "demo": {"": {"fit.epochs": 8}}},
    paper="Hinton, Vinyals & Dean, Distilling the Knowledge in a Neural Network, 2015",
)
