"""What runs a network: ONNX Runtime, OpenVINO, and our kernels where they win, chosen by measurement."""

from laconic.runtime.engines.assembly import ENGINES, Assembly, Engine, Options, assemble
from laconic.runtime.engines.choice import LayerChoice
from laconic.runtime.engines.openvino import OpenVinoNetwork, installed

__all__ = [
    "ENGINES",
    "Assembly",
    "Engine",
    "LayerChoice",
    "OpenVinoNetwork",
    "Options",
    "assemble",
    "installed",
]
