"""The base of all records (constructor, repr, comparison), and the types of their arrays."""

from __future__ import annotations

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

if TYPE_CHECKING:
    from inspect import Signature

    import numpy.typing as npt

    IntArray = npt.NDArray[np.int32]
    FloatArray = npt.NDArray[np.float32]
    AnyArray = npt.NDArray[Any]
else:  # numpy.typing takes a millisecond to import
    IntArray = FloatArray = AnyArray = np.ndarray

Attr = int | float | str | bool | tuple[int, ...]


Class = TypeVar("Class", bound=type)


class _RecordSignature:
    """The signature that ``inspect`` and ``help`` show for a record: its fields, not ``*values, **named``."""

    def __get__(self, record: object, kind: type[Record]) -> Signature:
        from inspect import Parameter, Signature

        optional = {name: default if make is MISSING else make() for name, default, make in kind._defaults}
        either = Parameter.POSITIONAL_OR_KEYWORD
        return Signature(
            [
                Parameter(name, either, default=optional.get(name, Parameter.empty), annotation=one.type)
                for name, one in kind._fields.items()
            ],
            return_annotation=None,
        )


class Record:
    """Base of all records: constructor, repr, comparison and immutability by fields (see :func:`record`).

    >>> from laconic.records import UniformGrid
    >>> UniformGrid(0.5) == UniformGrid(step=0.5, axis=None)
    True
    """

    __slots__ = ()
    __signature__ = _RecordSignature()
    _fields: ClassVar[dict[str, Field[Any]]] = {}
    _defaults: ClassVar[tuple[tuple[str, Any, Any], ...]] = ()
    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    else:  # a type checker takes the parameters from the fields

        def __init__(self, *values: object, **named: object) -> None:
            kept, names = self.__dict__, self._fields
            kept.update(zip(names, values, strict=False))
            kept.update(named)
            clash = len(kept) != len(values) + len(named)
            if len(kept) < len(names):
                for name, default, make in self._defaults:
                    if name not in kept:
                        kept[name] = default if make is MISSING else make()
            if clash or kept.keys() != names.keys():
                _refuse_arguments(type(self), values, named)
            self.__post_init__()

    def __post_init__(self) -> None:
        """Check the fields; a record with conditions on its fields overrides this."""

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, one.name) for one in fields(self)])

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __repr__(self) -> str:
        said = zip(fields(self), self._values(), strict=True)
        return f"{type(self).__qualname__}({', '.join(f'{one.name}={value!r}' for one, value in said)})"

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__ or not isinstance(other, Record):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())


def _refuse_arguments(kind: type[Record], values: tuple[object, ...], named: dict[str, object]) -> None:
    """Raise the TypeError of a call with too many, repeated, unknown or missing arguments."""
    call, names = f"{kind.__qualname__}()", list(kind._fields)
    optional = {name for name, _, _ in kind._defaults}
    if len(values) > len(names):
        raise TypeError(f"{call} takes {len(names)} arguments but {len(values)} were given")
    for name in named:
        if name not in names:
            raise TypeError(f"{call} got an unexpected keyword argument {name!r}")
        if name in names[: len(values)]:
            raise TypeError(f"{call} got multiple values for argument {name!r}")
    missing = [n for n in names[len(values) :] if n not in named and n not in optional]
    raise TypeError(f"{call} missing required arguments: {', '.join(map(repr, missing))}")


@dataclass_transform(frozen_default=True)
def record(cls: Class) -> Class:
    """A frozen dataclass, its base being :class:`Record`.

    ``dataclass(frozen=True)`` compiles a constructor, a repr, a comparison and a ``__setattr__`` for each
    class, which takes several tenths of a millisecond at each start. :class:`Record` has them once.

    Args:
        cls: A class with annotated fields and the base :class:`Record`.

    Returns:
        The same class; ``dataclasses.fields`` and ``replace`` work on it.

    >>> @record
    ... class Point(Record):
    ...     x: int
    ...     y: int = 0
    >>> Point(3)
    Point(x=3, y=0)
    """
    dataclass(init=False, eq=False, repr=False, match_args=False)(cls)
    kind: Any = cls
    kind._fields = kind.__dataclass_fields__
    kind._defaults = tuple(
        (one.name, one.default, one.default_factory)
        for one in fields(cls)
        if one.default is not MISSING or one.default_factory is not MISSING
    )
    return cls
