"""The work of one call, from the graph alone: it decides whether a call may be measured at load."""

from __future__ import annotations

import math
from typing import NamedTuple

from laconic.errors import CorruptFileError
from laconic.records import Graph, PackedModel
from laconic.runtime.graph.shapes import follow, input_shapes
from laconic.runtime.graph.sizes import form_of, numbers_of, products


class Work(NamedTuple):
    """Multiply-adds, entries that operations write, and entries of the largest value."""

    products: int
    entries: int
    largest: int

    def within(self, most: Work) -> bool:
        """Whether no count is above another's."""
        return all(own <= bound for own, bound in zip(self, most, strict=True))


def work_of(model: PackedModel, batch: int) -> Work | None:
    """A bound on one call with ``batch`` for every free size; None where the graph does not take that.

    >>> from laconic.records import Node, RawTensor, ValueSpec
    >>> import numpy as np
    >>> graph = Graph((ValueSpec("float32", (None, 3)),), (Node("linear", (0, -1)),), (1,))
    >>> work_of(PackedModel((RawTensor("w", np.ones((2, 3), np.float32)),), graph), 10)
    Work(products=60, entries=20, largest=30)
    """
    graph = model.graph or Graph((), (), ())
    forms = [form_of(tensor) for tensor in model.tensors]
    stored = [form.shape for form in forms]
    try:
        shapes = follow(graph, stored, input_shapes(graph, batch), numbers_of(forms))
    except CorruptFileError:
        return None
    made_all = total = 0
    for node, outputs in graph.numbered():
        given = node.read(shapes, stored)
        made = [shapes[k] for k in outputs]
        entries = sum(map(math.prod, made))
        made_all += entries
        read = sum(math.prod(shape) for shape in given if shape is not None)
        total += products(node, given, entries) or max(entries, read)
    return Work(total, made_all, max(map(math.prod, shapes), default=0))
