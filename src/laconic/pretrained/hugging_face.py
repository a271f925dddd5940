"""Networks of the package transformers: the class that config.json names, its weights from safetensors files.

Source: https://huggingface.co/docs/transformers/main_classes/model (``from_pretrained``).
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from torch import nn

from laconic.errors import InputError
from laconic.pretrained.names import Place
from laconic.progress import steps

_OFF = ("use_cache", "output_attentions", "output_hidden_states")
"""Settings that make a network return more than its prediction."""


def load(place: Place) -> nn.Module:
    """The network in evaluation mode, in float32; raises InputError as ``load_network`` does."""
    with steps("importing transformers"):
        transformers: Any = _told(place, import_module, "transformers")
    source = str(place.folder or place.name)
    config = _told(place, transformers.AutoConfig.from_pretrained, source, trust_remote_code=False)
    kind = _class_of(place, transformers, config)
    for name in _OFF:
        if hasattr(config, name):
            setattr(config, name, False)
    network, info = _told(
        place,
        kind.from_pretrained,
        source,
        config=config,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    _check_complete(place, info.get("missing_keys", ()))
    found: nn.Module = network.float().eval()
    return found


def _class_of(place: Place, transformers: Any, config: Any) -> Any:
    """The class of the network; one that only code of the folder defines is refused."""
    names = getattr(config, "architectures", None) or ()
    name = names[0] if isinstance(names, list | tuple) and names else None
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(
            f"{place.text}: config.json names no class of the network (architectures). "
            'Cure: "architectures": ["BertModel"], or the class that its weights are of'
        )
    kind = getattr(transformers, name, None)
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        raise InputError(
            f"{place.text}: transformers has no network called {name}. Cure: a release that has it, or a "
            "function of your own that returns the network, --model MODULE:FUNCTION"
        )
    return kind


def _check_complete(place: Place, missing: Iterable[str]) -> None:
    lacking = sorted(missing)
    if lacking:
        raise InputError(
            f"{place.text}: {len(lacking)} weights are not in its files, the first {lacking[0]!r}: random "
            "numbers would stand there. Cure: the architecture in config.json that the weights are of"
        )


def _told(place: Place, function: Any, *args: Any, **kwargs: Any) -> Any:
    """A call of the library; whatever it raises becomes an InputError that names the network."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # a library that is not ours raises many kinds
        told = " ".join(str(error).split())[:400].rstrip(". ")
        cure = "a whole folder, or a release of transformers that reads it"
        if place.folder is None:
            cure = "check the name and the connection, or hf:FOLDER of a copy with safetensors weights"
        raise InputError(f"{place.text}: {type(error).__name__}: {told}. Cure: {cure}") from error
