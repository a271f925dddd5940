"""Everything random in an epoch, made to depend on (seed, epoch) alone: loaders and global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seeded(loader: Any, seed: int, epoch: int) -> Any:
    """The loader, the epoch set in it and its samplers: its order then depends on (seed, epoch) alone."""
    batches = getattr(loader, "batch_sampler", None)
    parts: tuple[Any, ...] = (loader, getattr(loader, "sampler", None), batches)
    for part in (*parts, getattr(batches, "sampler", None)):
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)
        elif isinstance(getattr(part, "generator", None), torch.Generator):
            part.generator.manual_seed(_mix(seed, epoch))
    return loader


@contextmanager
def global_noise(seed: int, epoch: int) -> Iterator[None]:
    """The global generators, seeded by (seed, epoch) within the block and put back afterwards.

    The one place where they are touched: a user's own ``nn.Dropout``, shuffling DataLoaders and
    augmentations draw from torch's, NumPy's or Python's and know no other.
    """
    mixed = _mix(seed, epoch)
    with kept_generators():
        torch.manual_seed(mixed)
        np.random.seed(mixed % 2**32)  # noqa: NPY002 - users' augmentations draw from it
        random.seed(mixed)
        yield


@contextmanager
def kept_generators() -> Iterator[None]:
    """Put the global generators back after the block."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - to put it back
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002 - as it was
            random.setstate(python_state)


def _mix(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch * 7_919 + 17) % 2**63
