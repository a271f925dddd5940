"""Checkpoints that a kill at any moment cannot spoil: written beside, synced, then renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from laconic.errors import RunFolderError, WriteError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors and plain Python values) so that ``path`` is either old or new, never half.

    Raises WriteError if the disk is full; the old checkpoint then still stands.
    """
    beside = path.with_name(path.name + ".part")
    try:
        with open(beside, "wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        beside.unlink(missing_ok=True)
        raise WriteError(
            f"could not write checkpoint {path}: {error}. Cure: free some space and --resume"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state in ``path``, or None if there is none. Nothing in it can run code (weights_only)."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunFolderError(
            f"checkpoint {path} cannot be read: {error}. Cure: delete it and --resume"
        ) from error
    return dict(state)
