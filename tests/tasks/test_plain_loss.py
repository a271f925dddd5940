"""A plain loss is its own metric; one that cannot be nats per term is named before training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.errors import DataError, InputError, ScaleError
from laconic.tasks import PlainLoss, check_scale
from tests.helpers.fresh import run_fresh

OUT = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
TO = torch.rand(6, 3, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


def test_the_loss_is_the_metric() -> None:
    task = PlainLoss(nn.CrossEntropyLoss())
    sums = task.measure(OUT[:2].numpy(), LABELS[:2].numpy()) + task.measure(
        OUT[2:].numpy(), LABELS[2:].numpy()
    )
    assert task.value(sums) == pytest.approx(F.cross_entropy(OUT, LABELS).item())
    assert task.nll(OUT, LABELS).item() == pytest.approx(F.cross_entropy(OUT, LABELS, reduction="sum").item())
    assert (task.metric.name, task.metric.higher_is_better) == ("CrossEntropyLoss", False)
    assert task.metric.allowance(2.0) == 0.02


def test_terms() -> None:
    assert PlainLoss(F.mse_loss).terms(TO) == 6
    assert PlainLoss(F.mse_loss, "entries").terms(TO) == 18
    assert PlainLoss(F.mse_loss, lambda target: target.shape[1]).terms(TO) == 3
    with pytest.raises(InputError, match="mse_loss: terms cannot be counted in a dict without axes"):
        PlainLoss(F.mse_loss).terms({})


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (F.cross_entropy, "cross_entropy"),
        (functools.partial(F.cross_entropy, label_smoothing=0.1), "cross_entropy"),
        (lambda outputs, target: outputs, "loss"),
    ],
)
def test_the_metrics_name(loss: Callable[..., Tensor], name: str) -> None:
    assert PlainLoss(loss).metric.name == name
    assert PlainLoss(loss, name="my loss").metric.name == "my loss"


def test_wrong_settings() -> None:
    with pytest.raises(InputError, match="a loss must be a function"):
        PlainLoss("mse")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="terms_of must be None, 'entries' or a function, got 'pixels'"):
        PlainLoss(F.mse_loss, "pixels")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "loss",
    [
        F.mse_loss,
        F.l1_loss,
        F.smooth_l1_loss,
        F.huber_loss,
        nn.MSELoss(),
        nn.L1Loss(),
        nn.SmoothL1Loss(beta=0.3),
        nn.HuberLoss(delta=0.2),
        nn.MSELoss(reduction="sum"),
        functools.partial(F.huber_loss, delta=0.2),
        lambda outputs, target: ((outputs - target) ** 2).mean(),
        lambda outputs, target: (outputs - target).abs().sum(),
    ],
)
def test_an_error_without_a_noise_scale_is_named(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ScaleError, match="_loss, which has the target's unit.*Cure: the task Regression"):
        check_scale(loss, OUT, TO)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(reduction="sum"),
        functools.partial(F.cross_entropy, reduction="sum"),
        lambda outputs, target: -outputs.log_softmax(1)[range(len(target)), target].sum(),
    ],
)
def test_a_sum_over_the_batch_is_named(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ScaleError, match="is a sum over the batch.*Cure: reduction='mean'"):
        check_scale(loss, OUT, LABELS)


def test_a_sum_of_several_outputs_and_targets() -> None:
    def loss(outputs: dict[str, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(outputs["a"], target[0], reduction="sum") + F.cross_entropy(
            outputs["a"], target[1]
        )

    check_scale(lambda o, t: F.cross_entropy(o["a"], t[0]), {"a": OUT}, (LABELS, LABELS))
    with pytest.raises(ScaleError, match="the loss sums is a sum"):

        def sums(outputs: dict[str, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
            return 12 * loss(outputs, target) - 12 * F.cross_entropy(outputs["a"], target[1])

        check_scale(sums, {"a": OUT}, (LABELS, LABELS))


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (F.cross_entropy, LABELS),
        (nn.CrossEntropyLoss(), LABELS),
        (nn.CrossEntropyLoss(label_smoothing=0.1), LABELS),
        (F.binary_cross_entropy_with_logits, TO),
        (lambda outputs, target: F.gaussian_nll_loss(outputs, target, torch.ones(6, 3), full=True), TO),
        (lambda outputs, target: F.gaussian_nll_loss(outputs, target, outputs**2, full=True), TO),
        (F.multi_margin_loss, LABELS),
    ],
)
def test_other_losses_pass(loss: Callable[..., Tensor], target: Tensor) -> None:
    check_scale(loss, OUT, target)
    PlainLoss(loss).check(OUT, target)


def test_only_a_penalty_in_nats_asks_for_a_likelihood() -> None:
    PlainLoss(F.mse_loss).check(OUT, TO)
    with pytest.raises(ScaleError, match="mse_loss"):
        PlainLoss(F.mse_loss).check_scale(OUT, TO)


@pytest.mark.parametrize("call", ["nll", "measure", "nats", "check"])
@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (functools.partial(F.cross_entropy, reduction="none"), r"cross_entropy returned shape \(6,\)"),
        (lambda outputs, target: None, "loss returned a NoneType"),
    ],
)
def test_a_loss_that_is_not_one_number(call: str, loss: Callable[..., Any], what: str) -> None:
    arguments = (OUT, LABELS) if call in ("nll", "check") else (OUT.numpy(), LABELS.numpy())
    with pytest.raises(InputError, match=f"the loss {what}, not one number"):
        getattr(PlainLoss(loss), call)(*arguments)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite(bad: float) -> None:
    loss = lambda outputs, target: outputs.sum() * 0 + bad
    with pytest.raises(DataError, match=f"the loss loss is {bad}"):
        PlainLoss(loss).measure(OUT.numpy(), LABELS.numpy())
    with pytest.raises(DataError, match=f"the loss loss is {bad}"):
        check_scale(loss, OUT, LABELS)


def test_without_torch_the_cure_is_named() -> None:
    code = """
import numpy as np
from laconic.errors import InputError
from laconic.tasks import PlainLoss
try:
    PlainLoss(max).measure(np.zeros(2), np.zeros(2))
except InputError as error:
    print(error)
"""
    assert "Cure: pip install 'laconic[train]'" in run_fresh(code, without_torch=True)
    assert np.isfinite(PlainLoss(F.cross_entropy).nats(OUT.numpy(), LABELS.numpy()))
