"""Quantities with Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from laconic.errors import DataError, InputError
from laconic.tasks import checks, likelihoods
from laconic.tasks.predictive import Gaussian
from laconic.tasks.registry import TaskEntry
from laconic.tasks.task import Metric, Sums, Task

if TYPE_CHECKING:
    from torch import Tensor

TAKES = "outputs and targets of one shape, (N,), (N, D) or (N, D, ...)"
RMSE, R2 = "rmse", "r2"


@dataclass(frozen=True)
class Regression(Task):
    r"""Quantities with Gaussian noise; metric: root mean squared error in the target's unit, or R2.

    .. math:: \sum_n \frac12\log 2\pi s^2 + \frac12\Big(\frac{f(x_n) - y_n}{s}\Big)^2

    Outputs and targets have one shape, (N,), (N, D) or (N, D, ...). Each entry is one term, unless its
    target is NaN. The noise's standard deviation s says how much an error of one unit weighs beside the
    weights' KL: without it, a squared error is no number of nats.

    R2 is the mean over the D outputs of :math:`1 - \sum_n r_n^2 / \sum_n (y_n - \bar y)^2`.

    Args:
        noise: "learnt": s is trained with the network. Or s itself, in the target's unit, > 0: one number,
            or a tuple of one for each of the D outputs on axis 1.
        metric_name: "rmse" or "r2".
        unit: The target's unit, for reports.
        target: Where the target stands in a batch (see :class:`laconic.tasks.Task`).
        inputs: Which keys of a batch are inputs.
        batch_axis: The axis of the inputs along which examples are stacked.

    Raises:
        InputError: A noise that is not positive and finite, or another metric's name.

    >>> task = Regression(noise=2.0, unit="mm")
    >>> sums = task.measure(np.array([1.0, 3.0]), np.array([1.0, 6.0]))
    >>> task.metric.show(task.value(sums)), round(task.nats(np.array([1.0]), np.array([3.0])), 4)
    ('2.121 mm', 2.1121)

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equations 1.62 (likelihood) and 1.63
    (noise).
    """

    noise: Literal["learnt"] | float | tuple[float, ...] = "learnt"
    metric_name: Literal["rmse", "r2"] = "rmse"
    unit: str = ""

    one_tensor = True
    term = "value"
    takes = TAKES

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.noise, list):
            object.__setattr__(self, "noise", tuple(self.noise))  # a list, as JSON has it, has no hash
        if self.noise != "learnt":
            _check_noise(self.noise)
        if self.metric_name not in (RMSE, R2):
            raise InputError(
                f"metric_name must be 'rmse' or 'r2', got {self.metric_name!r}. Cure: metric_name='rmse'"
            )

    @property
    def metric(self) -> Metric:
        """Root mean squared error in the target's unit, or R2."""
        if self.metric_name == R2:
            return Metric("R2", higher_is_better=True, tolerance=0.01)
        return Metric("RMSE", self.unit, tolerance=0.01, relative=True)

    def terms(self, target: Any) -> int:
        """Number of entries that are not NaN."""
        return int((target == target).sum())

    def counted(self, target: Any) -> Any:
        """Which entries are not NaN (see :meth:`laconic.tasks.Task.counted`)."""
        return target == target

    def learnt(self, target: Any, outputs: Any = None) -> Mapping[str, Tensor]:
        """``{"log_noise": log s}``, a scalar; none where the noise is given.

        It starts at the root mean square of the network's residuals, or where its outputs are not known at
        the standard deviation of the targets, which is the noise of a network that always predicts
        their mean. So the first residuals are about one s large, whatever the target's unit and however good
        the network is, and neither the likelihood nor the KL outweighs the other from the start.

        Args:
            target: The target of a training batch; None where there is none, and s then starts at 1.
            outputs: The network's outputs for that batch, of the same shape; None where they are not known.
        """
        if self.noise != "learnt":
            return {}
        if target is None:
            import torch

            return {"log_noise": torch.zeros(())}
        known = target == target
        values = target.detach()[known].cpu().double()
        scale = float(values.std(correction=0)) if len(values) else 0.0
        if not math.isfinite(scale):
            raise DataError("a target is infinite. Cure: finite numbers, NaN where there is none")
        if outputs is not None:
            _check(outputs, target)
            residual = float((outputs.detach()[known].cpu().double() - values).square().mean().sqrt())
            # Residuals that are all zero, or not finite, give no estimate of the noise.
            scale = residual if math.isfinite(residual) and residual > 0 else scale
        # Neither do targets that are all equal, as those of a batch of one.
        return {"log_noise": target.new_tensor(math.log(scale) if scale > 0 else 0.0, dtype=_float32())}

    def outputs_for(self, target: Any) -> tuple[int, ...]:
        """See :meth:`laconic.tasks.Task.outputs_for`."""
        return tuple(target.shape)

    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        """Gaussian negative log-likelihood, summed over the entries (see :meth:`laconic.tasks.Task.nll`).

        Args:
            outputs: (N,), (N, D) or (N, D, ...).
            target: The same shape.
            learnt: ``log_noise``, a scalar, where the noise is learnt.
        """
        known = _check(outputs, target)
        out = likelihoods.full_precision(outputs)
        # A float64 target is not rounded first: far from zero, float32 lacks the digits of the residual.
        residuals = (out - target).to(out.dtype)
        return likelihoods.gaussian_nll(residuals, self._log_std(out, learnt), known)

    def divergence(self, outputs: Any, reference: Any, counted: Any = None, **learnt: Tensor) -> Tensor:
        """Half the squared difference in noise deviations (see :meth:`laconic.tasks.Task.divergence`).

        Args:
            outputs: (N,), (N, D) or (N, D, ...).
            reference: The same shape.
            counted: Booleans of that shape.
            learnt: ``log_noise``, a scalar, where the noise is learnt.
        """
        checks.check_pair("Regression", outputs, reference)
        out = likelihoods.full_precision(outputs)
        difference = (out - reference).to(out.dtype)
        return likelihoods.gaussian_kl(difference, self._log_std(out, learnt), counted)

    def predicted(self, outputs: Any) -> int:
        """Number of entries."""
        return int(math.prod(outputs.shape))

    def fixed(self, learnt: Mapping[str, Tensor]) -> Regression:
        """The same with the noise ``learnt`` has (see :meth:`laconic.tasks.Task.fixed`)."""
        return replace(self, noise=math.exp(float(learnt["log_noise"]))) if "log_noise" in learnt else self

    def predictive(self, **learnt: Tensor) -> Gaussian:
        """Gaussian with the noise, 1 where it is learnt and not handed in.

        Args:
            learnt: ``log_noise``, a scalar, where the noise is learnt.
        """
        if self.noise != "learnt":
            return Gaussian(noise=self.noise)
        return Gaussian(noise=math.exp(float(learnt["log_noise"])) if "log_noise" in learnt else 1.0)

    def measure(self, outputs: Any, target: Any) -> Sums:
        """(4, D): for each output the number of terms, the sum of r^2, the mean of y, and the sum of
        (y - mean)^2.
        """
        checks.arrays_only(outputs, target)
        known = _check(outputs, target)
        y = np.where(known, target, 0).astype(np.float64)
        r = np.where(known, outputs.astype(np.float64) - y, 0)
        checks.refuse_nan(int(np.isnan(r).sum()), r.size, "outputs", "number")
        axes = tuple(k for k in range(r.ndim) if k != 1)
        n = known.sum(axes, dtype=np.float64, keepdims=True)
        mean = y.sum(axes, keepdims=True) / np.maximum(n, 1)
        mean += np.where(known, y - mean, 0).sum(axes, keepdims=True) / np.maximum(n, 1)  # its rounding
        spread = np.where(known, y - mean, 0) ** 2
        sums = n, (r * r).sum(axes, keepdims=True), mean, spread.sum(axes, keepdims=True)
        return np.stack([v.reshape(-1) for v in sums])

    def add(self, sums: Sums, more: Sums) -> Sums:
        """The statistics of both; sums of y^2 would lose the spread of targets that are far from zero.

        Source: Chan, Golub & LeVeque, Algorithms for Computing the Sample Variance (1983).
        """
        (n, squares, mean, spread), (m, more_squares, more_mean, more_spread) = sums, more
        both = np.maximum(n + m, 1)
        apart = more_mean - mean
        spread = spread + more_spread + apart * apart * (n * m / both)
        return np.stack([n + m, squares + more_squares, mean + apart * (m / both), spread])

    def value(self, sums: Sums) -> float:
        """RMSE, or R2."""
        n, squares, mean, spread = sums
        mean_square = super().value(np.array([squares.sum(), n.sum()]))
        if self.metric_name == RMSE:
            return math.sqrt(mean_square)
        used = n > 0
        squares, spread = squares[used], spread[used]
        rounding = n[used] * (4 * np.finfo(np.float64).eps * mean[used]) ** 2
        if (spread <= rounding).any():
            raise DataError("R2 is not defined: all targets of an output are alike. Cure: metric_name='rmse'")
        return float((1 - squares / spread).mean())

    def nats(self, outputs: Any, target: Any) -> float | None:
        """:meth:`nll` on NumPy arrays; None where the noise is learnt, since no file holds it."""
        checks.arrays_only(outputs, target)
        known = _check(outputs, target)
        if self.noise == "learnt":
            return None
        residuals = outputs.astype(np.float64) - target
        return likelihoods.gaussian_nats(residuals, np.array(self._log_noise(outputs.shape)), known)

    def _log_std(self, outputs: Tensor, learnt: Mapping[str, Tensor]) -> Tensor:
        """Logarithm of the noise, given or learnt, for outputs of this shape."""
        if self.noise != "learnt":
            return outputs.new_tensor(self._log_noise(tuple(outputs.shape)))
        if "log_noise" not in learnt:
            raise InputError("Regression: log_noise is missing. Cure: nll(outputs, target, **learnt(target))")
        return learnt["log_noise"]

    def _log_noise(self, shape: tuple[int, ...]) -> Any:
        """Logarithm of a given noise, as nested lists whose shape broadcasts to that of the outputs."""
        if not isinstance(self.noise, tuple):
            return np.log(float(self.noise)).tolist()
        outputs = shape[1] if len(shape) > 1 else 1
        if len(self.noise) != outputs:
            raise InputError(
                f"Regression: noise has {len(self.noise)} numbers, and axis 1 of the outputs {outputs}. "
                "Cure: one for each output, or one number for all"
            )
        return np.log(self.noise).reshape(-1, *(1 for _ in shape[2:])).tolist()


def _check_noise(noise: Any) -> None:
    for number in noise if isinstance(noise, tuple) and noise else (noise,):
        real = isinstance(number, int | float) and not isinstance(number, bool)
        if not (real and math.isfinite(number) and number > 0):
            raise InputError(
                f"noise must be 'learnt' or a standard deviation > 0 in the target's unit, got {noise!r}"
                ". Cure: noise='learnt'"
            )


def _check(outputs: Any, target: Any) -> Any:
    """Where the target is known, if all fits."""
    checks.has_shape(outputs, target)
    out, to = tuple(outputs.shape), tuple(target.shape)
    if out != to or not out:
        axis = next(
            (k for k, (a, b) in enumerate(zip(out, to, strict=False)) if a != b), min(len(out), len(to))
        )
        sizes = [f"of size {s[axis]}" if axis < len(s) else "missing" for s in (out, to)]
        raise checks.misfit(
            "Regression",
            TAKES,
            outputs,
            target,
            f"axis {axis} is {sizes[0]} in the outputs, {sizes[1]} in the targets",
        )
    known = target == target
    if (abs(target) == math.inf).any():
        raise DataError("a target is infinite. Cure: finite numbers, NaN where there is none")
    return known


def _float32() -> Any:
    import torch

    return torch.float32


TASK = TaskEntry("regression", Regression)
