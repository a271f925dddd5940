"""What differs from a parent file: the same tensor, differences of integers or of bit patterns, or anew."""

from __future__ import annotations

import numpy as np

from laconic.checkpoints.forms import Form, rows_of
from laconic.pack import TensorFile, estimate_bits
from laconic.pack.kinds.pieces import encode_pieces
from laconic.quantize.entropy_coded import Rows
from laconic.records import IntArray, IntTensor, Tensor, UniformGrid
from laconic.records.children import ExactDifference, SameTensor, ShiftedTensor, differences, integers_of
from laconic.records.element_types import ByteArray, element_type
from laconic.records.typed import ExactTensor, RoundedTensor, elements_of

_STAY = 0.7
"""Steps that a weight may be from the parent's integer and keep it: a change costs more than it gains."""
_BLOCK = 1 << 18


def against(parent: TensorFile, form: Form, data: ByteArray, shape: tuple[int, ...], kind: str) -> Form:
    """The shortest form of a tensor, given what it would be without the parent.

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
    same = Form(SameTensor(name, shape, kind, name), "as in the parent", form.error)
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
    if not change.any():
        return same
    if estimate_bits(change) < estimate_bits(new.integers):
        part = IntTensor("", change, UniformGrid(1.0))
        return Form(ShiftedTensor(name, shape, kind, name, part), "added to the parent", form.error)
    return form


def _shorter_exactly(
    form: Form, before: ByteArray, data: ByteArray, shape: tuple[int, ...], kind: str
) -> Form:
    """Differences of bit patterns, where they take fewer bytes."""
    element = element_type(kind)
    change = differences(data, before, element)
    if encode_pieces(change, element, False).bytes < encode_pieces(data, element, element.floating).bytes:
        name = form.tensor.name
        made: Tensor = ExactDifference(name, shape, kind, name, change)
        return Form(made, "difference from the parent", 0.0)
    return form


def _change(rows: Rows, old: IntTensor) -> IntArray | None:
    """What is added to the parent's integers; None where a weight is too far from them."""
    before = old.integers.reshape(old.shape[0], -1)
    steps = np.array(old.grid.numbers, np.float32).reshape(-1, 1)
    if old.grid.axis not in (None, 0):
        return None
    change = np.zeros(before.shape, np.int32)
    height = max(1, _BLOCK // max(1, before.shape[1]))
    for first in range(0, len(before), height):
        last = min(len(before), first + height)
        scaled = rows(first, last) / (steps[first:last] if len(steps) > 1 else steps)
        if not float(np.abs(scaled).max(initial=0.0)) < 2.0**30:
            return None
        nearest = np.rint(scaled).astype(np.int32)
        moved = np.abs(scaled - before[first:last]) > _STAY
        change[first:last] = np.where(moved, nearest - before[first:last], 0)
    return change.reshape(old.shape)
