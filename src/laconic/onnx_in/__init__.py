"""ONNX in: the weights of an existing ONNX file are compressed, and its graph is run or kept. No torch."""

from laconic.onnx_in.packing import Packed, pack_onnx
from laconic.onnx_in.weights import Grids

__all__ = ["Grids", "Packed", "pack_onnx"]
