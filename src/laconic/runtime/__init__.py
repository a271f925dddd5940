"""Bytes to predictions without PyTorch: ``load``, ``Network``, ``calibrate``, ``emulate``, ``to_onnx``.

What a process that only runs a file does not need is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from laconic.runtime.engines.choice import LayerChoice
from laconic.runtime.network import Network, load
from laconic.runtime.origin import Engine

if TYPE_CHECKING:
    from laconic.runtime.calibration.from_batches import calibrate
    from laconic.runtime.calibration.range_choice import (
        LeastError,
        LeastOutputError,
        MinMax,
        Percentile,
        RangeChoice,
    )
    from laconic.runtime.emulation import Arithmetic, Emulator, Int8, Int16x8, Ternary, emulate
    from laconic.runtime.isolation.isolated_network import IsolatedNetwork
    from laconic.runtime.onnx_model.model import to_onnx
    from laconic.runtime.onnx_model.onnx_file import export_onnx

__all__ = [
    "Arithmetic",
    "Emulator",
    "Engine",
    "Int16x8",
    "Int8",
    "IsolatedNetwork",
    "LayerChoice",
    "LeastError",
    "LeastOutputError",
    "MinMax",
    "Network",
    "Percentile",
    "RangeChoice",
    "Ternary",
    "calibrate",
    "emulate",
    "export_onnx",
    "load",
    "to_onnx",
]

_LATER = {
    **dict.fromkeys(
        ("LeastError", "LeastOutputError", "MinMax", "Percentile", "RangeChoice"),
        "laconic.runtime.calibration.range_choice",
    ),
    "calibrate": "laconic.runtime.calibration.from_batches",
    **dict.fromkeys(
        ("Arithmetic", "Emulator", "Int16x8", "Int8", "Ternary", "emulate"), "laconic.runtime.emulation"
    ),
    "IsolatedNetwork": "laconic.runtime.isolation.isolated_network",
    "export_onnx": "laconic.runtime.onnx_model.onnx_file",
    "to_onnx": "laconic.runtime.onnx_model.model",
}

if not TYPE_CHECKING:  # a type checker sees the names above and no others

    def __getattr__(name: str) -> Any:
        """Import a name on first use (PEP 562)."""
        if name not in _LATER:
            raise AttributeError(f"module 'laconic.runtime' has no attribute {name!r}")
        return getattr(importlib.import_module(_LATER[name]), name)
