"""A user's own functions, named as ``package.module:function`` on the command line. No torch."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from laconic.errors import InputError, LaconicError


def check_name(text: str, flag: str) -> tuple[str, str]:
    """The module and the function that ``package.module:function`` names."""
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise InputError(f"{flag} {text!r} should read package.module:function")
    return module_name, name


def own_function(text: str, flag: str) -> Callable[[], Any]:
    """``package.module:function``, found from the current folder too."""
    module_name, name = check_name(text, flag)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{flag} {text}: {error}. Cure: run where the module can be imported") from error
    except LaconicError:
        raise
    except Exception as error:  # the module is the user's, so anything may come out of it
        raise InputError(
            f"{flag} {text}: importing {module_name} raised {_told(error)}. "
            "Cure: name a module that Python imports, as package.module:function (dots, no slashes)"
        ) from error
    if not callable(function):
        raise InputError(f"{flag} {text} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]


def call_own(text: str, flag: str) -> Any:
    """What the user's function returns; whatever it raises becomes an InputError that names it."""
    function = own_function(text, flag)
    try:
        return function()
    except LaconicError:
        raise
    except Exception as error:  # as above: the function is the user's
        raise InputError(
            f"{flag} {text} raised {_told(error)}. Cure: a function that runs when called without arguments"
        ) from error


def _told(error: Exception) -> str:
    """An error as one line: its class and its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
