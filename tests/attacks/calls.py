"""Files that load and then do harm when they are called: on an empty batch, or on values of the caller.

Every attack of this folder that loads is also called: on 0, 1 and 3 samples, and with extreme entries.
"""

from __future__ import annotations

import numpy as np

from laconic.pack.graph.ops import make_node as node
from tests.attacks.files import constant, file_of, raw

_LSTM = [raw("w", np.ones((8, 3))), raw("r", np.ones((8, 2))), raw("b", np.ones(8)), raw("c", np.ones(8))]
_GRU = [raw("w", np.ones((6, 3))), raw("r", np.ones((6, 2))), raw("b", np.ones(6)), raw("c", np.ones(6))]


def lstm_over_an_empty_batch() -> bytes:
    """``x[:0]`` ended the process inside the kernel."""
    return file_of([(None, 5, 3)], [node("lstm", (0, None, None, -1, -2, -3, -4))], _LSTM, outputs=(1,))


def gru_over_an_empty_batch() -> bytes:
    """The same fault in the GRU's kernel."""
    return file_of([(None, 5, 3)], [node("gru", (0, None, -1, -2, -3, -4))], _GRU, outputs=(1,))


def lstm_over_no_steps() -> bytes:
    """The free axis is time."""
    lstm = node("lstm", (0, None, None, -1, -2, -3, -4), time_major=True)
    return file_of([(None, 5, 3)], [lstm], _LSTM, outputs=(1, 2))


def lstm_over_nothing_that_is_summed() -> bytes:
    """The output has a fixed size, so it is not empty, although its input is."""
    lstm = node("lstm", (0, None, None, -1, -2, -3, -4))
    return file_of([(None, 5, 3)], [lstm, node("sum", (1,), dims=(0,))], _LSTM)


def lstm_over_a_slice_that_leaves_nothing() -> bytes:
    """One sample is too few for what is left after the slice; three are enough."""
    nodes = [node("slice", (0,), axis=0, start=1), node("lstm", (1, None, None, -1, -2, -3, -4))]
    return file_of([(None, 5, 3)], nodes, _LSTM, outputs=(2,))


def everything_over_an_empty_batch() -> bytes:
    """Kernels that read the first entry, or divide by a count."""
    nodes = [
        node("conv", (0, -1), padding=(1,)),
        node("max_pool", (1,)),
        node("resize", (2,), size=(8, 8), mode="linear"),
        node("group_norm", (3,), groups=2),
        node("pixel_shuffle", (4,)),
        node("flatten", (5,)),
        node("softmax", (6,)),
        node("argmax", (7,)),
    ]
    return file_of([(None, 4, 8, 8)], nodes, [raw("w", np.ones((4, 4, 3, 3)))])


def maximum_over_the_batch() -> bytes:
    """An empty axis has no maximum."""
    return file_of([(None, 4)], [node("amax", (0,), dims=(0,))])


def reshape_over_an_empty_batch() -> bytes:
    """-1 beside a free axis of 0."""
    return file_of([(None, 4)], [node("reshape", (0,), shape=(-1, 2))])


def call_that_fills_the_memory() -> bytes:
    """One sample becomes 2^31 entries: the file may claim that, the call may not allocate it."""
    return file_of([(None, 4)], [node("tile", (0,), repeats=(1, 2**29))])


def call_whose_windows_fill_the_memory() -> bytes:
    """The output is small; the copied windows of the convolution (im2col) are not."""
    wide = node("conv_transpose", (0, -1), stride=(1,))
    return file_of([(1, 1, 600, 600)], [wide, node("mean", (1,), dims=())], [constant("w", 1, 64, 40, 40)])


def call_whose_scores_fill_the_memory() -> bytes:
    """2^17 queries on 2^17 keys."""
    nodes = [node("sdpa", (0, 0, 0), rank=3), node("mean", (1,), dims=())]
    return file_of([(None, 2**17, 1)], nodes)


def call_whose_product_fills_the_memory() -> bytes:
    """Operands are contracted from the left; the first two have no index in common."""
    return file_of([(None, 2**16)], [node("einsum", (0, 0, 0, 0), equation="ab,cd,ad,cb->a")])


def indices_from_outside() -> bytes:
    """Rows of a table that the caller asks for, -1 and 2^62 among them."""
    return file_of([(None, 4)], [node("embedding", (0, -1))], [raw("w", np.ones((4, 4)))], dtype="int64")


def indices_along_an_axis_from_outside() -> bytes:
    """The same for single entries."""
    table = node("add", (-1,), scalar=1.0)
    return file_of([(4, 4)], [table, node("gather", (1, 0))], [raw("w", np.ones((4, 4)))], dtype="int64")


def casts_of_extreme_values() -> bytes:
    """Infinities and NaN as integers, and back as indices."""
    nodes = [node("mul", (0,), scalar=2.0**126), node("cast", (1,), to="int64"), node("take", (-1, 2))]
    return file_of([(None, 4)], nodes, [raw("w", np.ones((4, 4)))])


def quotients_of_integers_from_outside() -> bytes:
    """-2^63 / -1 from the caller's values: a hardware exception."""
    return file_of([(None, 4), (None, 4)], [node("div", (0, 1))], dtype="int64")


def powers_of_integers_from_outside() -> bytes:
    """Negative powers of zero, and overflow."""
    return file_of([(None, 4), (None, 4)], [node("pow", (0, 1))], dtype="int64")


def free_axis_that_must_be_one() -> bytes:
    """One sample fits, three do not."""
    return file_of([(None, 4)], [node("squeeze", (0,), dims=(0,))])


def free_axis_that_must_be_long() -> bytes:
    """A kernel of 100 does not fit in one sample."""
    nodes = [node("conv", (0, -1))]
    return file_of([(1, 1, None)], nodes, [raw("w", np.ones((1, 1, 100)))])


def nothing_of_a_huge_width() -> bytes:
    """An empty output whose other size exceeds what NumPy can represent."""
    nodes = [node("slice", (0,), axis=0, end=0), node("expand", (1,), shape=(1, 2**61))]
    return file_of([(None, 1)], nodes)
