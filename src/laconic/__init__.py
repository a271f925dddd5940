"""Laconic: neural networks in fewer bits.

The public verbs are here, each imported when it is first used, so that ``import laconic`` and
``import laconic.runtime`` need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laconic import (
        bayes,
        checkpoints,
        cost,
        data,
        errors,
        export,
        methods,
        onnx_in,
        pack,
        pretrained,
        progress,
        records,
        runtime,
        tasks,
        testing,
        train,
        zoo,
    )
    from laconic.api import (
        convert,
        objective,
        param_groups,
        penalty,
        prepare,
        step,
    )
    from laconic.checkpoints import pack_checkpoint, unpack_checkpoint
    from laconic.costing import cost_of
    from laconic.export.restoring import restore
    from laconic.methods.common.removal import remove_dead_units
    from laconic.onnx_in import pack_onnx
    from laconic.predicting import predict
    from laconic.runtime import export_onnx
    from laconic.saving import quantize_activations, save
    from laconic.train.compress import compress

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "bayes",
    "checkpoints",
    "compress",
    "compress_trained",
    "convert",
    "cost",
    "cost_of",
    "data",
    "errors",
    "export",
    "export_onnx",
    "methods",
    "objective",
    "onnx_in",
    "pack",
    "pack_checkpoint",
    "pack_onnx",
    "param_groups",
    "penalty",
    "predict",
    "prepare",
    "pretrained",
    "progress",
    "quantize_activations",
    "records",
    "remove_dead_units",
    "restore",
    "runtime",
    "save",
    "step",
    "tasks",
    "testing",
    "train",
    "unpack_checkpoint",
    "zoo",
]

_VERBS = {
    "prepare": "laconic.api",
    "objective": "laconic.api",
    "penalty": "laconic.api",
    "param_groups": "laconic.api",
    "step": "laconic.api",
    "convert": "laconic.api",
    "quantize_activations": "laconic.saving",
    "save": "laconic.saving",
    "predict": "laconic.predicting",
    "compress": "laconic.train.compress",
    "compress_trained": "laconic.train.calibrated",
    "cost_of": "laconic.costing",
    "remove_dead_units": "laconic.methods.common.removal",
    "restore": "laconic.export.restoring",
    "export_onnx": "laconic.runtime",
    "pack_checkpoint": "laconic.checkpoints",
    "unpack_checkpoint": "laconic.checkpoints",
    "pack_onnx": "laconic.onnx_in",
}


def __getattr__(name: str) -> Any:
    """Import a verb or a room on first use (PEP 562); torch comes in with the verbs that need it."""
    if name in _VERBS:
        return _on_first_use(name)
    if name in __all__:
        return importlib.import_module(f"laconic.{name}")
    raise AttributeError(f"module 'laconic' has no attribute {name!r}")


def _on_first_use(verb: str) -> Any:
    try:
        return getattr(importlib.import_module(_VERBS[verb]), verb)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "lightning_fabric"):
            raise
        raise ImportError(
            f"laconic.{verb} needs {error.name}, which the plain install leaves out. "
            "Cure: pip install 'laconic[train]'"
        ) from error


def __dir__() -> list[str]:
    return __all__
