"""The one bridge where PyTorch meets the file and ONNX: capture, save, restore, export."""

from laconic.export.build import build_packed, save
from laconic.export.graph_capture import CapturedGraph, capture
from laconic.export.restoring import restore
from laconic.runtime import export_onnx

__all__ = ["CapturedGraph", "build_packed", "capture", "export_onnx", "restore", "save"]
