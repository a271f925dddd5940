"""Whole checkpoints of any architecture, compressed tensor by tensor and given back. No torch."""

from laconic.checkpoints.packing import CheckpointReport, TensorReport, pack_checkpoint
from laconic.checkpoints.unpacking import unpack_checkpoint

__all__ = ["CheckpointReport", "TensorReport", "pack_checkpoint", "unpack_checkpoint"]
