"""Labels: which units the positions of a tensor belong to.

A :class:`Field` labels positions along one axis (channels), or along several at once where an axis was split
(hidden states seen as heads times width). A position is removed when its unit is. How a split axis may
shrink is left open until the trace is complete: what the network does with the parts (contracts one, joins
others) decides it.

``zero`` says whether the tensor is exactly zero where a unit was zeroed in all of its parameters: then a sum
over that axis does not change when the unit is removed. ``Pixels`` says of a view of a network's input which
number each position holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from laconic.structure.coupling.units import Labels, Units

Positions = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Field:
    """Units by position: as many axes as the tensor has, of length 1 where the unit does not depend on them.

    A ``weak`` field was created with a network's input (its width, its time steps), which mostly must stay
    anyway.
    """

    units: Labels
    zero: bool = True
    weak: bool = False

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which the unit varies."""
        return tuple(k for k, n in enumerate(self.units.shape) if n > 1)


@dataclass(frozen=True, eq=False)
class Pixels:
    """``where[position]`` is the flat place within one example of input ``source``."""

    source: int
    where: Positions


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor's shape and fields; no axis belongs to two of them, and one that belongs to none must stay.

    ``guard`` are units that must stay once anything reads this tensor. ``slices`` are the values along axis 0
    where these differ (hidden states stacked by layer); ``fields`` is then empty.
    """

    shape: tuple[int, ...]
    fields: tuple[Field, ...] = ()
    pixels: Pixels | None = None
    guard: Labels | None = None
    slices: tuple[Value, ...] | None = None

    def at(self, axis: int) -> Field | None:
        """The field that an axis belongs to."""
        axis %= len(self.shape)
        return next((f for f in self.fields if axis in f.axes), None)

    def without(self, axis: int) -> tuple[Field, ...]:
        """The fields that an axis does not belong to."""
        axis %= len(self.shape)
        return tuple(f for f in self.fields if axis not in f.axes)


def along(axis: int, dims: int, units: Labels, *, zero: bool = True, weak: bool = False) -> Field:
    """A field along one axis of a tensor of ``dims`` dimensions."""
    shape = [1] * dims
    shape[axis] = len(units)
    return Field(units.reshape(shape), zero, weak)


def coupled(units: Units, field: Field, axis: int) -> Field:
    """The field with all units along an axis joined, so that it no longer varies along it."""
    first = np.take(field.units, [0], axis=axis)
    units.join(first, field.units)
    return replace(field, units=first)


def take_axis(units: Units, value: Value, axis: int) -> Field | None:
    """The field of one axis alone: what it was split from, or is split with, is joined."""
    field = value.at(axis)
    if field is None:
        return None
    for other in field.axes:
        if other != axis % len(value.shape):
            field = coupled(units, field, other)
    return field


def mixed(units: Units, value: Value, axis: int) -> Value:
    """The value after an operation that mixes the positions of an axis: all stay or all are removed."""
    axis %= len(value.shape)
    field = value.at(axis)
    if field is None:
        return Value(value.shape, value.fields)
    if field.axes == (axis,):
        units.pin(field.units)
        return Value(value.shape, value.without(axis))
    return Value(value.shape, (*value.without(axis), coupled(units, field, axis)))


def pinned(units: Units, value: Value) -> None:
    """Every unit of a value must stay."""
    for field in value.fields:
        units.pin(field.units)
    for part in value.slices or ():
        pinned(units, part)


def broadcast(units: Units, values: Sequence[Value], shape: tuple[int, ...], zero_if: str) -> Value:
    """The value of an elementwise operation: units that meet at a position become one.

    ``zero_if``: ``"all"`` (a sum is zero where all terms are), ``"any"`` (a product where one factor is),
    ``"first"`` (a quotient where its numerator is), ``"never"``.
    """
    values = [_widened(value, len(shape)) for value in values]
    met: list[tuple[Field, list[bool]]] = []  # a field, and whether each operand is zero on it
    for number, value in enumerate(values):
        for field in value.fields:
            met_fixed = [k for k in field.axes if any(v.shape[k] > 1 and v.at(k) is None for v in values)]
            new = _staying_along(units, field, met_fixed)
            if new is None:
                continue
            flags = [k == number and new.zero for k in range(len(values))]
            for other in [m for m in met if set(m[0].axes) & set(new.axes)]:
                met.remove(other)
                new = _joined(units, other[0], new)
                flags = [a or b for a, b in zip(flags, other[1], strict=True)]
            met.append((new, flags))
    return Value(shape, tuple(replace(f, zero=_is_zero(flags, zero_if)) for f, flags in met if f.axes))


def _is_zero(flags: Sequence[bool], zero_if: str) -> bool:
    return {"all": all(flags), "any": any(flags), "first": flags[0], "never": False}[zero_if]


def _staying_along(units: Units, field: Field, axes: Sequence[int]) -> Field | None:
    """The field where all positions along some axes stay: units that depend on nothing else are pinned."""
    if set(axes) >= set(field.axes):
        units.pin(field.units)
        return None
    for axis in axes:
        field = coupled(units, field, axis)
    return field


def _widened(value: Value, dims: int) -> Value:
    """The value with axes of length 1 in front, as broadcasting has it."""
    extra = (1,) * (dims - len(value.shape))
    fields = tuple(replace(f, units=f.units.reshape(extra + f.units.shape)) for f in value.fields)
    return Value(extra + value.shape, fields)


def _joined(units: Units, a: Field, b: Field) -> Field:
    """One field of two that share axes; along the others each is coupled."""
    for axis in set(a.axes) ^ set(b.axes):
        if axis in a.axes:
            a = coupled(units, a, axis)
        else:
            b = coupled(units, b, axis)
    units.join(a.units, b.units)
    return replace(a, weak=a.weak and b.weak)


def moved(units: Units, sources: Sequence[Value], owner: Positions, place: Positions) -> Value:
    """The value of a tensor whose elements were only moved (views, slices, concatenations, permutations).

    ``owner`` and ``place`` have the result's shape: which source an element came from, and its flat place
    there; -1 owns constants that were put in, which stay or go with the units beside them. Of two fields that
    are folded into one axis, the second must stay: a position cannot follow both. A unit that no longer shows
    (one position of an axis was picked) must stay, since that position's number would change.
    """
    fields: list[tuple[int, Field]] = []
    for number, source in enumerate(sources):
        mine = owner == number
        if not mine.any():
            continue
        where = np.where(mine, place, 0).ravel()
        for field in source.fields:
            if units.is_fixed(field.units):
                continue
            roots = np.broadcast_to(units.find(field.units), source.shape).ravel()[where].reshape(owner.shape)
            new = _without_constant_axes(np.where(mine, roots, -1))
            if max(new.shape, default=1) == 1:
                units.pin(field.units)
                continue
            _claim(units, fields, number, replace(field, units=new))
    for _, field in fields:
        _pin_uncovered(units, sources, owner, field)
    settled = tuple(replace(f, units=np.where(f.units < 0, 0, f.units)) for _, f in fields)
    return Value(owner.shape, settled, pixels=_moved_pixels(sources, place))


def _pin_uncovered(units: Units, sources: Sequence[Value], owner: Positions, field: Field) -> None:
    """What would go with a unit although its own source lets nothing go there must stay."""
    for number, source in enumerate(sources):
        if any(not units.is_fixed(f.units) for f in source.fields):
            continue
        theirs = np.broadcast_to(field.units, owner.shape)[owner == number]
        units.pin(np.unique(theirs[theirs >= 0]))


def _without_constant_axes(spread: Labels) -> Labels:
    """Labels shortened to length 1 along axes on which they do not depend; -1 is another source's."""
    for axis in range(spread.ndim):
        high = spread.max(axis=axis, keepdims=True)
        low = np.where(spread < 0, np.iinfo(np.int64).max, spread).min(axis=axis, keepdims=True)
        if ((high == low) | (high < 0)).all():
            spread = high
    return spread


def _claim(units: Units, fields: list[tuple[int, Field]], number: int, new: Field) -> None:
    """Add a field to those of a result; where it meets others, join, fill up, or pin."""
    for k, (owner, old) in enumerate(fields):
        if not set(old.axes) & set(new.axes):
            continue
        if owner == number:  # two axes of one source, folded into one: a position cannot follow both
            weaker = old if old.weak and not new.weak else new
            units.pin(weaker.units[weaker.units >= 0])
            fields[k] = (owner, new if weaker is old else old)
            return
        if old.units.shape != new.units.shape:
            for field in (old, new):
                units.pin(field.units[field.units >= 0])
            return
        both = (old.units >= 0) & (new.units >= 0)
        units.join(old.units[both], new.units[both])
        filled = np.where(old.units >= 0, old.units, new.units)
        fields[k] = (-1, Field(filled, old.zero and new.zero, old.weak and new.weak))
        return
    fields.append((number, new))


def _moved_pixels(sources: Sequence[Value], place: Positions) -> Pixels | None:
    if len(sources) != 1 or sources[0].pixels is None:
        return None
    return replace(sources[0].pixels, where=sources[0].pixels.where.ravel()[place])
