"""A network in a device's integer arithmetic, bit for bit, on NumPy integers."""

from laconic.runtime.integer.arithmetic import Arithmetic, Int8, Int16x8, Ternary
from laconic.runtime.integer.network import Emulator, emulate
from laconic.runtime.integer.values import Quantised

__all__ = ["Arithmetic", "Emulator", "Int8", "Int16x8", "Quantised", "Ternary", "emulate"]
