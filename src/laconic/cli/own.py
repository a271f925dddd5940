"""A user's own functions, named as ``package.module:function`` on the command line. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from laconic.errors import InputError, LaconicError
from laconic.own import own_object


def check_name(text: str, flag: str) -> tuple[str, str]:
    """The module and the function that ``package.module:function`` names."""
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise InputError(f"{flag} {text!r} should read package.module:function. Cure: {_cure_of(text)}")
    return module_name, name


def _cure_of(text: str) -> str:
    """What to do with a name that may be a file's."""
    if text.endswith(".onnx"):
        return f"laconic pack {text} --bits 4 --out model.lac"
    if text.endswith((".pt", ".pth", ".bin", ".safetensors")):
        return "a function that builds the network and loads this file, as --model my_module:make"
    return "a function of a module of yours, as my_module:make"


def own_function(text: str, flag: str) -> Callable[..., Any]:
    """``package.module:function``, found from the current folder too."""
    function = own_object(text, flag)
    if not callable(function):
        raise InputError(
            f"{flag} {text} is a {type(function).__name__}, not a function. Cure: name a function, as "
            "my_module:make"
        )
    return function  # type: ignore[no-any-return]


def call_own(text: str, flag: str) -> Any:
    """What the user's function returns; whatever it raises becomes an InputError that names it."""
    function = own_function(text, flag)
    try:
        return function()
    except LaconicError:
        raise
    except Exception as error:  # the function is the user's, so anything may come out of it
        told = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
        raise InputError(
            f"{flag} {text} raised {told}. Cure: a function that runs when called without arguments"
        ) from error
