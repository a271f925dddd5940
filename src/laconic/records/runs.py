"""Sections of a file with their bytes, and the record of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from laconic.records.base import Record, record


@record
class SectionRow(Record):
    """One section of a file; the ``bytes`` of all rows of a file add up to its length.

    Attributes:
        section: "header", "graph", "names", "aliases", "tensor" or "checksums".
        name: The tensor's name, or what the section holds.
        bytes: Bytes of the file.
        shape: The tensor's dimensions.
        weights: Number of its entries.
        nonzeros: Entries whose value is not zero.
        levels: Number of different integers.
        note: Codec and bytes of the header, or another remark.

    >>> SectionRow("tensor", "w", bytes=25, shape=(10, 10), weights=100).bits_per_weight
    2.0
    """

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
    """A tensor before and after compression.

    Attributes:
        name: Its state-dict name.
        shape: Its dimensions.
        weights: Number of its entries.
        nonzeros: Entries whose value is not zero.
        levels: Number of different integers.
        bytes_before: Bytes in the original type.
        bytes_after: Bytes of the file.

    >>> LayerRecord("w", (10, 10), 100, 7, levels=3, bytes_before=400, bytes_after=25).bits_per_weight
    2.0
    """

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
    """Settings and results of a run, as JSON-able data (``laconic.train.record`` reads and writes it).

    Attributes:
        settings: The run's settings, by name.
        seed: Of all random numbers.
        versions: Versions of the libraries, by name.
        layers: One record per tensor.
        metrics: Measured values, by name.
        file_bytes: Length of the file.
        bytes_before: Bytes of the network in its original types.
        notes: Remarks for the reader.
        facts: What else was measured, by name.
        file_hash: Of the file's bytes (:func:`laconic.files.file_hash`); empty in earlier records.

    >>> RunRecord({}, 0, {}, (), {"error %": 0.8}, file_bytes=4000, bytes_before=1_724_320).file_bytes
    4000
    """

    settings: Mapping[str, Any]
    seed: int
    versions: Mapping[str, str]
    layers: tuple[LayerRecord, ...]
    metrics: Mapping[str, float]
    file_bytes: int
    bytes_before: int
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    file_hash: str = ""
