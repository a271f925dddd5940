"""What ``--calibrate`` and ``--model`` may name, told apart by their form. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from laconic.cli.array_checks import check_file
from laconic.cli.data_files import NAMES, check_names
from laconic.cli.own import call_own, check_name
from laconic.data import check_data_name
from laconic.errors import InputError
from laconic.pretrained import check_place, load_network, place_of

ARRAYS = (".npy", ".npz", ".safetensors")


def array_file(text: str) -> bool:
    """Whether a text names a file of arrays: by its ending.

    >>> array_file("inputs.npz"), array_file("mnist"), array_file("nets:inputs")
    (True, False, False)
    """
    return text.endswith(ARRAYS)


def is_own(text: str | None) -> bool:
    """Whether a text names a function of the user's: it has a colon, and is no pretrained network or file."""
    return text is not None and ":" in text and place_of(text) is None and not array_file(text)


def is_pretrained(text: str | None) -> bool:
    """Whether a text names a network of another library."""
    return text is not None and place_of(text) is not None


def check_source(text: str, flag: str) -> None:
    """Refuse what can be no file of arrays, function or data set.

    Raises:
        InputError: Names the option and what would do.
    """
    if array_file(text):
        if flag != "--calibrate" and not text.endswith(".npz"):
            raise InputError(
                f"{flag} {text} is a file of arrays without labels. Cure: --calibrate {text}, or a .npz file "
                f"with {NAMES}"
            )
        if not Path(text).is_file():
            raise InputError(f"{flag} {text}: there is no such file. Cure: check the path")
        if flag == "--calibrate":
            check_file(text)
        else:
            check_names(text)
    elif ":" in text:
        check_name(text, flag)
    elif text:
        check_data_name(text)


def check_network(text: str, flag: str = "--model") -> None:
    """Refuse what can be no pretrained network and no function.

    Raises:
        InputError: Names the option and what would do.
    """
    place = place_of(text)
    if place is not None:
        check_place(place)
    elif Path(text).expanduser().is_dir():
        raise InputError(f"{flag} {text} is a folder. Cure: {flag} hf:{text}, or timm:{text}")
    else:
        check_name(text, flag)


def network_named(text: str, flag: str) -> Any:
    """The pretrained network of this name, or what the user's function returns.

    Raises:
        InputError: It cannot be loaded, or the function raises.
    """
    return call_own(text, flag) if place_of(text) is None else load_network(text)


def short_name(text: str) -> str:
    """A network's name for its run folder: a function's, or the last part of a pretrained network's.

    >>> short_name("nets:trained"), short_name("hf:./nets/bert")
    ('trained', 'bert')
    """
    place = place_of(text)
    return text.rpartition(":")[2] if place is None else place.short
