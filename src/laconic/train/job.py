"""The settings of a compression: an ordered list of stages, a target, a task. The run's record holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.methods.contract import Method, Target, check_method
from laconic.tasks import Classification, Task
from laconic.train.fit import FitConfig


@dataclass(frozen=True)
class Stage:
    """One method, how it is trained, and from which weights it starts.

    What the stage before has removed stays removed.

    Args:
        method: A method.
        fit: Its training settings.
        rewind_to: Start from the weights that the network had after so many epochs of the first stage (0:
            those that the job began with), as for lottery tickets. None: from where the stage before ended.
    """

    method: Method
    fit: FitConfig = FitConfig()
    rewind_to: int | None = None

    def __post_init__(self) -> None:
        check_method(self.method, "stage")
        if not isinstance(self.fit, FitConfig):
            raise InputError(f"fit: {self.fit!r} is no FitConfig. Cure: fit=FitConfig(epochs=10)")
        if self.rewind_to is not None and (type(self.rewind_to) is not int or self.rewind_to < 0):
            raise InputError(
                f"rewind_to is an epoch of the first stage, 0 or more, got {self.rewind_to!r}"
                ". Cure: rewind_to=0, or None"
            )


@dataclass(frozen=True)
class Job:
    """The settings of one compression.

    Args:
        stages: The stages in order.
        target: Allowed loss of the metric, or largest length of the file in bytes.
        seed: Seed of all noise.
        keep: Parameters or modules that are stored in the file as they are.
        task: The task.
    """

    stages: tuple[Stage, ...]
    target: Target = Target()
    seed: int = 0
    keep: tuple[str, ...] = ()
    task: Task = Classification()

    def __post_init__(self) -> None:
        if not isinstance(self.target, Target):
            raise InputError(
                f"target: {self.target!r} is no Target. Cure: Target(max_drop=0.5), "
                "Target(max_bytes=30_000) or, with compress_trained, Target(max_kl=0.01)"
            )
        if not self.stages:
            raise InputError("a job needs at least one stage. Cure: stages=[Stage(method, fit)]")
        last = self.stages[-1].method
        if self.target.max_kl is not None and not last.measures_divergence:
            raise InputError(
                f"{type(last).__name__} does not measure how far predictions are from the original's, as "
                f"max_kl={self.target.max_kl:g} asks. Cure: PostTraining as the last stage, or "
                "Target(max_drop=...)"
            )
        first = self.stages[0]
        if first.rewind_to is not None:
            raise InputError("the first stage has nothing to rewind to. Cure: rewind_to=None")
        for number, stage in enumerate(self.stages[1:], 2):
            if stage.rewind_to is None:
                continue
            self._check_weights_stay(number)
            if stage.rewind_to > first.fit.epochs:
                raise InputError(
                    f"stage {number} rewinds to epoch {stage.rewind_to} of the first stage, which has "
                    f"{first.fit.epochs}. Cure: 0 to {first.fit.epochs}"
                )

    def _check_weights_stay(self, number: int) -> None:
        """Refuse a stage that rewinds weights whose layers an earlier one has changed."""
        for before in self.stages[: number - 1]:
            if before.method.changes_architecture:
                raise InputError(
                    f"stage {number} rewinds to weights of the first stage, but "
                    f"{type(before.method).__name__} before it removes units, so that they no longer fit. "
                    "Cure: rewind_to=None, or a method that removes weights, not units, before it"
                )


def stages_of(given: Method | Stage | Sequence[Method | Stage], fit: FitConfig) -> tuple[Stage, ...]:
    """The stages of a caller's argument; a method alone is trained with the settings ``fit``.

    >>> from laconic.methods import MagnitudePruning
    >>> [s.fit.epochs for s in stages_of([MagnitudePruning(0.5), MagnitudePruning(0.9)], FitConfig(epochs=3))]
    [3, 3]
    """
    parts: Iterable[Any] = given if isinstance(given, list | tuple) else [given]
    return tuple(part if isinstance(part, Stage) else Stage(part, fit) for part in parts)


def on_device_of(model: nn.Module, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages on the GPU that the model lies on; a model on the CPU goes where each ``fit`` says."""
    kind = next((p.device.type for p in model.parameters()), "cpu")
    if kind not in ("cuda", "mps"):
        return stages
    return tuple(replace(stage, fit=replace(stage.fit, accelerator=kind)) for stage in stages)


def settings_of(job: Job) -> dict[str, Any]:
    """The job as plain data: the name of every class and every field of every configuration."""
    return {
        "stages": [
            {
                "method": type(stage.method).__name__,
                "method_settings": plain_settings(stage.method),
                "fit": plain_settings(stage.fit),
                "rewind_to": stage.rewind_to,
            }
            for stage in job.stages
        ],
        "target": _target_settings(job.target),
        "task": {"name": type(job.task).__name__, **plain_settings(job.task)},
        "seed": job.seed,
        "keep": list(job.keep),
    }


def _target_settings(target: Target) -> dict[str, Any]:
    """A target as plain data; ``max_kl`` where it is set, so that older run folders can be resumed."""
    plain: dict[str, Any] = plain_settings(target)
    return {name: value for name, value in plain.items() if name != "max_kl" or value is not None}


def resumable(job: Job) -> None:
    """Raises InputError for a job whose settings cannot be compared with those of an earlier run."""
    for method in (part for stage in job.stages for part in _with_inner_methods(stage.method)):
        if not is_dataclass(method):
            raise InputError(
                f"resume: {type(method).__name__} is no dataclass, so its settings cannot be compared "
                "with "
                "those that the run began with. Cure: make it a frozen dataclass"
            )


def _with_inner_methods(method: Method) -> list[Method]:
    """A method, and those among its settings."""
    if not is_dataclass(method):
        return [method]
    inner = [getattr(method, f.name) for f in fields(method)]
    return [method, *(part for one in inner if isinstance(one, Method) for part in _with_inner_methods(one))]


def plain_settings(value: Any) -> Any:
    """A setting as JSON has it; a dataclass by its fields, functions and other objects by their names."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _field(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_settings(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain_settings(item) for item in value]
    if isinstance(value, partial):
        return {
            "kind": _name(value.func),
            "args": plain_settings(value.args),
            **plain_settings(value.keywords),
        }
    if isinstance(value, nn.Module) and value.state_dict():
        return f"{_name(value)} {_checksum(value)}"
    return _name(value)


def weights_told(module: nn.Module) -> str:
    """What tells a network's parameters and buffers from those of another one, as text.

    >>> with torch.no_grad():
    ...     weights_told(nn.Linear(2, 1).requires_grad_(False).apply(lambda m: m.weight.fill_(0)))[:24]
    '3 numbers in 2 tensors, '
    """
    tensors = [value for value in module.state_dict().values() if isinstance(value, Tensor)]
    count = sum(value.numel() for value in tensors)
    return f"{count} numbers in {len(tensors)} tensors, checksum {_checksum(module)}"


def _checksum(module: nn.Module) -> str:
    """BLAKE2b over the names and bytes of a network's parameters and buffers, 8 bytes in hexadecimal."""
    found = hashlib.blake2b(digest_size=8)
    for name, value in module.state_dict().items():
        found.update(name.encode())
        if isinstance(value, Tensor):
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _field(value: Any) -> Any:
    """A field that is itself a dataclass also says which."""
    plain = plain_settings(value)
    return {"kind": type(value).__name__, **plain} if is_dataclass(value) else plain


def _name(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
