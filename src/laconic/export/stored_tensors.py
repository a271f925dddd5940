"""Converts a tensor to the raw element types of a file, and back."""

from __future__ import annotations

import numpy as np
import torch

from laconic.errors import InputError
from laconic.records import AnyArray

EXTRA_STATE = "_extra_state"
# Types that a file has no code for, and the next wider one that it has.
_WIDER = {torch.bfloat16: torch.float32, torch.uint16: torch.int32, torch.uint32: torch.int64}


def stored(name: str, tensor: torch.Tensor, *, narrow: bool) -> AnyArray:
    """The array that a file holds for a tensor; exact, but for float64 where ``narrow`` asks for float32.

    A complex tensor becomes its real view: one more dimension of size 2, real part first. bfloat16 becomes
    float32, unsigned integers the next wider signed ones.

    Raises InputError for unsigned 64-bit integers from 2^63 on.

    >>> stored("w", torch.tensor([1 + 2j]), narrow=True).tolist()
    [[1.0, 2.0]]
    """
    own = tensor.detach().cpu()
    if own.is_complex():
        own = torch.view_as_real(own.resolve_conj())
    if own.dtype is torch.float64 and narrow:
        own = own.float()
    if own.dtype is torch.uint64:
        array = own.numpy()
        if array.size and int(array.max()) >= 2**63:
            raise InputError(f"tensor {name!r} holds integers from 2^63 on. Cure: a smaller integer type")
        return np.ascontiguousarray(array, np.int64).reshape(tuple(own.shape))
    own = own.to(_WIDER.get(own.dtype, own.dtype)).resolve_neg()
    return np.ascontiguousarray(own.numpy()).reshape(tuple(own.shape))


def taken_back(array: AnyArray, like: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`stored`: a tensor that can be copied into one such as ``like``.

    >>> taken_back(np.float32([[1, 2]]), torch.zeros(1, dtype=torch.complex64)).tolist()
    [(1+2j)]
    """
    tensor = torch.from_numpy(np.array(array, copy=True))
    return torch.view_as_complex(tensor) if like.is_complex() else tensor


def stored_shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """The shape of a tensor in a file."""
    return (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)
