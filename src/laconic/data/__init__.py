"""Real data with pinned checksums, and explicit, seeded splits.

Reading needs NumPy alone; only ``split`` and ``TensorLoader`` import torch, when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from laconic.data.images import DataName, ImageData, check_data_name, load
from laconic.data.spec import FASHION_MNIST, MNIST, DataSpec

if TYPE_CHECKING:
    from laconic.data.tensors import Splits, TensorLoader, TensorPair, split

__all__ = [
    "FASHION_MNIST",
    "MNIST",
    "DataName",
    "DataSpec",
    "ImageData",
    "Splits",
    "TensorLoader",
    "TensorPair",
    "check_data_name",
    "load",
    "split",
]

_NEED_TORCH = frozenset({"Splits", "TensorLoader", "TensorPair", "split"})


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        return getattr(importlib.import_module("laconic.data.tensors"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
