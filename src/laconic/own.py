"""A user's own objects, named as ``package.module:name``. No torch."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any

from laconic.errors import InputError, LaconicError


def own_object(text: str, what: str) -> Any:
    """The object that ``package.module:name`` names, found from the current folder too.

    Args:
        text: The module, a colon, and a name in it.
        what: What errors call it, as "--data" or "task".

    Raises:
        InputError: A text of another form, a module that cannot be imported, or a name that is not in it.

    >>> own_object("math:pi", "number")
    3.141592653589793
    """
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise InputError(
            f"{what} {text!r} should read package.module:name. Cure: my_module:name for what my_module.py "
            "calls name"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"{what} {text}: {error}. Cure: run where the module can be imported") from error
    except LaconicError:
        raise
    except Exception as error:  # the module is the user's, so anything may come out of it
        told = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
        raise InputError(
            f"{what} {text}: importing {module_name} raised {told}. "
            "Cure: name a module that Python imports, as package.module:name (dots, no slashes)"
        ) from error
    if not hasattr(module, name):
        names = [known for known in vars(module) if not known.startswith("_")]
        raise InputError(f"{what} {text}: {module_name} has no {name}. Cure: {did_you_mean(name, names)}")
    return getattr(module, name)


MANY = 40
"""Names that a message lists at most."""


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """The cure for a misspelt name: the nearest known one, all of them, or the three nearest of many.

    >>> did_you_mean("regresion", ["classification", "regression"]), did_you_mean("x", ["b", "a"])
    ('did you mean regression?', 'one of a, b')
    """
    import difflib  # for a message alone

    names = sorted(known)
    near = difflib.get_close_matches(text, names, 1)
    if near:
        return f"did you mean {near[0]}?"
    if len(names) > MANY:
        close = difflib.get_close_matches(text, names, 3, cutoff=0.0)
        return f"one of {len(names)} names, the nearest of which are {', '.join(close)}"
    return f"one of {', '.join(names)}" if names else "no name is registered"
