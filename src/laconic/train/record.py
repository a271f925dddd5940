"""Run records as JSON, complete enough for figures to be drawn from them later."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np

from laconic.errors import RunFolderError
from laconic.pack import Limits, layout
from laconic.records import LayerRecord, RunRecord, Tensor


def versions() -> dict[str, str]:
    """Versions of the packages that a run's numbers depend on."""
    names = ("laconic", "torch", "numpy", "onnx", "onnxruntime")
    found = {name: _version(name) for name in names}
    return {"python": platform.python_version(), **found}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def layer_records(tensors: Mapping[str, Tensor], data: bytes) -> tuple[LayerRecord, ...]:
    """Each tensor before (fp32) and after (its bytes inside the file ``data``)."""
    coded = {row.name: row.bytes for row in layout(data, limits=Limits.trusted()) if row.section == "tensor"}
    rows = []
    for name, tensor in tensors.items():
        values = np.asarray(tensor.values())
        rows.append(
            LayerRecord(
                name=name,
                shape=tuple(values.shape),
                weights=int(values.size),
                nonzeros=tensor.nonzeros(),
                levels=int(np.unique(values).size),
                bytes_before=4 * int(values.size),
                bytes_after=coded.get(name, 0),
            )
        )
    return tuple(rows)


def to_json(record: RunRecord) -> dict[str, Any]:
    """Plain JSON-able data; each layer also says its bits per weight."""
    layers = [{**asdict(row), "bits_per_weight": row.bits_per_weight} for row in record.layers]
    return {**asdict(record), "layers": layers}


def from_json(data: Mapping[str, Any]) -> RunRecord:
    """The inverse of :func:`to_json`; raises RunFolderError on a field that is missing or unknown."""
    try:
        layers = tuple(_layer(row) for row in data["layers"])
        return RunRecord(**{**data, "layers": layers, "notes": tuple(data.get("notes", ()))})
    except (KeyError, TypeError) as error:
        raise RunFolderError(
            f"not a run record: {error}. Cure: use the record.json that a run wrote"
        ) from error


def _layer(row: Mapping[str, Any]) -> LayerRecord:
    stored = {k: v for k, v in row.items() if k != "bits_per_weight"}
    return LayerRecord(**{**stored, "shape": tuple(row["shape"])})
