"""The torch functions of one name: ``torch.add``, ``Tensor.add_``, ``Tensor.__radd__``, ..."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

_ROOMS = (torch, F, torch.Tensor, torch.special, torch._C._nn, torch._VF)
_FORMS = ("{}", "{}_", "__{}__", "__r{}__", "__i{}__")


def called(*names: str) -> tuple[Callable[..., Any], ...]:
    """Every function, method, operator and property of torch of one of these names.

    >>> torch.relu_ in called("relu"), torch.Tensor.__add__ in called("add"), torch.mean in called("add")
    (True, True, False)
    """
    return tuple(dict.fromkeys(f for name in names for f in _forms(name)))


def _forms(name: str) -> Iterator[Callable[..., Any]]:
    for room in _ROOMS:
        for form in _FORMS:
            found = getattr(room, form.format(name), None)
            if found is None:
                continue
            if callable(found):
                yield found
            elif hasattr(found, "__get__"):  # a property: what is called is its getter
                yield found.__get__
