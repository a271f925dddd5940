"""Where a file's bytes went, and what a run did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from laconic.records.base import Record, record


@record
class SectionRow(Record):
    """One row of ``inspect``: where ``bytes`` of the file went. The rows of a file add up to its length."""

    section: str
    name: str
    bytes: int
    shape: tuple[int, ...] = ()
    weights: int = 0
    nonzeros: int = 0
    levels: int = 0
    note: str = ""

    @property
    def bits_per_weight(self) -> float:
        """Bits of the file per weight of this row (0 when the row holds no weights)."""
        return 8.0 * self.bytes / self.weights if self.weights else 0.0


@record
class LayerRecord(Record):
    """A tensor before and after: counts, levels, bits per weight and bytes in the file."""

    name: str
    shape: tuple[int, ...]
    weights: int
    nonzeros: int
    levels: int
    bytes_before: int
    bytes_after: int

    @property
    def bits_per_weight(self) -> float:
        """Bits of the file per weight."""
        return 8.0 * self.bytes_after / self.weights if self.weights else 0.0


@record
class RunRecord(Record):
    """What a run did, as plain JSON-able data (see ``laconic.train.record`` for reading and writing)."""

    settings: Mapping[str, Any]
    seed: int
    versions: Mapping[str, str]
    layers: tuple[LayerRecord, ...]
    metrics: Mapping[str, float]
    file_bytes: int
    bytes_before: int
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
