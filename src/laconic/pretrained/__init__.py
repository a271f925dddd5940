"""Trained networks by the names of other libraries: ``hf:NAME_OR_FOLDER``, ``timm:NAME_OR_FOLDER``.

Names are understood without torch; transformers and timm are imported where a network of theirs is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.pretrained.names import SOURCES, Place, check_place, place_of

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SOURCES", "Place", "check_place", "load_network", "place_of"]


def load_network(text: str) -> nn.Module:
    """A trained network by its name, in evaluation mode and in float32.

    Args:
        text: ``hf:FOLDER`` with config.json and model.safetensors, as ``save_pretrained`` writes them;
            ``hf:NAME`` of huggingface.co; ``timm:NAME`` with timm's pretrained weights; ``timm:FOLDER``, as
            ``timm.models.save_for_hf`` writes it. Weights are read from safetensors files alone where a
            folder is given, or a name of huggingface.co.

    Returns:
        The network. One of Hugging Face returns what it is about and no caches, attentions or hidden states.

    Raises:
        InputError: A text of another form, a library that is not installed, a network that cannot be loaded,
            or one whose folder lacks some of its weights.

    >>> load_network("nets:mine")
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: 'nets:mine' names no pretrained network. Cure: hf:NAME, hf:FOLDER, timm:NAME or
    timm:FOLDER
    """
    from laconic.errors import InputError

    place = place_of(text)
    if place is None:
        raise InputError(
            f"{text!r} names no pretrained network. Cure: hf:NAME, hf:FOLDER, timm:NAME or timm:FOLDER"
        )
    check_place(place)
    if place.source == "hf":
        from laconic.pretrained.hugging_face import load
    else:
        from laconic.pretrained.timm_networks import load
    return load(place)
