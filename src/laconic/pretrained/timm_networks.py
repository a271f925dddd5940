"""Networks of the package timm, by the names of ``timm.list_models()`` or from a folder.

Source: https://huggingface.co/docs/timm (``create_model``).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from laconic.errors import InputError
from laconic.pretrained.names import Place, unknown_name
from laconic.progress import steps


def load(place: Place) -> nn.Module:
    """The network in evaluation mode, in float32; raises InputError as ``load_network`` does."""
    try:
        with steps("importing timm"):
            timm: Any = import_module("timm")
    except ImportError as error:  # it is installed, and something that it needs is not
        raise InputError(f"{place.text}: {error}. Cure: pip install --upgrade timm") from error
    if place.folder is None and not timm.is_model(place.name):
        raise unknown_name(place, timm.list_models())
    name = place.name if place.folder is None else f"local-dir:{place.folder}"
    try:
        network: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # a library that is not ours raises many kinds
        told = " ".join(str(error).split())[:400].rstrip(". ")
        cure = "a whole folder, as timm.models.save_for_hf writes it"
        if place.folder is None:
            cure = "check the connection and that it has pretrained weights, or timm:FOLDER of a copy"
        raise InputError(f"{place.text}: {type(error).__name__}: {told}. Cure: {cure}") from error
    return network.float().eval()
