"""Bytes to predictions without PyTorch: ``load``, ``Network``, ``calibrate``, ``emulate``, ``to_onnx``."""

from laconic.runtime.calibrate import LeastSquares, MinMax, Percentile, RangeChoice, calibrate
from laconic.runtime.engines import Engine, LayerChoice
from laconic.runtime.integer import Arithmetic, Emulator, Int8, Int16x8, Ternary, emulate
from laconic.runtime.network import Network, load
from laconic.runtime.onnx_build import to_onnx
from laconic.runtime.onnx_file import export_onnx

__all__ = [
    "Arithmetic",
    "Emulator",
    "Engine",
    "Int16x8",
    "Int8",
    "LayerChoice",
    "LeastSquares",
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
