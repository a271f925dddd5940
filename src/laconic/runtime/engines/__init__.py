"""What runs a network: ONNX Runtime, OpenVINO, and our kernels where they win, chosen by measurement."""

from laconic.runtime.engines.assembly import Assembly, assemble
from laconic.runtime.engines.choice import LayerChoice

__all__ = ["Assembly", "LayerChoice", "assemble"]
