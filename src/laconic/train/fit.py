"""The fit loop: any network, prepared or plain, on any device that Lightning Fabric knows.

The same loop trains reference networks and runs every method: what a method adds comes in through
:class:`Hooks`. Everything random in an epoch depends on (seed, epoch) alone, so a run that was killed
continues from its last checkpoint to the very same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from laconic import api
from laconic.bayes.guard import check_loss
from laconic.errors import DataError, InputError
from laconic.train.checkpoint import save_checkpoint
from laconic.train.distill import Distillation
from laconic.train.evaluate import Loss, check_labels
from laconic.train.layout import laid_out
from laconic.train.optimizer import adam, sgd
from laconic.train.progress import Progress, StepsProgress
from laconic.train.randomness import global_noise, seeded
from laconic.train.resume import resumed

ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps", "tpu")
OPTIMIZERS = ("adam", "sgd")
_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}  # ours -> Lightning Fabric's


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast: Adam at ``lr``, flat for the share ``flat`` of training, then linearly to 0.

    ``optimizer``: "adam", or "sgd" with Nesterov's momentum ``momentum``. ``weight_decay`` is added to
    gradients by "sgd", and decoupled from them by "adam" (AdamW). ``warmup``: share of training in which
    the rate rises from 0. ``precision``: "bfloat16" computes matrix products and convolutions in 16 bits
    while the weights stay float32, which is up to twice as fast where the processor has such instructions.
    ``channels_last`` lays 4-d inputs and weights out by pixel while training, which halves a step on CPUs;
    a network that cannot run so (it flattens with ``.view``) is trained in the plain layout.
    ``accelerator`` and ``devices`` (one, so far) go to Lightning Fabric. ``seed`` orders the data.
    """

    epochs: int = 10
    lr: float = 1e-3
    flat: float = 0.5
    seed: int = 0
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: float = 0.0
    precision: str = "float32"
    channels_last: bool = True
    accelerator: str = "cpu"
    devices: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.lr < math.inf or not 0 <= self.flat <= 1:
            raise InputError(
                f"need epochs >= 1, lr > 0, 0 <= flat <= 1; got {self.epochs}, {self.lr}, {self.flat}"
            )
        if not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < math.inf or not 0 <= self.warmup < 1:
            raise InputError(
                "need 0 <= momentum < 1, weight_decay >= 0, 0 <= warmup < 1; got "
                f"{self.momentum}, {self.weight_decay}, {self.warmup}"
            )
        for name, known in (("optimizer", OPTIMIZERS), ("precision", tuple(_PRECISIONS))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.accelerator not in ACCELERATORS:
            raise InputError(
                f"accelerator must be one of {', '.join(ACCELERATORS)}, got {self.accelerator!r}"
            )
        if self.devices != 1:
            raise InputError(f"devices={self.devices}: training runs on one device so far. Cure: devices=1")


@dataclass(frozen=True)
class Hooks:
    """What a method adds to a plain loop; the defaults add nothing."""

    param_groups: Callable[[float], list[dict[str, Any]]]
    penalty: Callable[[], Tensor] | None = None
    after_step: Callable[[], None] = lambda: None
    get_state: Callable[[], dict[str, Any]] = dict
    set_state: Callable[[dict[str, Any]], None] = lambda state: None

    @classmethod
    def plain(cls, net: nn.Module) -> Hooks:
        """Ordinary training of all parameters."""
        return cls(lambda lr: [{"params": list(net.parameters()), "lr": lr}])

    @classmethod
    def prepared(cls, net: nn.Module) -> Hooks:
        """Training of a network that :func:`laconic.prepare` returned."""
        state = api.prepared(net, "fit")
        return cls(
            lambda lr: api.param_groups(net, lr),
            lambda: api.penalty(net),
            lambda: api.step(net),
            state.state_dict,
            state.load_state_dict,
        )


def lr_factor(progress: float, flat: float, warmup: float = 0.0) -> float:
    """1 until ``flat``, then linearly to 0 at progress 1; until ``warmup`` in proportion to progress less.

    >>> [lr_factor(p, 0.5) for p in (0.0, 0.5, 0.75, 1.0)]
    [1.0, 1.0, 0.5, 0.0]
    >>> [lr_factor(p, 0.5, 0.2) for p in (0.0, 0.1, 0.2)]
    [0.0, 0.5, 1.0]
    """
    rising = min(1.0, progress / warmup) if warmup else 1.0
    falling = 1.0 if progress < flat or flat >= 1 else max(0.0, (1.0 - progress) / (1.0 - flat))
    return rising * falling


def fit(
    net: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    config: FitConfig,
    hooks: Hooks,
    *,
    loss: Loss = F.cross_entropy,
    distil: Distillation | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[int, float], None] = lambda epoch, mean_loss: None,
) -> None:
    """Train ``net`` in place; with ``checkpoint`` it continues from there and saves after every epoch.

    ``loss`` averages over the batch (nats per example); ``distil`` adds a teacher to it.
    ``on_epoch(epoch, mean_loss)`` is told of each finished epoch. Raises DataError (empty loader, labels out
    of range), NonFiniteError and RunFolderError (a checkpoint of another network).
    """
    fabric = _fabric(config)
    fabric.launch()
    optimizer = _optimizer(_with_base_lr(hooks.param_groups(config.lr)), config, fabric.device)
    first = resumed(checkpoint, net, optimizer, hooks.set_state, config.epochs) if checkpoint else 0
    model, wrapped = fabric.setup(net, optimizer)
    if distil is not None:
        distil.teacher.to(fabric.device)
    with (
        (progress or StepsProgress()).task("training", config.epochs, done=first) as tick,
        laid_out(net, config.channels_last) as lay_out,
    ):
        for epoch in range(first, config.epochs):
            objective = partial(_objective, net=model, fabric=fabric, hooks=hooks, loss=loss, distil=distil)
            mean_loss = _epoch(fabric, net, wrapped, loader, config, hooks, objective, epoch, lay_out)
            if checkpoint is not None:
                save_checkpoint(checkpoint, _state(net, optimizer, hooks, epoch))
            on_epoch(epoch, mean_loss)
            tick(f"loss {mean_loss:.4f}")


def _fabric(config: FitConfig) -> Fabric:
    precision: Any = _PRECISIONS[config.precision]
    try:
        return Fabric(accelerator=config.accelerator, devices=config.devices, precision=precision)
    except (RuntimeError, ImportError, ValueError) as error:
        raise InputError(
            f"accelerator={config.accelerator!r} cannot be used here: {' '.join(str(error).split())}. "
            "Cure: accelerator='cpu', or 'auto' for the best that is here"
        ) from error


def _epoch(
    fabric: Fabric,
    net: nn.Module,
    optimizer: Any,
    loader: Iterable[tuple[Tensor, Tensor]],
    config: FitConfig,
    hooks: Hooks,
    objective_of: Callable[[Tensor, Tensor, bool], Tensor],
    epoch: int,
    lay_out: Callable[[Tensor], Tensor],
) -> float:
    """One pass over the data; returns the mean loss with penalty, in nats per example."""
    batches = seeded(loader, config.seed, epoch)
    total, seen, usual = 0.0, 0, None
    length = len(loader) if isinstance(loader, Sized) else None
    net.train()
    with global_noise(config.seed, epoch):
        for index, (x, y) in enumerate(batches):
            fraction = (epoch + (index / length if length else 0.0)) / config.epochs
            _set_lr(optimizer, lr_factor(fraction, config.flat, config.warmup))
            x, y = lay_out(x.to(fabric.device)), y.to(fabric.device)
            usual = x.shape[1:] if usual is None else usual
            try:
                objective = objective_of(x, y, epoch == 0)
            except (RuntimeError, ValueError) as error:
                _check_batch(x, y, usual, index, error)
                raise
            optimizer.zero_grad()
            fabric.backward(objective)
            value = float(objective.detach())
            check_loss(value, net, (x,), step=epoch * (length or 0) + index)
            optimizer.step()
            hooks.after_step()
            total += value * len(y)
            seen += len(y)
    if seen == 0:
        raise DataError(
            "fit: the training loader gave no batch. Cure: check its data set, batch size and drop_last"
        )
    return total / seen


def _check_batch(x: Tensor, y: Tensor, usual: torch.Size | None, index: int, error: Exception) -> None:
    """Raises DataError where a batch that failed is unlike the first one, or has not one label an input."""
    if len(x) != len(y) or x.shape[1:] != usual:
        raise DataError(
            f"fit: batch {index} has inputs of shape {tuple(x.shape)} and labels of shape {tuple(y.shape)}, "
            f"the first one inputs of shape (any, {', '.join(map(str, usual or ()))}): "
            f"{' '.join(str(error).split())}. Cure: batches of one shape, with one label an input"
        ) from error


def _objective(
    x: Tensor,
    y: Tensor,
    first: bool,
    *,
    net: Any,
    fabric: Fabric,
    hooks: Hooks,
    loss: Loss,
    distil: Distillation | None,
) -> Tensor:
    """Loss of one batch, with a teacher's and a method's part; labels are checked in the ``first`` epoch."""
    out = net(x)
    if first and loss is F.cross_entropy:
        check_labels(y, out.shape[1])
    value = loss(out, y)
    if distil is not None:
        with fabric.autocast():
            said = distil.logits(x)
        value = distil.of(out, said, value)
    return value if hooks.penalty is None else value + hooks.penalty()


def _optimizer(
    groups: list[dict[str, Any]], config: FitConfig, device: torch.device
) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return adam(groups, config.lr, config.weight_decay, device)
    return sgd(groups, config.lr, config.momentum, config.weight_decay)


def _with_base_lr(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**g, "base_lr": g["lr"]} for g in groups]


def _set_lr(optimizer: Any, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def _state(net: nn.Module, optimizer: Any, hooks: Hooks, epoch: int) -> dict[str, Any]:
    return {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "hooks": hooks.get_state(),
        "epoch": epoch,
    }
