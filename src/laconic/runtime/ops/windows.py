"""Values along axes: one for all, or one for each; padding at both ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import int_of, ints_of
from laconic.records import Node


def spread(values: Sequence[int], n: int) -> list[int]:
    """One value for all axes, or one per axis: always ``n`` of them.

    >>> spread((2,), 3), spread((1, 2), 2)
    ([2, 2, 2], [1, 2])
    """
    if len(values) == 1:
        return list(values) * n
    if len(values) != n:
        raise CorruptFileError(f"{len(values)} values were given for {n} axes")
    return list(values)


def both_ends(padding: Sequence[int], n: int) -> list[int]:
    """ONNX pads (all begins, then all ends) from one value, one per axis, or begins and ends.

    >>> both_ends((1,), 2), both_ends((1, 2), 2), both_ends((0, 0, 1, 1), 2)
    ([1, 1, 1, 1], [1, 2, 1, 2], [0, 0, 1, 1])
    """
    if len(padding) == 2 * n:
        return list(padding)
    return spread(padding, n) * 2


class Window(NamedTuple):
    """How a (transposed) convolution moves: a value for each axis; ``pads``: all begins, then all ends.

    ``extra``: rows and columns that a transposed one adds at the ends of its output.
    """

    stride: list[int]
    dilation: list[int]
    pads: list[int]
    extra: list[int]
    groups: int

    def attributes(self) -> dict[str, int | Sequence[int]]:
        """Those of ONNX' convolutions; defaults are left out, since ONNX has the same ones.

        >>> Window([2, 2], [1, 1], [0, 0, 0, 0], [0, 0], 1).attributes()
        {'group': 1, 'strides': [2, 2]}
        """
        lists = {
            "strides": (self.stride, 1),
            "dilations": (self.dilation, 1),
            "pads": (self.pads, 0),
            "output_padding": (self.extra, 0),
        }
        given = {name: values for name, (values, default) in lists.items() if {*values} != {default}}
        return {"group": self.groups, **given}


def window_of(node: Node, axes: int) -> Window:
    """The window of a (transposed) convolution over so many axes, its attributes read once.

    >>> window_of(Node("conv", (0, -1), {"stride": (2,), "padding": (1,)}), 2)
    Window(stride=[2, 2], dilation=[1, 1], pads=[1, 1, 1, 1], extra=[0, 0], groups=1)
    """
    stride, dilation, padding = (ints_of(node, name) for name in ("stride", "dilation", "padding"))
    extra = ints_of(node, "output_padding") if node.op == "conv_transpose" else (0,)
    groups = int_of(node, "groups")
    return Window(
        spread(stride, axes), spread(dilation, axes), both_ends(padding, axes), spread(extra, axes), groups
    )
