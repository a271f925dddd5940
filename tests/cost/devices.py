"""Devices with small round numbers, so that a test can do the sums."""

from __future__ import annotations

from laconic.cost import Arithmetic, Device, Memory

FLASH = Memory("flash", "weights", 2_000_000, 1e6, 7)
RAM = Memory("ram", "activations", 100_000, 4e6, 3)
FP32 = Arithmetic("fp32", 32, 32, 0.5, 11)
INT8 = Arithmetic("int8", 8, 8, 2.0, 1)

MICRO = Device("micro", 1e6, 0.25, 0.001, 0, (FLASH, RAM), (FP32, INT8))
"""1 MHz: half a float MAC or two int8 MACs a cycle, 1 byte a cycle from flash and 4 from RAM, 1 ms a call."""
