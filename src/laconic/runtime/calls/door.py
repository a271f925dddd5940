"""What stands before a call: sizes that the graph takes, memory that the limits allow, empty batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import CorruptFileError, InputError
from laconic.pack.file.needs import Needs
from laconic.records import AnyArray, Graph
from laconic.records.limits import Limits
from laconic.runtime.graph.shapes import follow
from laconic.runtime.graph.sizes import Claims, call_memory, numbers_of
from laconic.runtime.ops.shape_rules import Shape

if TYPE_CHECKING:
    from laconic.runtime.graph.sizes import Form

    CallNeeds = Callable[[Graph, Sequence[Shape], Sequence[str], Sequence[Form]], Needs]
    """A graph, the shapes and types of all values, the tensors -> memory and work of a call."""

_REMEMBERED = 256
"""Input shapes whose check is kept; a network of one size a call needs one, of sequences some dozens."""


class Door:
    """Follows the shapes of a call through the graph before anything runs; what was let in is remembered.

    Args:
        graph: The network's graph.
        claimed: What it claims.
        limits: What a call may take.
        needs: The memory and work of a call; None: those of an engine.

    >>> from laconic.records import Node, ValueSpec
    >>> from laconic.runtime.graph.sizes import claims
    >>> graph = Graph((ValueSpec("float32", (None, 2)),), (Node("relu", (0,)),), (1,))
    >>> door = Door(graph, claims(graph, [], Limits.trusted()), Limits.trusted())
    >>> door.enter([(8, 2)]), [y.shape for y in door.enter([(0, 2)]) or ()], door.call_memory([(8, 2)])
    (None, [(0, 2)], 128)
    """

    def __init__(self, graph: Graph, claimed: Claims, limits: Limits, needs: CallNeeds | None = None) -> None:
        self._graph, self._limits = graph, limits
        self._forms, self._types = claimed.forms, claimed.types
        self._needs = needs or _in_an_engine
        self.known: set[tuple[Shape, ...]] = set()

    def enter(self, shapes: Sequence[Shape]) -> list[AnyArray] | None:
        """None when the call may run; its outputs when there is nothing to compute, since they are empty.

        Raises ``InputError`` for sizes that the graph cannot take, ``LimitError`` for a call that takes more
        memory than ``Limits.call_memory``, or more work than ``Limits.call_work``.
        """
        asked = tuple(shapes)
        if asked in self.known:
            return None
        values = self._follow(asked)
        if any(0 in shape for shape in asked):
            return self._nothing(values)
        self._limits.check_call(*self._needs(self._graph, values, self._types, self._forms))
        if len(self.known) >= _REMEMBERED:
            self.known.clear()
        self.known.add(asked)
        return None

    def call_memory(self, shapes: Sequence[Shape]) -> int:
        """About how many bytes a call on inputs of these shapes allocates, its outputs included.

        Raises ``InputError`` for sizes that the graph cannot take.
        """
        return self._needs(self._graph, self._follow(shapes), self._types, self._forms).memory

    def _follow(self, shapes: Sequence[Shape]) -> list[Shape]:
        tensors, numbers = [form.shape for form in self._forms], numbers_of(self._forms)
        empty = any(0 in shape for shape in shapes)
        try:
            if not empty:
                return follow(self._graph, tensors, shapes, numbers)
            return _with_nothing(self._graph, tensors, shapes, numbers)
        except CorruptFileError as error:
            said = ", ".join(str(shape) for shape in shapes)
            raise InputError(
                f"the network cannot run on inputs of shape {said}: {error}. "
                "Cure: give the sizes that it was captured with"
            ) from error

    def _nothing(self, values: Sequence[Shape]) -> list[AnyArray]:
        """Empty outputs. Nothing runs, since kernels divide by sizes, and recurrent ones end the process."""
        found = [(values[ref], self._types[ref]) for ref in self._graph.outputs]
        if all(0 in shape for shape, _ in found):
            try:
                return [np.zeros(shape, kind) for shape, kind in found]
            except ValueError as error:  # NumPy counts the other sizes as well
                raise InputError(
                    f"an input is empty, and the outputs would have shapes "
                    f"{', '.join(str(shape) for shape, _ in found)}: {error}. Cure: give at least one sample"
                ) from error
        raise InputError(
            "an input is empty, and the network would have to compute something from nothing. "
            "Cure: give at least one sample"
        )


def _in_an_engine(
    graph: Graph, shapes: Sequence[Shape], types: Sequence[str], forms: Sequence[Form]
) -> Needs:
    """The memory of a call; its work is not estimated, since the engines' speeds differ by far."""
    return Needs(call_memory(graph, shapes, types, forms), 0)


def _with_nothing(
    graph: Graph, tensors: Sequence[Shape], shapes: Sequence[Shape], numbers: Mapping[int, int]
) -> list[Shape]:
    """Shapes of a call on an empty batch: those at two sizes that differ tell which axes are the batch's.

    An axis that is as long at a batch of 1 as at one of 2 stays; one that grows with it has lost that once
    more at 0, so that what is joined to an empty batch is left.
    """
    one, two = (
        follow(graph, tensors, [tuple(n or size for n in shape) for shape in shapes], numbers)
        for size in (1, 2)
    )
    return [
        tuple(max(0, 2 * n - m) for n, m in zip(a, b, strict=True)) for a, b in zip(one, two, strict=True)
    ]
