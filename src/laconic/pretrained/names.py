"""Where a pretrained network is found: which library's it is, and a name or a folder. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from laconic.errors import InputError
from laconic.files import unreadable
from laconic.own import did_you_mean
from laconic.pretrained.timm_names import is_registered, registered_names

SOURCES: Mapping[str, str] = {"hf": "transformers", "timm": "timm"}
"""The package that loads a network, by what stands before the colon."""

WEIGHTS = "model.safetensors"
_INDEX = f"{WEIGHTS}.index.json"
_NAME = r"[\w.-]+(/[\w.-]+)?"
_LARGEST = 2**24  # bytes of a JSON file


class Place(NamedTuple):
    """One pretrained network.

    Args:
        source: A key of ``SOURCES``.
        name: A name that the library knows, or a folder.

    >>> Place("hf", "owner/name").text
    'hf:owner/name'
    """

    source: str
    name: str

    @property
    def text(self) -> str:
        """As it is written: ``hf:NAME``."""
        return f"{self.source}:{self.name}"

    @property
    def folder(self) -> Path | None:
        """The folder, where there is one of this name."""
        path = Path(self.name).expanduser()
        return path if self.name and path.is_dir() else None

    @property
    def short(self) -> str:
        """The last part of the name, for a run folder."""
        return re.sub(r"[^\w.-]", "-", self.name.rstrip("/").rpartition("/")[2]).strip(".") or self.source


def place_of(text: str) -> Place | None:
    """The place that ``hf:...`` or ``timm:...`` names.

    Args:
        text: Any text.

    Returns:
        The place; None for a text of another form.

    >>> place_of("hf:./nets/bert").short, place_of("timm:resnet10t").name, place_of("nets:mine")
    ('bert', 'resnet10t', None)
    """
    source, colon, name = text.partition(":")
    return Place(source, name) if colon and source in SOURCES else None


def check_place(place: Place) -> None:
    """Refuse a place that cannot be loaded, as far as that shows without loading it.

    Args:
        place: What :func:`place_of` returned.

    Raises:
        InputError: The library is not installed; no folder and no name; a folder without config.json, or
            without weights in a safetensors file.

    >>> check_place(Place("hf", "a/b/c"))
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: hf:a/b/c: there is no such folder, and no name has this form. Cure: hf:FOLDER
    with config.json and model.safetensors, or hf:OWNER/NAME
    """
    folder = place.folder
    if folder is not None:
        _check_folder(place, folder)
    elif not re.fullmatch(_NAME, place.name) or place.name.startswith("."):
        form = "hf:OWNER/NAME" if place.source == "hf" else "timm:NAME, one of timm.list_models()"
        raise InputError(
            f"{place.text}: there is no such folder, and no name has this form. Cure: {place.source}:FOLDER "
            f"with config.json and {WEIGHTS}, or {form}"
        )
    package = SOURCES[place.source]
    if not _installed(package):
        needs = f"{package} safetensors" if folder is not None else package
        raise InputError(f"{place.text} needs the package {package}. Cure: pip install {needs}")
    if place.source == "timm" and folder is None:
        names = registered_names()
        if not is_registered(place.name, names):
            raise unknown_name(place, names)


def unknown_name(place: Place, names: Iterable[str]) -> InputError:
    """The error for a name that timm does not have; ``names``: those that it has."""
    return InputError(f"{place.text}: timm has no such network. Cure: {did_you_mean(place.name, names)}")


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module that was put into sys.modules by hand has no specification
        return True


def config_of(place: Place, folder: Path) -> dict[str, Any]:
    """The folder's config.json; raises InputError where it is none."""
    path = folder / "config.json"
    cure = f"Cure: a folder as {_WRITTEN[place.source]} writes it"
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{place.text}: config.json has {path.stat().st_size} bytes. {cure}")
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{place.text}: the folder has no config.json. {cure}") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place.text}: config.json is no JSON ({error}). {cure}") from error
    if not isinstance(found, dict):
        raise InputError(f"{place.text}: config.json holds a {type(found).__name__}, no table. {cure}")
    return found


_WRITTEN = {"hf": "save_pretrained", "timm": "timm.models.save_for_hf"}


def _check_folder(place: Place, folder: Path) -> None:
    config = config_of(place, folder)
    if place.source == "hf" and "architectures" not in config and "architecture" in config:
        raise InputError(
            f"{place.text}: config.json is one of timm ({config['architecture']!r}). Cure: timm:{place.name}"
        )
    if (folder / WEIGHTS).is_file():
        return
    if place.source == "hf" and (folder / _INDEX).is_file():
        _check_index(place, folder / _INDEX)
        return
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickled:
        raise InputError(
            f"{place.text}: the weights are in {pickled[0]}, a pickle, which can run any code when it is "
            f"read. Cure: {WEIGHTS} in its place; from a file that you trust, "
            f"{_converting(place, config)} writes it"
        )
    raise InputError(f"{place.text}: the folder has no {WEIGHTS}. Cure: copy it there from where it came")


def _converting(place: Place, config: Mapping[str, Any]) -> str:
    """The call that writes safetensors in place of a pickle, by the network's own class."""
    if place.source == "timm":
        return "timm.models.save_for_hf(network, folder, safe_serialization=True)"
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and str(names[0]).isidentifier() else "AutoModel"
    return f"transformers.{name}.from_pretrained(folder).save_pretrained(folder)"


def _check_index(place: Place, path: Path) -> None:
    """Refuse an index of several safetensors files that names files elsewhere."""
    cure = "Cure: copy the folder anew from where it came"
    try:
        parts = json.loads(path.read_bytes())["weight_map"].values()
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{place.text}: {path.name} is no index of weights. {cure}") from error
    for part in dict.fromkeys(map(str, parts)):
        if Path(part).name != part or not part.endswith(".safetensors"):
            raise InputError(
                f"{place.text}: {path.name} names {part!r}, no safetensors file of the folder. {cure}"
            )
        if not (path.parent / part).is_file():
            raise InputError(f"{place.text}: the folder has no {part}, which {path.name} names. {cure}")
