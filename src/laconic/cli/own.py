"""A user's own functions, named as ``package.module:function`` on the command line. No torch."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from laconic.errors import InputError


def own_function(text: str, flag: str) -> Callable[[], Any]:
    """``package.module:function``, found from the current folder too."""
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise InputError(f"{flag} {text!r} should read package.module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{flag} {text}: {error}. Cure: run where the module can be imported") from error
    if not callable(function):
        raise InputError(f"{flag} {text} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]
