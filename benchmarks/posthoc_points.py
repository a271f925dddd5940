"""Points of the curves that ``posthoc.py`` draws: bytes against the distance to the original network."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from posthoc_cases import Case
from torch import Tensor, nn

BATCH, BATCH_BYTES = 500, 1 << 22
"""Inputs that run at once, and their bytes."""
ROUNDING = 1e-6
"""Per cent: 98.29 - 0.1 is a little above 98.19 in floating-point numbers."""


class Point(NamedTuple):
    """One compressed network: settings in words, bytes, distance to the original, accuracy in per cent."""

    settings: str
    bytes: int
    distance: float
    accuracy: float | None


def point_of(row: dict[str, Any]) -> Point:
    """The point that a row of results holds."""
    return Point(*(row[field] for field in Point._fields))


def outputs_of(network: nn.Module, inputs: Tensor) -> Tensor:
    """A network's outputs, in batches."""
    with torch.no_grad():
        return torch.cat([network(part) for part in in_batches(inputs)])


def in_batches(inputs: Tensor) -> tuple[Tensor, ...]:
    """Inputs in parts that run at once."""
    return inputs.split(max(1, min(BATCH, BATCH_BYTES // inputs[0].nbytes)))


def score(settings: str, size: int, found: Tensor, reference: Tensor, case: Case) -> Point:
    """A point of a curve; written apart from the library's own divergences, which it checks."""
    if case.embeds:
        distance = float((1 - torch.cosine_similarity(found.double(), reference.double(), dim=-1)).mean())
    else:
        p, q = (values.double().log_softmax(-1) for values in (reference, found))
        distance = float((p.exp() * (p - q)).sum(-1).mean())
    accuracy = None
    if case.labels is not None:
        accuracy = 100 * float((found.argmax(-1) == case.labels).double().mean())
    return Point(settings, size, distance, accuracy)


def hull(points: list[Point]) -> list[Point]:
    """Points that no other one beats in both bytes and distance, by rising distance."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.distance, p.bytes)):
        if math.isfinite(point.distance) and (not best or point.bytes < best[-1].bytes):
            best.append(point)
    return best


def bytes_at(curve: list[Point], distance: float) -> float:
    """Bytes of a curve at a distance, linear in its logarithm; NaN outside the curve."""
    for left, right in zip(curve, curve[1:], strict=False):
        if left.distance <= distance <= right.distance:
            low, high, at = (math.log(max(d, 1e-12)) for d in (left.distance, right.distance, distance))
            share = (at - low) / (high - low) if high > low else 0.0
            return left.bytes + share * (right.bytes - left.bytes)
    return math.nan


def fewest(points: list[Point], least: float) -> Point | None:
    """The smallest file of at least this accuracy."""
    good = [p for p in points if p.accuracy is not None and p.accuracy >= least - ROUNDING]
    return min(good, key=lambda p: p.bytes, default=None)


def fingerprint(case: Case) -> str:
    """Tells a trained network with its inputs from others, so that no result is taken for another's.

    Made-up inputs may differ by a rounding between machines, so their mean and deviation stand for them.
    """
    digest = hashlib.sha256()
    for name, value in case.network.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    for inputs in (case.pool, case.test):
        mean, deviation = float(inputs.mean(dtype=torch.float64)), float(inputs.std())
        digest.update(f"{tuple(inputs.shape)} {mean:.3g} {deviation:.3g}".encode())
    return digest.hexdigest()[:16]


class Results:
    """Results of finished jobs, one JSON object a line, so that a run that was ended goes on where it stood.

    Args:
        path: The file; each line holds the job's key beside what it found.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # the last line was not written to its end
            path.write_text(whole)
        self._found = {row["key"]: row for row in map(json.loads, whole.splitlines())}

    def get(self, key: str) -> dict[str, Any] | None:
        """What a job found; None where it has not been done."""
        return self._found.get(key)

    def add(self, key: str, found: dict[str, Any]) -> None:
        """Keep what a job found."""
        row = {"key": key, **found}
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._found[key] = row
