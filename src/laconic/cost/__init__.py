"""What a network costs: bytes, memory, arithmetic, energy, time. Counted, estimated, measured. No torch."""

from laconic.cost.clock import measure
from laconic.cost.counting import ACTIVATION_BITS, count
from laconic.cost.device import Arithmetic, Device, Memory
from laconic.cost.device_file import device_names, read_device
from laconic.cost.roofline import estimate
from laconic.cost.tables import Cost, Estimate, Fit, LayerCost, LayerEstimate, Measured

__all__ = [
    "ACTIVATION_BITS",
    "Arithmetic",
    "Cost",
    "Device",
    "Estimate",
    "Fit",
    "LayerCost",
    "LayerEstimate",
    "Measured",
    "Memory",
    "count",
    "device_names",
    "estimate",
    "measure",
    "read_device",
]
