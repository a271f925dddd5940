"""The task of a user's own loss function."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from laconic.errors import DataError, InputError, ScaleError
from laconic.tasks import checks, likelihoods
from laconic.tasks.task import Metric, Sums, Task

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class PlainLoss(Task):
    r"""A loss function that returns the mean over a batch, in nats; the metric is the loss itself.

    .. math:: nll = loss(outputs, target) \cdot terms

    The function is one of torch tensors, so that measuring it needs torch. Where a task of this folder fits,
    it is the better choice: its metric is in common use, and it needs no torch to measure a file.

    Args:
        function: ``function(outputs, target)`` -> a scalar, the mean over the batch's terms.
        terms_of: How many terms a batch has: None, one for each entry of the target's first axis; "entries",
            one for each entry of the target; or a function of the target.
        name: What reports call it (empty: the function's name).
        target: Where the target stands in a batch (see :class:`laconic.tasks.Task`).
        inputs: Which keys of a batch are inputs.
        batch_axis: The axis of the inputs along which examples are stacked.

    Raises:
        InputError: ``function`` cannot be called, or ``terms_of`` is something else.

    >>> import torch
    >>> task = PlainLoss(torch.nn.functional.cross_entropy)
    >>> nll = task.nll(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
    >>> task.metric.name, round(nll.item(), 4)
    ('cross_entropy', 2.0794)
    """

    function: Loss
    terms_of: Literal["entries"] | Callable[[Any], int] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise InputError(
                f"a loss must be a function of (outputs, target), got {self.function!r}"
                ". Cure: torch.nn.functional.cross_entropy, or another function"
            )
        if self.terms_of not in (None, "entries") and not callable(self.terms_of):
            raise InputError(
                f"terms_of must be None, 'entries' or a function, got {self.terms_of!r}. Cure: terms_of=None"
            )

    @property
    def metric(self) -> Metric:
        """The mean loss."""
        return Metric(self.name or name_of(self.function), tolerance=0.01, relative=True)

    def terms(self, target: Any) -> int:
        """Number of terms, as ``terms_of`` says."""
        if callable(self.terms_of):
            return int(self.terms_of(target))
        shape = getattr(target, "shape", None)
        if not shape:
            raise InputError(
                f"{self.metric.name}: terms cannot be counted in a {type(target).__name__} without axes. "
                "Cure: terms_of=FUNCTION, which counts them"
            )
        return int(shape[0] if self.terms_of is None else math.prod(shape))

    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        """The loss times the number of terms (see :meth:`laconic.tasks.Task.nll`).

        A loss that is NaN is let through: the training loop names the layer that it comes from.
        """
        nll: Tensor = self._loss(outputs, target) * self.terms(target)
        return nll

    def measure(self, outputs: Any, target: Any) -> Sums:
        """The loss times the number of terms, and that number. Imports torch."""
        checks.arrays_only(outputs, target)
        return np.array([self.nats(outputs, target), self.terms(target)])

    def nats(self, outputs: Any, target: Any) -> float:
        """:meth:`nll` on NumPy arrays. Imports torch.

        Raises:
            DataError: The loss is not finite.
            InputError: The loss is not one number, or torch is not installed.
        """
        checks.arrays_only(outputs, target)
        try:
            import torch
        except ModuleNotFoundError as error:
            raise InputError(
                f"{self.metric.name} is a function of torch tensors, and torch is not installed. "
                "Cure: pip install 'laconic[train]'"
            ) from error
        loss = float(self._loss(torch.from_numpy(outputs), torch.from_numpy(target)))
        _refuse_non_finite(loss, self.metric.name)
        return loss * self.terms(target)

    def check_scale(self, outputs: Any, target: Any) -> None:
        """Refuse a loss that cannot be nats per term (see :func:`check_scale`)."""
        check_scale(self.function, outputs, target)

    def _loss(self, outputs: Any, target: Any) -> Any:
        if hasattr(outputs, "is_floating_point") and outputs.is_floating_point():
            outputs = likelihoods.full_precision(outputs)
        return _scalar(self.function(outputs, target), self.metric.name)


def name_of(function: Loss) -> str:
    """What a loss is called: the name of a function, the class of a module or an object.

    >>> name_of(functools.partial(max)), name_of(lambda outputs, target: 0)
    ('max', 'loss')
    """
    while isinstance(function, functools.partial):
        function = function.func
    name = str(getattr(function, "__name__", type(function).__name__))
    return "loss" if name == "<lambda>" else name


def check_scale(loss: Loss, outputs: Any, target: Any) -> None:
    """Refuse a loss that cannot be nats per term, before time is lost.

    A squared or absolute error has the target's unit, not nats: beside the KL, its weight would be that of a
    Gaussian or Laplace likelihood with an arbitrary noise scale. Such a loss is recognised by its value,
    also inside another function. A loss that doubles when the batch is repeated is a sum over it, and the
    KL would be divided by N, but not the loss.

    Args:
        loss: ``loss(outputs, target)`` -> a scalar.
        outputs: What the network returned for a batch (torch).
        target: The batch's target.

    Raises:
        DataError: The loss is not finite.
        InputError: The loss is not one number.
        ScaleError: A squared, absolute or Huber error, or a sum over the batch.

    >>> import torch
    >>> check_scale(torch.nn.MSELoss(), torch.zeros(4, 1), torch.ones(4, 1))
    Traceback (most recent call last):
    ...
    laconic.errors.ScaleError: the loss MSELoss is mse_loss, which has the target's unit and is no number
    of nats. Cure: the task Regression, which has a noise scale
    """
    import torch

    name = name_of(loss)
    with torch.no_grad():
        value = float(_scalar(loss(outputs, target), name))
        _refuse_non_finite(value, name)
        error = _error_without_scale(loss, value, outputs, target)
        if error:
            raise ScaleError(
                f"the loss {name} is {error}, which has the target's unit and is no number of nats. "
                "Cure: the task Regression, which has a noise scale"
            )
        try:
            twice = float(_scalar(loss(_repeated(outputs), _repeated(target)), name))
        except (RuntimeError, ValueError, IndexError):
            return  # the loss holds to one batch size, and nothing can be said of its reduction
    if value and math.isclose(twice, 2 * value, rel_tol=1e-3):
        raise ScaleError(
            f"the loss {name} is a sum over the batch: it goes from {value:g} to {twice:g} when each example "
            "is given twice, and the KL is divided by the number of terms. Cure: reduction='mean'"
        )


def _error_without_scale(loss: Loss, value: float, outputs: Any, target: Any) -> str:
    """Which of torch's losses of a quantity this is, or has this value; empty where none."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    function = loss.func if isinstance(loss, functools.partial) else loss
    known: dict[type[nn.Module], Callable[..., Tensor]] = {
        nn.MSELoss: F.mse_loss,
        nn.L1Loss: F.l1_loss,
        nn.SmoothL1Loss: F.smooth_l1_loss,
        nn.HuberLoss: F.huber_loss,
    }
    for module, plain in known.items():
        if function is plain or isinstance(function, module):
            return plain.__name__
    both = isinstance(outputs, torch.Tensor) and isinstance(target, torch.Tensor)
    if not both or not target.is_floating_point() or outputs.shape != target.shape or value == 0:
        return ""
    for plain in known.values():
        for reduction in ("mean", "sum"):
            if math.isclose(value, float(plain(outputs, target, reduction=reduction)), rel_tol=1e-5):
                return plain.__name__
    return ""


def _repeated(values: Any) -> Any:
    """A batch followed by itself."""
    import torch

    if isinstance(values, torch.Tensor):
        return torch.cat([values, values])
    if isinstance(values, Mapping):
        return {key: _repeated(part) for key, part in values.items()}
    if isinstance(values, tuple | list):
        return type(values)(_repeated(part) for part in values)
    return values


def _scalar(loss: Any, name: str) -> Any:
    shape = tuple(getattr(loss, "shape", ()))
    if math.prod(shape) != 1 or not (hasattr(loss, "shape") or isinstance(loss, int | float)):
        what = f"shape {shape}" if hasattr(loss, "shape") else f"a {type(loss).__name__}"
        raise InputError(f"the loss {name} returned {what}, not one number. Cure: reduction='mean'")
    return loss.reshape(()) if shape else loss


def _refuse_non_finite(loss: float, name: str) -> None:
    if not math.isfinite(loss):
        raise DataError(
            f"the loss {name} is {loss}. "
            "Cure: look for NaN or infinite values in the inputs, the targets and the network's weights"
        )
