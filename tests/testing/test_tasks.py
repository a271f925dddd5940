"""The public suite of tasks: those of this library keep every promise, and each broken one is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from laconic.tasks import (
    BinaryClassification,
    Classification,
    Gaussian,
    LanguageModelling,
    MultiLabel,
    PlainLoss,
    Regression,
    Segmentation,
    SequenceLabelling,
    Task,
)
from laconic.tasks.task import Metric, Sums
from laconic.testing import check_task


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(high: int, *shape: int) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(1))


def marked(values: Tensor, marker: float) -> Tensor:
    """Every third entry replaced by a marker."""
    values = values.clone()
    values.view(-1)[::3] = marker
    return values


CASES: dict[str, tuple[Task, Tensor, Tensor]] = {
    "classification": (Classification(), draws(7, 4), whole(4, 7)),
    "classification, ignored": (Classification(ignore=255), draws(7, 4), marked(whole(4, 7), 255)),
    "classification, bytes": (Classification(ignore=-1), draws(7, 4), whole(4, 7).to(torch.uint8)),
    "classification, soft": (Classification(), draws(7, 4), draws(7, 4, seed=2).softmax(1)),
    "binary": (BinaryClassification(), draws(7, 1), whole(2, 7)),
    "binary, booleans": (BinaryClassification(), draws(7), whole(2, 7, 1).bool()),
    "binary, probabilities": (BinaryClassification(), draws(7), draws(7, seed=2).sigmoid()),
    "multi-label": (MultiLabel(), draws(7, 3), whole(2, 7, 3)),
    "multi-label, NaN": (MultiLabel(), draws(7, 3), marked(whole(2, 7, 3).float(), float("nan"))),
    "multi-label, ignored": (MultiLabel(ignore=-1), draws(7, 3), marked(whole(2, 7, 3), -1)),
    "regression, learnt": (Regression(), draws(7, 3), draws(7, 3, seed=2)),
    "regression, given": (Regression(0.3, unit="mm"), draws(7), draws(7, seed=2)),
    "regression, by output": (Regression((0.3, 2.0), "r2"), draws(7, 2, 5), draws(7, 2, 5, seed=2)),
    "regression, NaN": (Regression(), draws(7, 3), marked(draws(7, 3, seed=2), float("nan"))),
    "segmentation": (Segmentation(), draws(3, 4, 5, 6), marked(whole(4, 3, 5, 6), -100)),
    "segmentation, accuracy": (
        Segmentation(255, 4, "accuracy"),
        draws(3, 4, 5, 6),
        marked(whole(4, 3, 5, 6), 255).to(torch.uint8),
    ),
    "sequence": (SequenceLabelling(), draws(4, 5, 3), marked(whole(3, 4, 5), -100)),
    "language": (LanguageModelling(), draws(4, 5, 11), marked(whole(11, 4, 5), -100)),
    "plain loss": (PlainLoss(F.cross_entropy), draws(7, 4), whole(4, 7)),
    "plain loss, entries": (
        PlainLoss(F.binary_cross_entropy_with_logits, "entries", "bits"),
        draws(7, 3),
        whole(2, 7, 3).float(),
    ),
    "plain loss, counted": (PlainLoss(F.poisson_nll_loss, len), draws(7, 2), whole(9, 7, 2).float()),
}


@pytest.mark.parametrize("case", CASES)
def test_task(case: str) -> None:
    check_task(*CASES[case])


@dataclass(frozen=True)
class Sound(Task):
    """A Laplace likelihood of scale 1, as a user may write it."""

    @property
    def metric(self) -> Metric:
        return Metric("mean absolute error", "m")

    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        r = (outputs.float() if outputs.itemsize < 4 else outputs) - target
        total: Tensor = (r.abs() + np.log(2)).sum()
        return total

    def measure(self, outputs: Any, target: Any) -> Sums:
        return np.array([np.abs(outputs - target).sum(), target.size], dtype=np.float64)

    def nats(self, outputs: Any, target: Any) -> float | None:
        return float((np.abs(outputs - target) + np.log(2)).sum())


class Mean(Sound):
    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        return super().nll(outputs, target) / outputs.numel()


class Vector(Sound):
    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        return (outputs - target).abs()  # type: ignore[no-any-return]


class NoGradient(Sound):
    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        return super().nll(outputs.detach() * 0 + outputs.detach(), target) + 0 * outputs.float().sum()


class HalfPrecision(Sound):
    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        return (outputs - target.to(outputs.dtype)).abs().sum() + target.numel() * np.log(2)  # type: ignore


class OtherNats(Sound):
    def nats(self, outputs: Any, target: Any) -> float | None:
        return float(np.abs(outputs - target).sum())


class MeanMetric(Sound):
    def measure(self, outputs: Any, target: Any) -> Sums:
        return np.array([np.abs(outputs - target).mean(), 1.0])


class Float32Sums(Sound):
    def measure(self, outputs: Any, target: Any) -> Sums:
        return super().measure(outputs, target).astype(np.float32)  # type: ignore[return-value]


class Writes(Sound):
    def measure(self, outputs: Any, target: Any) -> Sums:
        outputs -= target
        return np.array([np.abs(outputs).sum(), target.size], dtype=np.float64)


class OneTerm(Sound):
    def terms(self, target: Any) -> int:
        return 1


class CountsOthers(Sound):
    def counted(self, target: Any) -> Any:
        return target > target.min()


class HiddenNoise(Sound):
    def learnt(self, target: Any) -> dict[str, Tensor]:
        return {"log_noise": torch.tensor(0.0)}


class OtherHessian(Sound):
    def predictive(self, **learnt: Tensor) -> Gaussian:
        return Gaussian(noise=2.0)


def test_a_sound_task_of_a_users_own_passes() -> None:
    check_task(Sound(), draws(7, 2), draws(7, 2, seed=2))


@pytest.mark.parametrize(
    ("wrong", "promise"),
    [
        (Mean, "nll adds up over batches"),
        (Vector, "nll is one number"),
        (NoGradient, "finite differences give"),
        (HalfPrecision, "nll of 16-bit outputs is computed in 32 bits"),
        (OtherNats, "nats equals nll"),
        (MeanMetric, "statistics add up over batches"),
        (Float32Sums, "measure returns a float64 NumPy array"),
        (Writes, "measure leaves its arguments as they are"),
        (OneTerm, "terms add up over batches"),
        (CountsOthers, "counted is True for as many positions as there are terms"),
        (HiddenNoise, "nats is None where the likelihood has parameters that are learnt"),
        (OtherHessian, "the root of predictive squared is the Hessian of nll"),
    ],
)
def test_a_wrong_task_fails(wrong: Callable[[], Task], promise: str) -> None:
    with pytest.raises(AssertionError, match=f"^does not hold: .*{promise}"):
        check_task(wrong(), draws(7, 2), draws(7, 2, seed=2))
