r"""Refinement of a decided network: some hundred steps towards the original's predictions, on the grid.

.. math:: \min_{u, s}\; \frac{c}{N}\sum_n T^2\,
   D\big(f_{\text{original}}(x_n) / T \,\|\, f_{\text{round}(u) s}(x_n) / T\big) + \lambda R(u)

D is the task's divergence, which needs no labels, R the code length of the integers, linear between them
(:mod:`laconic.quantize.linear_rate`). Gradients pass the rounding straight through; each weight starts on its
integer, on the side of its original value. Inputs are mixed with each other, x_n + a (x_m - x_n) with a up to
``mix``, since the few that there are would be learnt by heart; the caller may change them further
(``augment``). At a high temperature T all outputs count and not the uncertain examples alone, which does the
same; c makes the loss at T and the divergence alike at the start, on held-out inputs. Some numbers go to and
fro between two levels, so the last state is a matter of chance; what is stored is a moving average over the
last steps. The state with the least held-out divergence + lambda x rate is kept, the start among them: what
does not help is dropped.

Sources: Nagel et al., AdaRound, ICML 2020, and Li et al., BRECQ, ICLR 2021 (rounding learnt from few inputs
without labels); Wei et al., QDrop, ICLR 2022, and Liu et al., PD-Quant, CVPR 2023 (they overfit, and the loss
of predictions tells more than that of a layer); Wiedemann et al., DeepCABAC, 2020, and Conzelmann et al.,
CERWU, 2025 (the rate beside the loss); Hinton et al., Distilling the Knowledge in a Neural Network, 2015
(T^2); Zhang et al., mixup, ICLR 2018; Bengio et al., Estimating or Propagating Gradients, 2013; Polyak &
Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; Nagel et al., Overcoming Oscillations
in Quantization-Aware Training, ICML 2022.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from laconic.errors import InputError, ModelError
from laconic.methods.layerwise.deciding import load_decisions
from laconic.methods.layerwise.latents import Latents, code_nats
from laconic.methods.layerwise.training_batches import Augment, TrainingBatch, training_batches
from laconic.methods.layerwise.trials import Subject, Trial
from laconic.networks import call as run
from laconic.networks import duplicate, inference
from laconic.networks.inputs import arguments
from laconic.networks.modes import evaluating
from laconic.pack import coded_bytes
from laconic.progress import steps

RECOUNTS = 8
"""How often prices are taken from the present integers."""
LEAST_RATE = 0.02
"""Share of the learning rate that is left at the end of its half cosine."""
ELASTICITY = (1.0, 8.0)
"""Bounds of how many per cent the divergence rises where the code gets one per cent shorter."""
USUAL = 3.0
"""The same where too few trials tell it."""


@dataclass(frozen=True)
class Refine:
    """Settings of the refinement after the decision.

    Args:
        steps: Training steps at each price, >= 0; 0: no refinement.
        what: Everything, or "scales": grid steps, biases and norms, while the integers stay.
        rate: Learning rate of weights, in grid steps, with Adam; > 0. It falls along half a cosine.
        step_rate: Learning rate of the logarithm of grid steps, >= 0.
        batch: Examples in a step.
        mix: How much of another example is mixed into each, at most, in [0, 1]; inputs that are no
            floating-point numbers are not mixed.
        temperature: What outputs are divided by in the loss, >= 1; not used where the task gives no
            predictive distribution.
        checks: How many states the held-out inputs choose from, beside the start. The best of many on few
            inputs is worse on others than it looks, so it is the last one alone by default.
        trials: Prices that are tried with refinement at most, from the one found without it.
        augment: A function (inputs, generator) that changes the inputs of a call and leaves their meaning and
            their shapes: flips and shifts of images, shifts in time. It draws from the generator, or from
            torch's global one, which is seeded meanwhile; arrays on the GPU from ``generator`` alone.
        labels: Weight of the task's loss, in nats per term, beside the divergence; >= 0. Above 0 calibration
            batches must have labels, and held-out inputs choose by both. The divergence may rise, so ask for
            max_drop or max_bytes.
        average: Over how many of the last steps weights are averaged, exponentially, as a share of all steps,
            in [0, 0.5]; 0: not.

    Raises:
        InputError: A setting outside its bounds.

    >>> Refine(steps=400).checks
    1
    """

    steps: int = 0
    what: Literal["all", "scales"] = "all"
    rate: float = 0.007
    step_rate: float = 0.002
    batch: int = 64
    mix: float = 0.5
    temperature: float = 10.0
    checks: int = 1
    trials: int = 5
    augment: Augment | None = None
    labels: float = 0.0
    average: float = 0.08

    def __post_init__(self) -> None:
        if self.steps < 0 or min(self.batch, self.checks, self.trials) < 1:
            raise InputError(
                "refine: steps must be >= 0, batch, checks and trials >= 1, got "
                f"{self.steps}, {self.batch}, {self.checks}, {self.trials}. "
                "Cure: refine.steps=300, or 0 for none; refine.batch=64, refine.checks=1, refine.trials=5"
            )
        if self.what not in ("all", "scales"):
            raise InputError(
                f"refine.what must be 'all' or 'scales', got {self.what!r}. Cure: refine.what=all"
            )
        if not (0 < self.rate < math.inf and 0 <= self.step_rate < math.inf):
            raise InputError(
                f"refine: need rate > 0 and step_rate >= 0, got {self.rate}, {self.step_rate}. "
                "Cure: refine.rate=0.007, refine.step_rate=0.002"
            )
        if not (0 <= self.mix <= 1 and 1 <= self.temperature < math.inf):
            raise InputError(
                f"refine: need mix in [0, 1] and temperature >= 1, got {self.mix}, {self.temperature}. "
                "Cure: refine.mix=0.5, refine.temperature=10"
            )
        if not (0 <= self.labels < math.inf and 0 <= self.average <= 0.5):
            raise InputError(
                f"refine: need labels >= 0 and average in [0, 0.5], got {self.labels}, {self.average}"
                ". Cure: labels=0, average=0.08"
            )
        if self.augment is not None and not callable(self.augment):
            raise InputError(
                f"refine.augment must be a function (inputs, generator), got {self.augment!r}"
                ". Cure: a function, or augment=None"
            )


def exchange_rate(trials: Sequence[Trial], trial: Trial) -> float:
    r"""What one nat of code is worth in divergence at a trial, from what other trials measured.

    .. math:: \lambda = a\, D / R, \qquad \log D \approx b - a \log R

    with a by least squares, between 1 and 8. The price of a trial is in the predicted loss, which may be far
    from what is measured.

    Args:
        trials: Trials at several prices.
        trial: The trial.

    Returns:
        Nats per term for one nat of code, >= 0.
    """
    points = [(math.log(t.bytes), math.log(t.divergence)) for t in trials if 0 < t.divergence < math.inf]
    mean = [sum(column) / len(points) for column in zip(*points, strict=True)]
    spread = sum((x - mean[0]) ** 2 for x, _ in points)
    slope = USUAL
    if spread > 1e-4:
        slope = -sum((x - mean[0]) * (y - mean[1]) for x, y in points) / spread
    nats = code_nats(trial.tensors)
    return min(max(slope, ELASTICITY[0]), ELASTICITY[1]) * trial.divergence / nats if nats > 0 else 0.0


def refined(subject: Subject, trial: Trial, config: Refine, worth: float, seed: int) -> Trial:
    """Train a trial's weights on their grid, and keep the best state that held-out inputs saw.

    Training ends early where the loss becomes NaN or infinite.

    Args:
        subject: The network, and the inputs that decide and measure.
        trial: How it was decided; it stays as it is.
        config: The settings.
        worth: lambda, nats per term for one nat of code (see :func:`exchange_rate`).
        seed: Of the order of examples and of their mixing.

    Returns:
        The refined trial; ``trial`` itself where no state was better.

    Raises:
        ModelError: No gradient reaches the weights.
    """
    latents = Latents(subject, trial, rounding=config.what == "all")
    temperature = config.temperature if subject.comparison.has_temperature else 1.0
    softened = subject.comparison.of(trial.module, temperature=temperature)
    if not (len(latents) and 0 < trial.divergence < math.inf and 0 < softened < math.inf):
        return trial
    scale = trial.divergence / softened
    best, best_cost = trial, _cost(subject, trial, config, worth)
    check, recount = (max(1, config.steps // count) for count in (config.checks, RECOUNTS))
    optimizer = torch.optim.Adam(latents.groups(config.rate, config.step_rate), betas=(0.9, 0.99))
    full = [group["lr"] for group in optimizer.param_groups]
    average = _Average(optimizer, config.average * config.steps)
    net = duplicate(subject.original).eval()
    generator = torch.Generator().manual_seed(seed)
    axis = subject.comparison.batch_axis
    batches = training_batches(subject.calls, axis, config.batch, config.mix, config.augment, generator)
    with steps("refining", config.steps) as advance:
        for step in range(1, config.steps + 1):
            share = max(LEAST_RATE, 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps)))
            for group, rate in zip(optimizer.param_groups, full, strict=True):
                group["lr"] = rate * share
            batch = next(batches)
            loss = scale * _distance(subject, net, latents, batch, temperature)
            if config.labels > 0:
                loss = loss + config.labels * _task_loss(subject, net, latents, batch)
            if not _descend(loss + worth * latents.rate(), optimizer):
                break
            if 2 * step > config.steps:
                average.update()
            if step % check == 0 or step == config.steps:
                with average.in_place():
                    found = _stored(subject, trial, latents, step)
                cost = _cost(subject, found, config, worth)
                best, best_cost = (found, cost) if cost < best_cost else (best, best_cost)
            if step % recount == 0:
                latents.recount()
            advance(f"divergence {best.divergence:.3g}")
    return best


class _Average:
    """Exponential moving average of an optimiser's variables, over about so many steps."""

    def __init__(self, optimizer: torch.optim.Optimizer, steps: float) -> None:
        self._variables = [x for group in optimizer.param_groups for x in group["params"]]
        self._share = 1 / max(1.0, steps)
        self._means: list[Tensor] = []

    def update(self) -> None:
        """Take in the present values; the first ones are the start."""
        values = [x.detach() for x in self._variables]
        if not self._means:
            self._means = [x.clone() for x in values]
        for mean, value in zip(self._means, values, strict=True):
            mean.lerp_(value, self._share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The variables are their averages meanwhile, where there are any yet."""
        values = [x.detach().clone() for x in self._variables]
        with torch.no_grad():
            for variable, mean in zip(self._variables, self._means or values, strict=True):
                variable.copy_(mean)
        try:
            yield
        finally:
            with torch.no_grad():
                for variable, value in zip(self._variables, values, strict=True):
                    variable.copy_(value)


def _cost(subject: Subject, trial: Trial, config: Refine, worth: float) -> float:
    """What is minimised, on held-out inputs."""
    cost = trial.divergence + worth * code_nats(trial.tensors)
    return cost + config.labels * subject.comparison.task_loss_of(trial.module) if config.labels else cost


def _outputs(net: nn.Module, latents: Latents, inputs: Any) -> Any:
    """What the network returns with its present weights, differentiable."""
    # cuDNN's recurrent layers give gradients in training mode only.
    with torch.enable_grad(), evaluating(net), torch.backends.cudnn.flags(enabled=False):
        args, kwargs = arguments(inputs)
        return functional_call(net, latents.values(), args, kwargs)


def _task_loss(subject: Subject, net: nn.Module, latents: Latents, batch: TrainingBatch) -> Tensor:
    """Mean loss of the task on labelled inputs, which are not mixed, differentiable."""
    with torch.enable_grad():
        nats, terms = subject.comparison.task_loss(_outputs(net, latents, batch.unmixed), batch.target)
    return nats / max(1, terms)


def _distance(
    subject: Subject, net: nn.Module, latents: Latents, batch: TrainingBatch, temperature: float
) -> Tensor:
    """Mean divergence of the network with its present weights from the original, differentiable."""
    comparison = subject.comparison
    with inference():
        reference = comparison.outputs_of(run(subject.original, batch.inputs))
    with torch.enable_grad():
        outputs = comparison.outputs_of(_outputs(net, latents, batch.inputs))
        nats, terms = comparison.loss(outputs, reference, batch.counted, temperature)
    if not nats.requires_grad:
        raise ModelError(
            "refining: no gradient reaches the weights, as where a network runs under torch.no_grad. "
            "Cure: refine.steps=0"
        )
    return nats / max(1, terms)


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> bool:
    """One step; False, and none, where the loss is NaN or infinite."""
    if not bool(torch.isfinite(loss)):
        return False
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return True


def _stored(subject: Subject, trial: Trial, latents: Latents, step: int) -> Trial:
    """The present state as a trial, measured on held-out inputs."""
    tensors = latents.tensors()
    module = duplicate(subject.original)
    load_decisions(dict(module.named_parameters(remove_duplicate=False)), tensors)
    size = sum(coded_bytes(tensor) for tensor in tensors.values())
    divergence = subject.comparison.of(module)
    return replace(
        trial, module=module, tensors=tensors, bytes=size, divergence=divergence, refined_steps=step
    )
