"""Objects of a request's names: a job's stages, its task and target, a reference's training.

Names are registered in :mod:`laconic.registry`, and presets stand beside the methods. This imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from laconic.cli.settings import build, check_seed, configure, parse_size
from laconic.cli.unused import replaced_by, replaced_by_setting
from laconic.errors import InputError
from laconic.methods.contract import Method, Target
from laconic.methods.registry import find_method
from laconic.registry import FIT_CHOICES, METHOD_CHOICES
from laconic.schedules import LinearDecay
from laconic.tasks import Task, find_task
from laconic.train.fit import FitConfig
from laconic.train.job import Job, Stage
from laconic.zoo.registry import find_network

if TYPE_CHECKING:
    from laconic.cli.request import Request, StageRequest


def make_job(request: Request) -> Job:
    """The job that a request describes."""
    task = make_task(request.task, request.task_settings)
    last = len(request.stages) - 1
    stages = tuple(
        make_stage(stage, request, last=number == last) for number, stage in enumerate(request.stages)
    )
    return Job(stages, parse_target(request.target, task), request.seed, request.keep, task)


def make_stage(stage: StageRequest, request: Request, *, last: bool = True) -> Stage:
    """A stage: the method with the preset's settings and those asked for, and its training.

    A preset's allowances give way to those that are asked for, a target among them. ``last``: whether it is
    the run's last stage.
    """
    entry = find_method(stage.method)
    preset = _preset(entry, request)
    gone = {*replaced_by_setting(preset, stage.settings)}
    if request.target is not None:
        gone |= {*replaced_by(request.target, preset, last=last)}
    settings = {**{k: v for k, v in preset.items() if k not in gone}, **stage.settings}
    # another schedule or optimiser than the preset's takes none of the preset's parts
    for name in ("fit.schedule", "fit.optimizer", "schedule", "prior", "posterior"):
        if name in stage.settings:
            settings = {
                k: v for k, v in settings.items() if not k.startswith(f"{name}.") or k in stage.settings
            }
    own = {k: v for k, v in settings.items() if not k.startswith(("fit.", "reference.", "data."))}
    method: Method = build(entry.kind, own, choices=METHOD_CHOICES)
    return Stage(method, _fit(FitConfig(seed=request.seed), settings, "fit."), stage.rewind_to)


def make_reference(request: Request) -> FitConfig | None:
    """How a built-in network is trained first: its recipe, the first method's preset and ``reference.*``."""
    if request.network is None:
        return None
    recipe = find_network(request.network).recipe
    usual = FitConfig(recipe.epochs, recipe.lr, schedule=LinearDecay(recipe.flat), seed=request.seed)
    preset = _preset(find_method(request.stages[0].method), request)
    return _fit(usual, {**preset, **request.settings}, "reference.")


def make_task(name: str, settings: Mapping[str, Any]) -> Task:
    """The task of this name with its settings.

    >>> make_task("segmentation", {"ignore": 255}).ignore
    255
    """
    task: Task = build(find_task(name).kind, settings, "task.")
    return task


def parse_target(text: str | None, task: Task) -> Target:
    """``0.3`` in the unit of the task's metric, ``0.3pt`` of a percentage, ``5kB``, ``5000B``, ``0.01nats``
    from the original's predictions; None asks for nothing.

    >>> from laconic.tasks import Classification
    >>> parse_target("5kB", Classification()).max_bytes, parse_target("0.3pt", Classification()).max_drop
    (5000, 0.3)
    """
    if text is None:
        return Target()
    unit, number = parse_size(text)
    if unit == "nats":
        return Target(max_kl=number)
    if unit == "pt" and task.metric.unit != "%":
        raise InputError(
            f"target {text}: the metric, {task.metric.name}, is no percentage. "
            f"Cure: {number:g}, in the metric's unit"
        )
    if unit != "B" and task.metric.unit == "%" and number > 100:
        raise InputError(
            f"target {text}: the {task.metric.name} cannot lose more than 100 points. "
            f"Cure: {number:g}B for a length in bytes"
        )
    return Target(max_bytes=round(number)) if unit == "B" else Target(max_drop=number)


def _preset(entry: Any, request: Request) -> dict[str, Any]:
    found: dict[str, Any] = entry.preset(request.preset, request.network)
    return found


def _fit(usual: FitConfig, settings: Mapping[str, Any], prefix: str) -> FitConfig:
    own = {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}
    config: FitConfig = configure(usual, own, prefix, FIT_CHOICES)
    check_seed(config.seed, f"{prefix}seed")
    return config
