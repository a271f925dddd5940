"""What differs from a parent file: the same tensor, differences of integers or of bit patterns, or anew."""

from __future__ import annotations

import math

import numpy as np

from laconic.checkpoints.forms import Form, rows_of
from laconic.errors import InputError
from laconic.pack import TensorFile, estimate_bits
from laconic.pack.kinds.pieces import encode_pieces
from laconic.quantize.entropy_coded import Rows, quantize_rows, thresholds_on
from laconic.records import IntArray, IntTensor, Tensor, UniformGrid
from laconic.records.children import ExactDifference, SameTensor, ShiftedTensor, differences, integers_of
from laconic.records.element_types import ByteArray, element_type
from laconic.records.typed import ExactTensor, RoundedTensor, elements_of

_SAME, _ADDED, _DIFFERENCE = "as in the parent", "added to the parent", "difference from the parent"
FROM_PARENT = (_SAME, _ADDED, _DIFFERENCE)
"""The forms, in words, of tensors that reading takes from the parent."""
_BLOCK = 1 << 18  # weights that are compared at once
_MOST = 1 << 30  # the largest integer of this library's own grids: differences of two fit in 32 bits
_CLOSE_ERROR = 1.05  # of the error asked for: grids of one rate, chosen for two states, differ by less


def against(parent: TensorFile, form: Form, data: ByteArray, shape: tuple[int, ...], kind: str) -> Form:
    """The shortest form of a tensor, given what it would be without the parent.

    Weights on the parent's grid are taken where their error is that of the form stored anew, or less: a
    coarser grid would not give what was asked for.

    Args:
        parent: The opened file.
        form: The tensor stored anew.
        data: Bytes of its elements.
        shape: Its dimensions.
        kind: Their type.
    """
    name = form.tensor.name
    if name not in parent or parent.info(name)[:2] != (shape, kind):
        return form
    old = parent.tensor(name)
    same = Form(SameTensor(name, shape, kind, name), _SAME, form.error)
    inner = integers_of(old)
    if isinstance(form.tensor, ExactTensor):
        before = elements_of(old)
        if np.array_equal(before, data):
            return same._replace(error=0.0)
        return _shorter_exactly(form, before, data, shape, kind)
    new = form.tensor.part if isinstance(form.tensor, RoundedTensor) else form.tensor
    if inner is None or not isinstance(new, IntTensor):
        return same if np.array_equal(elements_of(old), elements_of(form.tensor)) else form
    change = _change(rows_of(data, shape, kind), inner)
    if change is None:
        return form
    moved = change.any()
    if moved and estimate_bits(change) >= estimate_bits(new.integers):
        return form
    shifted = ShiftedTensor(name, shape, kind, name, IntTensor("", change, UniformGrid(1.0)))
    error = _error(shifted.resolve(old), data, shape, kind)
    if not error <= _CLOSE_ERROR * _error(form.tensor, data, shape, kind):
        return form
    return Form(shifted, _ADDED, error) if moved else same._replace(error=error)


def _error(stored: Tensor, data: ByteArray, shape: tuple[int, ...], kind: str) -> float:
    """Root mean square of all errors over that of all values; some rows at a time."""
    wanted, found = rows_of(data, shape, kind), rows_of(elements_of(stored), shape, kind)
    height = max(1, _BLOCK // max(1, math.prod(shape[1:])))
    lost = whole = 0.0
    for first in range(0, shape[0], height):
        values = wanted(first, min(shape[0], first + height)).astype(np.float64)
        whole += float(np.square(values).sum())
        lost += float(np.square(values - found(first, min(shape[0], first + height))).sum())
    return math.sqrt(lost / whole) if whole else 0.0


def _shorter_exactly(
    form: Form, before: ByteArray, data: ByteArray, shape: tuple[int, ...], kind: str
) -> Form:
    """Differences of bit patterns, where they take fewer bytes."""
    element = element_type(kind)
    change = differences(data, before, element)
    if encode_pieces(change, element, False).bytes < encode_pieces(data, element, element.floating).bytes:
        name = form.tensor.name
        made: Tensor = ExactDifference(name, shape, kind, name, change)
        return Form(made, _DIFFERENCE, 0.0)
    return form


def _change(rows: Rows, old: IntTensor) -> IntArray | None:
    """What is added to the parent's integers; None where its grid does not suit the weights."""
    grid, matrix = old.grid, (old.shape[0], math.prod(old.shape[1:]))
    if not isinstance(grid, UniformGrid) or grid.axis not in (None, 0):
        return None
    if max(int(old.integers.max()), -int(old.integers.min())) > _MOST:
        return None
    try:
        new = quantize_rows(old.name, rows, old.shape, grid, thresholds_on(rows, matrix, grid))
    except InputError:  # a step that is too small
        return None
    return new.integers - old.integers
