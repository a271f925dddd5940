"""Sizes known at run time, and arithmetic on them; operations that count, search, scatter and fold."""

from __future__ import annotations

import numpy as np

from laconic.pack import encode
from laconic.pack.graph.ops import make_node as node
from laconic.records import Graph, PackedModel, ValueSpec
from tests.attacks.files import constant, file_of, raw, varint, with_graph

_HUGE = raw("huge", np.asarray(2**62), "int64")
_LEAST = raw("least", np.asarray(-(2**63)), "int64")
_ZERO = raw("zero", np.asarray(0), "int64")


def range_to_a_huge_number() -> bytes:
    """2^62 entries of 8 bytes from a number in the file."""
    return file_of([(None, 4)], [node("identity", (-1,)), node("arange", (1,))], [_HUGE])


def ranges_to_the_longest() -> bytes:
    """A range of a fixed size is computed while the graph is loaded: forty of them."""
    nodes = [node("size", (0,), axis=0)]
    for _ in range(40):
        nodes += [node("add", (1, -1)), node("arange", (len(nodes) + 1,))]
    return file_of([(2**22, 1)], nodes, [raw("one", np.asarray(1), "int64")])


def range_times_itself() -> bytes:
    """The outer product of a range with itself follows from a fixed size alone: 2^34 entries."""
    nodes = [
        node("size", (0,), axis=0),
        node("arange", (1,)),
        node("unsqueeze", (2,), dims=(1,)),
        node("mul", (2, 3)),
    ]
    return file_of([(2**17, 1)], nodes)


def expand_to_a_computed_size() -> bytes:
    """One sample becomes 2^62 by a multiplication in the graph."""
    nodes = [node("size", (0,), axis=0), node("mul", (1, -1)), node("expand", (0, 2), shape=(-2, 4))]
    return file_of([(None, 4)], nodes, [raw("n", np.asarray(2**40), "int64")])


def size_that_leaves_64_bits() -> bytes:
    """A size that is squared repeatedly wraps around to any number."""
    nodes = [node("size", (0,), axis=0), *(node("mul", (k, k)) for k in range(1, 80))]
    return file_of([(None, 4)], [*nodes, node("expand", (0, 80), shape=(-2, 4))])


def expand_to_a_negative_computed_size() -> bytes:
    """-1 and less from a subtraction, where an attribute of -1 would mean the free size."""
    nodes = [node("size", (0,), axis=0), node("sub", (1, -1)), node("expand", (0, 2), shape=(-2, 4))]
    return file_of([(None, 4)], nodes, [raw("n", np.asarray(2), "int64")])


def slice_to_a_negative_size_before_a_slice() -> bytes:
    """The abort of shape inference, its size now computed from a fixed axis."""
    nodes = [
        node("size", (0,), axis=0),
        node("sub", (1, -1)),
        node("expand", (0, 2), shape=(-2, 4)),
        node("slice", (3,), axis=0, end=2),
    ]
    return file_of([(1, 4)], nodes, [raw("n", np.asarray(6), "int64")])


def reversed_difference_of_sizes() -> bytes:
    """``reverse`` swaps the operands of a difference: without it the size would be valid."""
    nodes = [
        node("size", (0,), axis=0),
        node("sub", (1, -1), reverse=True),
        node("expand", (0, 2), shape=(-2, 4)),
    ]
    return file_of([(1, 4)], nodes, [raw("n", np.asarray(-4), "int64")])


def lstm_over_a_computed_empty_batch() -> bytes:
    """The batch is cut to a size divided by 100: nothing is left for fewer samples, at load and in calls."""
    tensors = [
        raw("hundred", np.asarray(100), "int64"),
        *(raw(name, np.ones(shape)) for name, shape in zip("wrbc", ((8, 3), (8, 2), 8, 8), strict=True)),
    ]
    nodes = [
        node("size", (0,), axis=0),
        node("floor_divide", (1, -1)),
        node("slice", (0, None, 2), axis=0),
        node("lstm", (3, None, None, -2, -3, -4, -5)),
    ]
    return file_of([(None, 5, 3)], nodes, tensors, outputs=(4,))


def size_from_the_callers_numbers() -> bytes:
    """A size that is an entry of an input, not the size of one: 2^62 in a call."""
    entry = [node("select", (0,), axis=0), node("expand", (0, 1), shape=(-2,))]
    return file_of([(1,)], entry, dtype="int64")


def range_to_the_callers_number() -> bytes:
    """A range up to the same number."""
    return file_of([(1,)], [node("select", (0,), axis=0), node("arange", (1,))], dtype="int64")


def remainder_by_zero() -> bytes:
    """The processor traps on a division by zero; here of a constant, while the graph is loaded."""
    nodes = [node("remainder", (-1, -2)), node("floor_divide", (-1, -2)), node("size", (0,), axis=0)]
    return file_of([(None, 4)], [*nodes, node("remainder", (3, -2))], [_LEAST, _ZERO], outputs=(1, 2, 4))


def remainders_from_outside() -> bytes:
    """The caller's -2^63 by the caller's -1 and 0."""
    nodes = [node("remainder", (0, 1)), node("floor_divide", (0, 1))]
    return file_of([(None, 4), (None, 4)], nodes, outputs=(2, 3), dtype="int64")


def remainder_of_the_least_number() -> bytes:
    """-2^63 less its remainder leaves 64 bits."""
    seven = raw("seven", np.asarray(7), "int64")
    return file_of([(None, 4)], [node("floor_divide", (-1, -2))], [_LEAST, seven])


def topk_beyond_the_axis() -> bytes:
    """More of the largest than there are."""
    return file_of([(None, 4)], [node("topk", (0,), k=5)], outputs=(1, 2))


def topk_of_a_huge_number() -> bytes:
    """2^62 of four."""
    return file_of([(None, 4)], [node("topk", (0,), k=2**62)], outputs=(1,))


def topk_of_constants() -> bytes:
    """Sorting 2^25 zeros of the file while it is loaded."""
    return file_of([(None, 4)], [node("topk", (-1,), k=2**25, axis=0)], [constant("w", 2**25)], outputs=(1,))


def fold_to_a_huge_image() -> bytes:
    """One window in an image of 2^60 entries: the stride skips the rest."""
    fold = node("fold", (0,), size=(2**30, 2**30), kernel=(1, 1), stride=(2**30, 2**30))
    return file_of([(None, 1, 1)], [fold])


def fold_of_more_windows_than_there_are() -> bytes:
    """The kernel reads an entry for each window, whose number it computes itself."""
    return file_of([(None, 4, 2)], [node("fold", (0,), size=(9, 9), kernel=(2, 2))])


def fold_with_claims_that_overflow() -> bytes:
    """Dilations and paddings at the end of 64 bits."""
    attrs = {"dilation": (2**62, 2**62), "padding": (2**62, 2**62), "kernel": (2, 2)}
    return file_of([(None, 4, 2)], [node("fold", (0,), size=(9, 9), **attrs)])  # type: ignore[arg-type]


def scatter_beyond_the_value() -> bytes:
    """Indices of more rows than there are, along the other axis."""
    index = raw("index", np.zeros((90, 1)), "int64")
    scatter = node("scatter", (0, -1, -2), axis=1)
    return file_of([(1, 4)], [scatter], [index, raw("updates", np.ones((90, 1)))])


def scatter_of_fewer_updates_than_indices() -> bytes:
    """The kernel reads an update for each index."""
    index = raw("index", np.zeros((1, 4)), "int64")
    return file_of([(1, 4)], [node("scatter", (0, -1, -2))], [index, raw("updates", np.ones((1, 1)))])


def scatter_to_indices_from_outside() -> bytes:
    """2^62 and -1 as places."""
    nodes = [node("cast", (0,), to="float32"), node("scatter", (1, 0, 1), axis=1, reduce="add")]
    return file_of([(None, 4)], nodes, dtype="int64")


def grid_of_a_huge_image() -> bytes:
    """One pixel sampled at 2^40 places that take no bits in the file."""
    return file_of([(1, 1, 1, 1)], [node("grid_sample", (0, -1))], [constant("grid", 1, 2**13, 2**12, 2)])


def grids_of_extreme_places() -> bytes:
    """Infinite, huge and NaN positions, in every padding mode."""
    places = raw("grid", [[[[np.nan, np.inf], [-np.inf, 1e30], [-3e38, 3e9], [1e7, -1e18]]]])
    nodes = [
        node("grid_sample", (0, -1), mode=mode, padding=padding, align=align)
        for mode in ("linear", "nearest", "cubic")
        for padding in ("zeros", "border", "reflection")
        for align in (False, True)
    ]
    return file_of([(1, 1, 7, 9)], nodes, [places], outputs=range(1, 1 + len(nodes)))


def grid_of_another_batch() -> bytes:
    """More grids than images."""
    return file_of([(1, 1, 7, 9)], [node("grid_sample", (0, -1))], [raw("grid", np.zeros((9, 2, 2, 2)))])


def projected_lstm_of_many_units() -> bytes:
    """Recurrent weights (4 H, 1) times a projection (1, H): 4 H^2 entries from 9 H."""
    h = 20_000
    tensors = [
        constant(name, *shape) for name, shape in zip("wrp", ((4 * h, 1), (4 * h, 1), (1, h)), strict=True)
    ]
    lstm = node("lstm", (0, None, None, -1, -2, -3), no_bias=True, projected=True)
    return file_of([(1, 1, 1)], [lstm], tensors, outputs=(1,))


def projected_lstm_with_a_state() -> bytes:
    """The hidden state has the width of the projection; the runtime's has that of the units."""
    tensors = [raw("w", np.ones((8, 3))), raw("r", np.ones((8, 1))), raw("p", np.ones((1, 2)))]
    lstm = node("lstm", (0, -4, -5, -1, -2, -3), no_bias=True, projected=True)
    states = [raw("h", np.ones((1, 2, 1))), raw("c", np.ones((1, 2, 2)))]
    return file_of([(2, 5, 3)], [lstm], tensors + states, outputs=(1,))


def many_named_axes() -> bytes:
    """Each free dimension of 2,000 inputs has a name of its own."""
    axes = iter(range(10**6))
    specs = tuple(
        ValueSpec("float32", (None,) * 15, f"in{k}", tuple(f"axis{next(axes)}" for _ in range(15)))
        for k in range(2000)
    )
    return encode(PackedModel((), Graph(specs, (node("relu", (0,)),), (2000,))))


def axes_counted_one_by_one() -> bytes:
    """900,000 free dimensions, each the first of its name: a search among those before takes minutes."""
    count = 60_000
    numbers = b"".join(varint(k) for k in range(15 * count))
    return with_graph(varint(count) + (b"\x0f" + b"\0" * 15) * count + b"\1\x40\0\0\1" + numbers + b"\1a")


def long_names_of_axes() -> bytes:
    """A name of 255 bytes in each of the runtime's shapes."""
    names = tuple(chr(0x4E00 + k) * 85 for k in range(12))
    nodes = [node("add", (k, 0)) for k in range(3000)]
    return encode(
        PackedModel((), Graph((ValueSpec("float32", (None,) * 12, "x", names),), tuple(nodes), (3000,)))
    )


def names_that_the_runtime_gives_itself() -> bytes:
    """Axes, inputs and outputs called as the runtime's own values, and as each other."""
    spec = ValueSpec("float32", (None, None), "v1", ("v1", "unk__0"))
    graph = Graph((spec,), (node("relu", (0,)), node("neg", (1,))), (1, 2), (), ("v1", "Relu/1"), True)
    return encode(PackedModel((), graph))
