"""A network in a device's integer arithmetic, bit for bit, on NumPy integers."""

from laconic.runtime.emulation.arithmetic import Arithmetic, Int8, Int16x8, Ternary
from laconic.runtime.emulation.network import Emulator, emulate
from laconic.runtime.emulation.values import Quantised

__all__ = ["Arithmetic", "Emulator", "Int8", "Int16x8", "Quantised", "Ternary", "emulate"]
