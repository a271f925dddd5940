"""Bytes to predictions without PyTorch: ``load``, ``Network``, ``to_onnx``, ``export_onnx``."""

from laconic.runtime.engines import Engine, LayerChoice
from laconic.runtime.network import Network, load
from laconic.runtime.onnx_build import to_onnx
from laconic.runtime.onnx_file import export_onnx

__all__ = ["Engine", "LayerChoice", "Network", "export_onnx", "load", "to_onnx"]
