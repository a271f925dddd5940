"""The fit loop: any network, prepared or plain, on any device that Lightning Fabric knows.

The same loop trains reference networks and runs every method; the parts that differ are passed as
:class:`Hooks`. Everything random in an epoch depends on (seed, epoch) alone, so a run that was killed
continues from its last checkpoint to the very same weights.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils._pytree import tree_leaves

from laconic import api
from laconic.bayes.non_finite import check_loss
from laconic.errors import DataError, InputError
from laconic.networks import call, to_device
from laconic.networks.policy import NORMALISATIONS
from laconic.prepared import counted, likelihood_at, prepared
from laconic.schedules import LinearDecay
from laconic.tasks import Batch, Classification, Task, length_of
from laconic.train.checkpoint import save_checkpoint
from laconic.train.layout import laid_out
from laconic.train.optimizers import Adam, OptimizerFactory, ScheduleFactory
from laconic.train.progress import Progress, StepsProgress
from laconic.train.randomness import global_noise, seeded
from laconic.train.resume import Trained, resumed

ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps", "tpu")
_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}  # ours -> Lightning Fabric's


@dataclass(frozen=True)
class FitConfig:
    """Settings of a training run.

    Args:
        epochs: Passes over the training data; 0 for a method that decides without training.
        lr: Learning rate at the beginning.
        optimizer: A function of parameter groups that returns an optimiser, as ``torch.optim.Adam`` or
            ``functools.partial(torch.optim.SGD, momentum=0.9)``.
        schedule: A function of an optimiser and the number of steps that returns one of torch's schedulers.
        seed: Seed of the data's order.
        precision: "bfloat16" computes matrix products and convolutions in 16 bits while the weights stay
            float32, which is up to twice as fast where the processor has such instructions.
        channels_last: Whether 4-d inputs and weights have torch's ``channels_last`` memory format during
            training, which halves the time of a step on CPUs; a network that does not run so (it flattens
            with ``.view``) is trained in the contiguous format.
        accelerator: Lightning Fabric's name of the device.
        devices: Number of devices; one so far.
    """

    epochs: int = 10
    lr: float = 1e-3
    optimizer: OptimizerFactory = Adam()
    schedule: ScheduleFactory = LinearDecay()
    seed: int = 0
    precision: str = "float32"
    channels_last: bool = True
    accelerator: str = "cpu"
    devices: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 0 or not 0 < self.lr < math.inf:
            raise InputError(
                f"need epochs >= 0 and lr > 0, got {self.epochs} and {self.lr}. Cure: epochs=10, lr=1e-3"
            )
        for name in ("optimizer", "schedule"):
            if not callable(getattr(self, name)):
                raise InputError(
                    f"{name} must be a function, got {getattr(self, name)!r}. "
                    "Cure: torch.optim.Adam, or one of laconic.train.optimizers"
                )
        for name, known in (("accelerator", ACCELERATORS), ("precision", tuple(_PRECISIONS))):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                    f". Cure: {name}='{known[0]}'"
                )
        if self.devices != 1:
            raise InputError(f"devices={self.devices}: training runs on one device so far. Cure: devices=1")


@dataclass(frozen=True)
class Hooks:
    """The parts of the training loop that depend on the method.

    Args:
        param_groups: Parameter groups for a learning rate.
        objective: What a step minimises, of a batch and the network's outputs: a scalar in nats per term.
        after_step: Called after each optimiser step.
        get_state: What a checkpoint must hold beside the network.
        set_state: The inverse of ``get_state``.
    """

    param_groups: Callable[[float], list[dict[str, Any]]]
    objective: Callable[[Batch, Any], Tensor]
    after_step: Callable[[], None] = lambda: None
    get_state: Callable[[], dict[str, Any]] = dict
    set_state: Callable[[dict[str, Any]], None] = lambda state: None

    @classmethod
    def plain(cls, net: nn.Module, task: Task = Classification()) -> Hooks:  # noqa: B008 - frozen
        """Ordinary training of all parameters, by the mean likelihood alone.

        The likelihood's own parameters start from the first batch and the network before it is trained, as
        :func:`laconic.prepare` starts them where it is given batches.
        """
        learnt = {name: nn.Parameter(value) for name, value in task.learnt(None).items()}
        started = not learnt

        def start(values: Mapping[str, Tensor]) -> None:
            nonlocal started
            started = True
            for name, parameter in learnt.items():
                parameter.data.copy_(values[name])

        def objective(batch: Batch, outputs: Any) -> Tensor:
            if not started:
                start(likelihood_at(net, task, batch))
            device = next(net.parameters()).device
            own = {name: p.to(device) for name, p in learnt.items()}
            return task.nll(outputs, batch.target, **own) / counted(task, batch)

        parameters = [*net.parameters(), *learnt.values()]
        return cls(
            lambda lr: [{"params": parameters, "lr": lr}],
            objective,
            get_state=lambda: {name: p.detach().clone() for name, p in learnt.items()},
            set_state=start,
        )

    @classmethod
    def prepared(cls, net: nn.Module) -> Hooks:
        """Training of a network that :func:`laconic.prepare` returned."""
        state = prepared(net, "fit")
        return cls(
            lambda lr: api.param_groups(net, lr),
            lambda batch, outputs: api.objective_of(net, batch, outputs),
            lambda: api.step(net),
            state.state_dict,
            state.load_state_dict,
        )


def fit(
    net: nn.Module,
    loader: Iterable[Any],
    config: FitConfig,
    hooks: Hooks,
    *,
    task: Task = Classification(),  # noqa: B008 - frozen
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[int, float], str] = lambda epoch, mean_loss: "",
    label: str = "training",
) -> None:
    """Train ``net`` in place; with ``checkpoint`` it continues from there and saves after every epoch.

    Normalisation layers whose parameters are frozen, or that are in evaluation mode while the network is not,
    stay in evaluation mode: their running statistics do not move.

    Args:
        net: Any network, prepared or plain.
        loader: Training batches, which can be read again in every epoch.
        config: The training settings.
        hooks: The parts that depend on the method.
        task: How a batch is split.
        checkpoint: The checkpoint file (None: none is kept).
        progress: Shows the progress (None: one line, on a terminal).
        on_epoch: Called with the number of each finished epoch, from 0, and its mean objective in nats per
            term; returns text that is shown after the loss.
        label: The name of the work in the progress line.

    Raises:
        DataError: An empty loader, one that can be read only once, labels that cannot be.
        NonFiniteError: A loss that is no number.
        RunFolderError: A checkpoint of another network.
    """
    if not config.epochs:
        return
    fabric = _fabric(config)
    fabric.launch()
    optimizer = config.optimizer(hooks.param_groups(config.lr))
    length = length_of(loader)
    schedule = config.schedule(optimizer, config.epochs * (length or 1))
    _check_steps(optimizer, schedule)
    state = Trained(net, optimizer, schedule, hooks.get_state, hooks.set_state)
    first = resumed(checkpoint, state, config.epochs) if checkpoint else 0
    model, wrapped = fabric.setup(net, optimizer)
    with (
        (progress or StepsProgress()).task(label, config.epochs, done=first) as tick,
        laid_out(net, config.channels_last) as lay_out,
    ):
        epochs = _Epochs(fabric, net, model, wrapped, schedule, hooks, task, lay_out, length)
        for epoch in range(first, config.epochs):
            mean_loss = epochs.run(seeded(loader, config.seed, epoch), config.seed, epoch, epoch > first)
            if checkpoint is not None:
                save_checkpoint(checkpoint, state.state_dict(epoch))
            tick(f"loss {mean_loss:.4f}{on_epoch(epoch, mean_loss)}")


def _check_steps(optimizer: torch.optim.Optimizer, schedule: LRScheduler) -> None:
    """Refuse an optimiser whose step asks for a closure, a schedule whose step asks for a metric."""
    for what, stepped in (("optimizer", optimizer), ("schedule", schedule)):
        own = list(inspect.signature(type(stepped).step).parameters.items())[1:]  # without self
        for name, parameter in own:
            named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if named and parameter.default is parameter.empty:
                raise InputError(
                    f"{what}: a step of {type(stepped).__name__} asks for {name!r}, and the fit loop steps "
                    "with no more than the gradients of one batch. Cure: another one, as torch.optim.Adam or "
                    "laconic.schedules.LinearDecay, or a loop of your own with laconic.objective and step"
                )


def _fabric(config: FitConfig) -> Fabric:
    precision: Any = _PRECISIONS[config.precision]
    try:
        return Fabric(accelerator=config.accelerator, devices=config.devices, precision=precision)
    except (RuntimeError, ImportError, ValueError) as error:
        raise InputError(
            f"accelerator={config.accelerator!r} cannot be used here: {' '.join(str(error).split())}. "
            "Cure: accelerator='cpu', or 'auto' for the best that is here"
        ) from error


@dataclass(frozen=True, eq=False)
class _Epochs:
    """The objects that every pass over the data uses."""

    fabric: Fabric
    net: nn.Module
    model: Any
    optimizer: Any
    schedule: LRScheduler
    hooks: Hooks
    task: Task
    lay_out: Callable[[Any], Any]
    length: int | None

    def run(self, batches: Iterable[Any], seed: int, epoch: int, again: bool) -> float:
        """One pass over the data; returns the mean objective, in nats per term.

        ``again`` says that the batches were read in an earlier epoch.
        """
        total, seen, usual = 0.0, 0, None
        train_mode(self.net)
        with global_noise(seed, epoch):
            for index, given in enumerate(batches):
                batch = self._placed(given)
                shapes = _shapes(batch.inputs)
                usual = usual or shapes
                try:
                    objective = self.hooks.objective(
                        batch, self.task.prediction(call(self.model, batch.inputs))
                    )
                except (RuntimeError, ValueError) as error:
                    _check_batch(shapes, usual, index, error)
                    raise
                self.optimizer.zero_grad()
                self.fabric.backward(objective)
                value = float(objective.detach())
                check_loss(value, self.net, batch.inputs, step=epoch * (self.length or 0) + index)
                self.optimizer.step()
                self.hooks.after_step()
                if self.length is not None:
                    self.schedule.step()
                terms = counted(self.task, batch)
                total += value * terms
                seen += terms
        if seen == 0 and again:
            raise DataError(
                f"fit: the training loader gave no batch in epoch {epoch + 1}, and some in the epoch before: "
                "it can be read only once. Cure: list(...) of it, or a data set whose __iter__ begins anew"
            )
        if seen == 0:
            raise DataError(
                "fit: the training loader gave no batch. Cure: check its data set, batch size and drop_last"
            )
        if self.length is None:
            self.schedule.step()
        return total / seen

    def _placed(self, given: Any) -> Batch:
        """A batch, split, on the device and in the layout of the network."""
        batch = Batch(*to_device(self.task.split(given), self.fabric.device))
        return Batch(self.lay_out(batch.inputs), batch.target)


def train_mode(net: nn.Module) -> None:
    """Training mode, but for normalisation layers with running statistics that are frozen: those without a
    trainable parameter, and those that are in evaluation mode while the network is not.
    """
    apart = net.training
    frozen = [m for m in net.modules() if _is_frozen(m) or (apart and not m.training and _has_statistics(m))]
    net.train()
    for module in frozen:
        module.eval()


def _is_frozen(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return _has_statistics(module) and bool(own) and not any(p.requires_grad for p in own)


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, NORMALISATIONS) and getattr(module, "running_mean", None) is not None


def _shapes(inputs: Any) -> list[torch.Size]:
    """The shapes of the tensors in a batch's inputs, without the axis of the batch."""
    return [x.shape[1:] for x in tree_leaves(inputs) if isinstance(x, Tensor)]


def _check_batch(shapes: list[torch.Size], usual: list[torch.Size], index: int, error: Exception) -> None:
    """Raises DataError where a batch that failed has another shape than the first, or one example only."""
    if "more than 1 value per channel" in str(error):  # torch's words in a normalisation layer
        raise DataError(
            f"fit: batch {index} has one example, and a normalisation over the batch cannot train on it: "
            f"{' '.join(str(error).split())}. Cure: drop_last=True, or another batch size"
        ) from error
    if shapes != usual:
        told, first = (
            ", ".join(f"(any, {', '.join(map(str, s))})" for s in each) for each in (shapes, usual)
        )
        raise DataError(
            f"fit: batch {index} has inputs of shape {told}, the first one inputs of shape {first}: "
            f"{' '.join(str(error).split())}. Cure: batches of one shape"
        ) from error
