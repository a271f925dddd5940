"""A network in the integer arithmetic of TensorFlow Lite's kernels, on NumPy integers.

The tests hold each kernel against integers of TensorFlow Lite for Microcontrollers: they agree bit for bit.
"""

from laconic.runtime.emulation.arithmetic import Arithmetic, Int8, Int16x8, Ternary
from laconic.runtime.emulation.network import Emulator, emulate
from laconic.runtime.emulation.values import Quantised

__all__ = ["Arithmetic", "Emulator", "Int8", "Int16x8", "Quantised", "Ternary", "emulate"]
