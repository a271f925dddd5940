"""Training is continued from a checkpoint, whose contents are checked first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from laconic.errors import RunFolderError, uncured
from laconic.train.checkpoint import load_checkpoint

_OTHER_NETWORK = "resume with the network that the run began with, or name another folder with --out"
_DIVERGED = (
    "delete it, and --resume; where the run itself went wrong, begin another with a lower learning rate"
)


@dataclass(frozen=True, eq=False)
class Trained:
    """The objects that change in training; a checkpoint holds their state."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    get_hooks: Callable[[], dict[str, Any]]
    set_hooks: Callable[[dict[str, Any]], None]

    def state_dict(self, epoch: int) -> dict[str, Any]:
        """The state after an epoch, counted from 0."""
        schedule = {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"}
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": schedule,
            "hooks": self.get_hooks(),
            "epoch": epoch,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state that :meth:`state_dict` returned."""
        load_weights(self.net, state["net"])
        _load_optimizer(self.optimizer, state["optimizer"])
        own = self.schedule.state_dict()
        self.schedule.load_state_dict({**own, **_checked_schedule(own, state["schedule"])})
        self.set_hooks(state["hooks"])


def resumed(checkpoint: Path, trained: Trained, epochs: int) -> int:
    """Load ``checkpoint``, if it exists; returns the epoch to go on with, in 0..epochs.

    Raises RunFolderError: a checkpoint that is damaged, of another network or optimiser, after the last of
    ``epochs``, or with NaN or infinite numbers in it.
    """
    state = load_checkpoint(checkpoint)
    if state is None:
        return 0
    try:
        epoch = state["epoch"]
        trained.load(state)
    except RunFolderError as error:
        raise RunFolderError(f"checkpoint {checkpoint}: {error}") from error
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(uncured(error).split())
        raise RunFolderError(
            f"checkpoint {checkpoint} does not fit this {type(trained.net).__name__}: {reason}. "
            f"Cure: {_OTHER_NETWORK}"
        ) from error
    if type(epoch) is not int or not 0 <= epoch < epochs:
        raise RunFolderError(
            f"checkpoint {checkpoint} stands after epoch {epoch!r}, which is none of 0..{epochs - 1}. "
            "Cure: delete it, and --resume"
        )
    return epoch + 1


def load_weights(net: nn.Module, state: Mapping[str, Any]) -> None:
    """``net.load_state_dict``, strict about types and numbers too.

    Raises RunFolderError, and for missing or unknown names and other shapes what torch raises.
    """
    own = net.state_dict()
    if isinstance(state, Mapping):
        for name in own.keys() & state.keys():
            _check_entry(name, own[name], state[name])
    net.load_state_dict(state)
    for name, parameter in net.named_parameters():
        _check_numbers(f"parameter {name!r}", parameter)


def _check_entry(name: str, own: Any, found: Any) -> None:
    if isinstance(own, Tensor) and not (isinstance(found, Tensor) and found.dtype in _types(own)):
        kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
        raise RunFolderError(f"{name!r} is {kind}, not {own.dtype}. Cure: {_OTHER_NETWORK}")


def _types(own: Tensor) -> tuple[torch.dtype, ...]:
    """The types that an entry may have: its own, and for masks the booleans that they once were."""
    return (own.dtype, torch.bool) if own.dtype is torch.int8 else (own.dtype,)


def _load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    before = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for old, group in zip(before, optimizer.param_groups, strict=True):
        for key, value in old.items():
            if key != "params":
                _check_setting(key, value, group[key])
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for key, value in optimizer.state.get(parameter, {}).items():
                _check_moment(key, value, parameter)


def _checked_schedule(own: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule's numbers; raises RunFolderError for a schedule of another kind, or for a rate that is
    not finite.
    """
    known = own.keys() - {"lr_lambdas"}
    if not isinstance(found, Mapping) or found.keys() != known:
        raise RunFolderError(f"its learning-rate schedule is another one. Cure: {_OTHER_NETWORK}")
    for key, value in found.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise RunFolderError(f"its learning-rate schedule has {key}={value!r}. Cure: {_DIVERGED}")
    return dict(found)


def _check_setting(key: str, own: Any, found: Any) -> None:
    """A group's number stays a number of its type; what is no number is what this network has."""
    own_numbers, numbers = _numbers(own), _numbers(found)
    if own_numbers is None or numbers is None or len(numbers) != len(own_numbers):
        right = type(found) is type(own) and found == own
    else:
        right = all(math.isfinite(number) for number in numbers)
    if not right:
        raise RunFolderError(f"its optimiser has {key}={found!r}, not {own!r}. Cure: {_DIVERGED}")


def _numbers(value: Any) -> list[int | float] | None:
    """A number, or several as Adam's betas (which some schedules move); None for anything else."""
    several = value if isinstance(value, tuple | list) else [value]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in several)
    return list(several) if numbers else None


def _check_moment(key: str, value: Any, parameter: Tensor) -> None:
    if value is None:
        return  # SGD's buffer before it has any momentum
    if not isinstance(value, Tensor) or (value.ndim and not _spans(value, parameter)):
        told = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise RunFolderError(
            f"its optimiser's {key} is {told} for a parameter of shape {tuple(parameter.shape)}. "
            f"Cure: {_OTHER_NETWORK}"
        )
    _check_numbers(f"its optimiser's {key}", value)


def _spans(value: Tensor, parameter: Tensor) -> bool:
    """Whether a moment is of a parameter's shape, or of one row or column of it, as Adafactor's are."""
    sizes = zip(value.shape, parameter.shape, strict=False)
    return value.ndim == parameter.ndim and all(own in (1, of) for own, of in sizes)


def _check_numbers(what: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise RunFolderError(f"{what} holds NaN or infinite numbers. Cure: {_DIVERGED}")
