"""From a PyTorch module to a file and back: capture its graph, save, restore, export to ONNX."""

from laconic.export.build import build_packed, save
from laconic.export.graph_capture import capture
from laconic.export.restoring import restore
from laconic.runtime import export_onnx

__all__ = ["build_packed", "capture", "export_onnx", "restore", "save"]
