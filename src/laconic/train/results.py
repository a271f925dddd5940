"""The results of a run: the file, its record, and whether the target was met."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

from laconic import pack, saving
from laconic.export.build import build_packed
from laconic.files import file_hash
from laconic.methods.common.grid_choice import GridChoice
from laconic.methods.contract import Compressed, Method, Target
from laconic.records import RunRecord
from laconic.train.job import Job, settings_of
from laconic.train.record import layer_records, to_json, versions
from laconic.train.run_folder import MODEL_FILE, RECORD_FILE, RunFolder

TARGET_MISSED = "target missed: "
"""How the note on a target that was not reached begins."""

OUTCOME = "outcome"
"""The fact that says in one sentence whether the target was met."""

ROOM = 1.05
"""What a proposed limit is above the length or divergence that was found: a search takes other prices."""

NOTED_LOSS = 10.0
"""Without a target, a loss of the metric above this multiple of its tolerance is noted."""


def write_results(
    small: Compressed,
    job: Job,
    folder: RunFolder,
    metrics: dict[str, float],
    *,
    final: bool = True,
) -> RunRecord:
    """Write model.lac and, if ``final``, record.json into the run folder; returns the record."""
    path = folder.path(MODEL_FILE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        length = saving.save(small, path)
    data = path.read_bytes()
    layers = layer_records(small.tensors, data)
    notes = tuple(str(w.message) for w in caught if w.category is UserWarning)
    notes = (*small.facts.get("notes", ()), *notes, *missed(job, small, length))
    numbers = {k: v for k, v in small.facts.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    record = RunRecord(
        settings=settings_of(job),
        seed=job.seed,
        versions=versions(),
        layers=layers,
        metrics={**numbers, **metrics},
        file_bytes=length,
        bytes_before=4 * _weights_before(small, data),
        notes=notes,
        facts={**small.facts, OUTCOME: outcome(job, small, length), "stages": list(small.stages)},
        file_hash=file_hash(path),
    )
    if final:
        folder.write_json(RECORD_FILE, to_json(record))
    return record


def _weights_before(small: Compressed, data: bytes) -> int:
    """All that the file holds, or what the network held before it was made physically smaller."""
    held = sum(row.weights for row in pack.layout(data, limits=pack.Limits.trusted()))
    return max(held, int(small.facts.get("weights_before", 0)))


def missed(job: Job, small: Compressed, file_bytes: int) -> tuple[str, ...]:
    """Notes on a missed target: the method comes as close to it as training allows."""
    found = (_too_long(job, small, file_bytes), _divergence(job, small, file_bytes))
    return (*(note for note in found if note), *_drop(job, small, file_bytes))


def _too_long(job: Job, small: Compressed, file_bytes: int) -> str:
    """A note where the file is longer than the target allows; else an empty text."""
    most, method = job.target.max_bytes, job.stages[-1].method
    if most is None or file_bytes <= most:
        return ""
    tried = small.facts.get("prices_tried", ())
    steps = _grid_steps(method)
    fewest = f", the fewest of {len(tried)} prices" if tried else ""
    if steps and not small.ranges:
        fewest = f", the fewest that the listed grids reach (steps up to {max(steps):g})"
    told = (
        f"{TARGET_MISSED}the file has {file_bytes} bytes{fewest}{_lost(job, small)}; {most} were asked for."
    )
    cure = f"Target(max_bytes={file_bytes})" if tried else f"a {method.smaller}, or longer training"
    reach = small.facts.get("reachable")
    if reach is not None and reach["bytes_more"] > 0:
        cure = f"{cure} alone" if tried else cure
        way = _way_out(job, small, file_bytes)
        return f"{told} {_shortest(job, small, file_bytes)} Cure: {cure}, or {way}"
    return f"{told} Cure: {_target(job.target, file_bytes) if reach is not None else cure}"


def _lost(job: Job, small: Compressed) -> str:
    """What a file that is the shortest loses, in words; empty where nothing was measured."""
    metric = job.task.metric
    after, before = small.facts.get("validation_metric"), small.facts.get("original_validation_metric")
    parts = []
    if after is not None and before is not None:
        parts.append(f"with a validation {metric.name} of {metric.show(after)} after {metric.show(before)}")
    if "divergence" in small.facts:
        parts.append(f"with predictions {small.facts['divergence']:.3g} nats per term from the original's")
    return "".join(f", {part}" for part in parts)


def _shortest(job: Job, small: Compressed, file_bytes: int) -> str:
    """A sentence on the shortest file that keeps what may be lost; empty where nothing is known of one."""
    reach, metric = small.facts.get("reachable"), job.task.metric
    if reach is None:
        return ""
    limits = [] if reach["drop"] is None else [f"{metric.show(reach['drop'])} worse"]
    if job.target.max_kl is not None and reach["divergence"] is not None:
        limits.append(f"{reach['divergence']:.3g} nats per term")
    length = file_bytes + reach["bytes_more"]
    found = f"({', '.join(limits)}) has {length} bytes."
    if reach["keeps"]:
        return f"The shortest file found that loses no more than that {found}"
    return f"No file that was tried loses so little: the one that loses least {found}"


def _way_out(job: Job, small: Compressed, file_bytes: int) -> str:
    """The target that allows the shortest file that keeps what may be lost, or the one that loses least."""
    reach = small.facts["reachable"]
    length = math.ceil(ROOM * (file_bytes + reach["bytes_more"]))
    if reach["keeps"]:
        return _target(job.target, length)
    return _target(job.target, length, reach["drop"], reach["divergence"])


def _target(target: Target, length: int, drop: float | None = None, kl: float | None = None) -> str:
    """A target of the given length with the limits of another; where given, with a drop and divergence that
    are as large as these.
    """
    parts = [f"max_bytes={length}"]
    if target.max_drop is not None:
        most = target.max_drop if drop is None else max(target.max_drop, _above(drop))
        parts.append(f"max_drop={most:g}")
    if target.max_kl is not None:
        most = target.max_kl if kl is None else max(target.max_kl, ROOM * kl)
        parts.append(f"max_kl={most:.3g}")
    return f"Target({', '.join(parts)})"


def outcome(job: Job, small: Compressed, file_bytes: int) -> str:
    """Whether the target was met, with the numbers it is about, in one sentence.

    Args:
        job: The settings of the run.
        small: The result.
        file_bytes: Length of the file in bytes; used only where the target has a length.
    """
    metric, target = job.task.metric, job.target
    after, before = small.facts.get("validation_metric"), small.facts.get("original_validation_metric")
    parts = []
    if target.max_bytes is not None:
        parts.append(f"the file has {file_bytes} bytes of at most {target.max_bytes}")
    if after is not None and before is not None:
        went = f"the validation {metric.name} went from {metric.show(before)} to {metric.show(after)}"
        parts.append(
            went if target.max_drop is None else f"{went} and may get worse by {metric.show(target.max_drop)}"
        )
    if "divergence" in small.facts:
        found = f"the predictions are {small.facts['divergence']:.3g} nats per term from the original's"
        parts.append(found if target.max_kl is None else f"{found}, of at most {target.max_kl:.3g}")
    if target == Target():
        return "; ".join(["no target was set", *parts])
    lost = any(note.startswith(TARGET_MISSED) for note in missed(job, small, file_bytes))
    return (TARGET_MISSED if lost else "target met: ") + "; ".join(parts)


def _grid_steps(method: Method) -> tuple[float, ...]:
    """The grid steps that a method (or the one that rides along with it) tries; empty where it tries none."""
    grid = getattr(method, "grid", None)
    if isinstance(grid, GridChoice):
        return grid.steps
    inner = getattr(method, "method", None)
    return _grid_steps(inner) if isinstance(inner, Method) else ()


def told(job: Job, small: Compressed, file_bytes: int | None = None) -> Compressed:
    """The result, with its outcome in its facts, and a note where it misses the target.

    Where no file was written, a warning tells it as well, and the length is that of the file encoded in
    memory.

    Args:
        job: The settings of the run.
        small: The result.
        file_bytes: Length of the file in bytes; None where none was written.

    Returns:
        The result with the notes.
    """
    length = file_bytes or 0
    if file_bytes is None and job.target.max_bytes is not None:
        packed, _ = build_packed(small.module, small.tensors, small.example, dynamic=small.dynamic)
        length = len(pack.encode(packed))
    notes = [note for note in missed(job, small, length) if note.startswith(TARGET_MISSED)]
    for note in notes if file_bytes is None else ():
        warnings.warn(note, stacklevel=3)
    every = [*small.facts.get("notes", ()), *notes]
    facts = {**small.facts, OUTCOME: outcome(job, small, length)}
    return replace(small, facts={**facts, "notes": every} if notes else facts)


def _divergence(job: Job, small: Compressed, file_bytes: int) -> str:
    """A note where the predictions are farther from the original's than the target allows."""
    allowed, found = job.target.max_kl, small.facts.get("divergence")
    if allowed is None or found is None or found <= allowed * (1 + 1e-9):
        return ""
    tried = small.facts.get("prices_tried", ())
    told = f"{TARGET_MISSED}the predictions are {found:.3g} nats per term from the original's"
    if job.target.max_bytes is None:
        return (
            f"{told}, the least of {len(tried)} prices; {allowed:.3g} were asked for. "
            f"Cure: Target(max_kl={ROOM * found:.2g}), more calibration inputs, or keep=[names] for the "
            "layers that lose most"
        )
    return f"{told}{_within(job, file_bytes)}; {allowed:.3g} were asked for.{_ways(job, small, file_bytes)}"


def _within(job: Job, file_bytes: int) -> str:
    """The length that a file of the smallest loss was looked for in, in words."""
    most = job.target.max_bytes
    return f", the least in a file of at most {most} bytes" if most is not None and file_bytes <= most else ""


def _ways(job: Job, small: Compressed, file_bytes: int) -> str:
    """The shortest file that keeps what may be lost, and the cure by either limit."""
    most = job.target.max_bytes or 0
    after, before = small.facts.get("validation_metric"), small.facts.get("original_validation_metric")
    drop = None if after is None or before is None else job.task.metric.drop(before, after)
    as_found = _target(job.target, max(most, file_bytes), drop, small.facts.get("divergence"))
    ways = [as_found]
    if small.facts.get("reachable") is not None:
        ways.append(_way_out(job, small, file_bytes))
    if not small.facts.get("prices_tried"):
        ways.append(f"a {job.stages[-1].method.gentler}, or longer training")
    told = _shortest(job, small, file_bytes)
    return f"{told and ' ' + told} Cure: {', or '.join(dict.fromkeys(ways))}"


def _drop(job: Job, small: Compressed, file_bytes: int) -> tuple[str, ...]:
    """A note where the metric lost more than the target allows or, without a target, more than is usual."""
    metric, target = job.task.metric, job.target
    after, before = small.facts.get("validation_metric"), small.facts.get("original_validation_metric")
    if after is None or before is None:
        return ()
    drop = metric.drop(before, after)
    told = f"the validation {metric.name} went from {metric.show(before)} to {metric.show(after)}"
    knob = f"a {job.stages[-1].method.gentler}, or longer training"
    if target.max_drop is not None:
        if drop <= target.max_drop + 1e-9 * max(1.0, abs(before)):
            return ()
        told = f"{TARGET_MISSED}{told}"
        allowed = f"it may get worse by {metric.show(target.max_drop)}"
        if small.facts.get("reachable") is not None:
            within = _within(job, file_bytes)
            return (f"{told}{within}; {allowed}.{_ways(job, small, file_bytes)}",)
        if small.facts.get("prices_tried"):  # such a method trains nothing
            knob = f"Target(max_drop={_above(drop):g}), more calibration inputs, or keep=[names]"
        return (f"{told}; {allowed}. Cure: {knob}",)
    if drop > NOTED_LOSS * metric.allowance(before):
        return (f"{told}, and no target was given. Cure: Target(max_drop=...), {knob}",)
    return ()


def _above(drop: float) -> float:
    """The number with two decimals that is the next above."""
    return math.ceil(100 * drop) / 100
