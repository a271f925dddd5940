"""Keep plans as files, and checks of a plan against a network's groups."""

from __future__ import annotations

import json
from pathlib import Path

from laconic.errors import InputError, uncured
from laconic.files import write_text
from laconic.records import KeepPlan
from laconic.structure.coupling.groups import Coupling

_FORMAT = "laconic keep plan 1"


def plan_to_json(plan: KeepPlan) -> str:
    """A plan as text: one line per group, in order of names.

    >>> plan = KeepPlan({"fc1.weight:0": (0, 2)}, {"fc1.weight:0": 3})
    >>> plan_from_json(plan_to_json(plan)) == plan
    True
    """
    groups = {name: {"of": plan.sizes[name], "kept": list(plan.kept[name])} for name in sorted(plan.kept)}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in groups.items())
    return f'{{"format": {json.dumps(_FORMAT)}, "groups": {{\n{lines}\n}}}}\n'


def plan_from_json(text: str) -> KeepPlan:
    """The plan of a text. Raises InputError for anything else."""
    try:
        data = json.loads(text)
        known = data.get("format") == _FORMAT
        groups = {str(n): (int(e["of"]), tuple(int(k) for k in e["kept"])) for n, e in data["groups"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise InputError(
            f"this is no keep plan ({type(error).__name__}: {error}). Cure: a text that plan_to_json wrote"
        ) from error
    if not known:
        raise InputError(
            f"a keep plan says 'format': {_FORMAT!r}, this one {data.get('format')!r}. Cure: a text that "
            "plan_to_json wrote"
        )
    return KeepPlan(
        {n: kept for n, (_, kept) in groups.items()}, {n: size for n, (size, _) in groups.items()}
    )


def save_plan(plan: KeepPlan, path: str | Path) -> None:
    """Write a plan as JSON. The file is the old one or the whole new one, never a part.

    Args:
        plan: Which units stay.
        path: Where to write; an existing file is replaced.

    Raises WriteError where the disk refuses.

    >>> import tempfile
    >>> plan = KeepPlan({"fc1.weight:0": (0, 2)}, {"fc1.weight:0": 3})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_plan(plan, Path(folder) / "plan.json")
    ...     load_plan(Path(folder) / "plan.json") == plan
    True
    """
    write_text(path, plan_to_json(plan))


def load_plan(path: str | Path) -> KeepPlan:
    """Read a plan that :func:`save_plan` wrote.

    Args:
        path: The file.

    Returns:
        The plan; whether it fits a network is checked when it is used.

    Raises:
        InputError: There is no such file, or it holds no plan; names the file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "plan.json"
    ...     save_plan(KeepPlan({"fc1.weight:0": (0, 2)}, {"fc1.weight:0": 3}), path)
    ...     load_plan(path).removed("fc1.weight:0")
    (1,)
    """
    try:
        return plan_from_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {uncured(error)}. Cure: give a file that save_plan wrote") from error


def check_plan(plan: KeepPlan, coupling: Coupling) -> None:
    """Raises InputError for a plan that was made for another network, that unties what is tied, or that
    empties a layer without which nothing would reach the output.
    """
    for name, size in plan.sizes.items():
        group = coupling.group(name)
        if group.size != size:
            raise InputError(
                f"the plan's group {name!r} has {size} units, the network's {group.size}: it is a plan for "
                "another network. Cure: make the plan from this network's groups"
            )
        if not plan.kept[name] and name not in coupling.branches:
            raise InputError(
                f"keep plan: group {name!r} keeps none of its {size} units, which would cut the network "
                "in two. Cure: keep at least one"
            )
    for names in coupling.tied:
        counts = {n: len(plan.kept[n]) if n in plan.kept else coupling.group(n).size for n in names}
        if len(set(counts.values())) > 1:
            counted = ", ".join(f"{name} keeps {count}" for name, count in counts.items())
            raise InputError(
                f"these groups share one module and must keep equally many units: {counted}. "
                "Cure: keep the same number in each"
            )
