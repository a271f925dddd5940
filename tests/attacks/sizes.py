"""Sizes that contradict themselves: below zero, zero, beyond 64 bits, or other than what an operation takes.

Shape inference and many kernels of the libraries that laconic uses are written for models exported by a
framework. They abort, divide by zero or read past an end where a size is one that no framework writes.
Therefore they must not get a graph before laconic's own rules (``laconic.runtime.graph.shapes``) have checked
its shapes.
"""

from __future__ import annotations

import numpy as np

from laconic.pack.graph.ops import make_node as node
from tests.attacks.files import constant, file_of, raw

MOST = 2**63 - 1


def expand_to_a_negative_size() -> bytes:
    """onnx.shape_inference accepted -5 as a size, and ended the process at a slice of it."""
    return file_of([(None, 4)], [node("expand", (0,), shape=(-5, 4)), node("slice", (1,), axis=0, end=2)])


def pad_by_less_than_nothing() -> bytes:
    """Nine entries cut off each end of four: the same abort, in 30 bytes."""
    return file_of([(1, 4)], [node("pad", (0,), pads=(-9, -9)), node("slice", (1,), axis=1, end=2)])


def pad_cuts_more_than_there_is_and_adds_it_again() -> bytes:
    """The total is right, but the cut would start to read before the value's memory."""
    return file_of([(1, 4)], [node("pad", (0,), pads=(-9, 10))])


def reflect_pads_beyond_the_value() -> bytes:
    """A reflection of four entries by nine reads past both ends."""
    return file_of([(1, 2, 4)], [node("pad", (0,), pads=(9, 9), mode="reflect")])


def slice_to_nothing_before_an_lstm() -> bytes:
    """A recurrent kernel that is given an empty batch ends the process (a negative thread count)."""
    tensors = [
        raw("w", np.ones((8, 3))),
        raw("r", np.ones((8, 2))),
        raw("b", np.ones(8)),
        raw("c", np.ones(8)),
    ]
    lstm = node("lstm", (1, None, None, -1, -2, -3, -4))
    return file_of([(4, 5, 3)], [node("slice", (0,), axis=0, end=0), lstm], tensors, outputs=(2,))


def slice_to_nothing_before_a_gru() -> bytes:
    """The same for the other recurrent kernel, along time."""
    tensors = [
        raw("w", np.ones((6, 3))),
        raw("r", np.ones((6, 2))),
        raw("b", np.ones(6)),
        raw("c", np.ones(6)),
    ]
    gru = node("gru", (1, None, -1, -2, -3, -4))
    return file_of([(4, 5, 3)], [node("slice", (0,), axis=1, end=0), gru], tensors, outputs=(2,))


def recurrent_layer_without_units() -> bytes:
    """A hidden size of 0 from weights of shape (0, 0)."""
    tensors = [
        raw("w", np.ones((0, 3))),
        raw("r", np.ones((0, 0))),
        raw("b", np.ones(0)),
        raw("c", np.ones(0)),
    ]
    return file_of([(4, 5, 3)], [node("gru", (0, None, -1, -2, -3, -4))], tensors, outputs=(1,))


def recurrent_weights_of_other_widths() -> bytes:
    """Weights that are narrower than the sequence: a kernel that trusts them reads past their end."""
    tensors = [
        raw("w", np.ones((8, 1))),
        raw("r", np.ones((8, 2))),
        raw("b", np.ones(8)),
        raw("c", np.ones(8)),
    ]
    return file_of([(4, 5, 3)], [node("lstm", (0, None, None, -1, -2, -3, -4))], tensors, outputs=(1,))


def initial_state_of_another_batch() -> bytes:
    """An initial state for one sample, a sequence of four: the rest would be read from beyond it."""
    tensors = [
        raw("w", np.ones((6, 3))),
        raw("r", np.ones((6, 2))),
        raw("b", np.ones(6)),
        raw("c", np.ones(6)),
    ]
    tensors.append(raw("h", np.ones((1, 1, 2))))
    return file_of([(4, 5, 3)], [node("gru", (0, -5, -1, -2, -3, -4))], tensors, outputs=(1,))


def convolution_of_no_channels() -> bytes:
    """A weight of shape (0, 0, 3, 3): kernels divide by its channels."""
    return file_of([(1, 0, 8, 8)], [node("conv", (0, -1))], [raw("w", np.ones((0, 0, 3, 3)))])


def convolution_with_stride_0() -> bytes:
    """A division by zero where the output's size is computed."""
    return file_of([(1, 2, 8, 8)], [node("conv", (0, -1), stride=(0,))], [raw("w", np.ones((2, 2, 3, 3)))])


def pooling_with_stride_0() -> bytes:
    """The same for pooling, whose kernel is no tensor."""
    return file_of([(1, 2, 8, 8)], [node("avg_pool", (0,), stride=(0,))])


def pooling_with_a_dilation_that_overflows() -> bytes:
    """Kernel times dilation leaves 64 bits and comes back small."""
    return file_of([(1, 2, 8, 8)], [node("max_pool", (0,), kernel=(3,), dilation=(2**63 - 1,))])


def pooling_padded_beyond_its_kernel() -> bytes:
    """A window that lies in the padding alone has no largest entry."""
    return file_of([(1, 2, 8, 8)], [node("max_pool", (0,), kernel=(2,), padding=(5,))])


def convolution_padded_beyond_64_bits() -> bytes:
    """Size plus paddings overflow."""
    return file_of(
        [(1, 2, 8, 8)], [node("conv", (0, -1), padding=(MOST,))], [raw("w", np.ones((2, 2, 3, 3)))]
    )


def transposed_convolution_with_a_huge_stride() -> bytes:
    """8 x 8 pixels become 2^62 x 2^62."""
    wide = node("conv_transpose", (0, -1), stride=(2**59,))
    return file_of([(1, 2, 8, 8)], [wide], [raw("w", np.ones((2, 2, 3, 3)))])


def pixels_shuffled_by_0() -> bytes:
    """A division by the block size."""
    return file_of([(1, 4, 8, 8)], [node("pixel_shuffle", (0,), factor=0)])


def pixels_shuffled_by_a_factor_whose_square_overflows() -> bytes:
    """2^32 squared is 0 in 64 bits, and 4 % 0 ends a process."""
    return file_of([(1, 4, 8, 8)], [node("pixel_shuffle", (0,), factor=2**32)])


def resized_from_nothing() -> bytes:
    """The scale of a resize divides by the old size."""
    return file_of([(1, 4, 8, 8)], [node("slice", (0,), axis=2, end=0), node("resize", (1,), size=(4, 4))])


def resized_to_a_negative_size() -> bytes:
    """A size that no framework writes."""
    return file_of([(1, 4, 8, 8)], [node("resize", (0,), size=(-4, 4), mode="linear")])


def reshaped_around_nothing() -> bytes:
    """-1 beside a 0 that is copied from an empty axis: what is left is 0 / 0."""
    return file_of([(1, 4, 8)], [node("slice", (0,), axis=1, end=0), node("reshape", (1,), shape=(0, 0, -1))])


def tile_that_overflows() -> bytes:
    """2^32 times 2^32 entries overflow to 0 in 64 bits."""
    return file_of([(1, 4)], [node("tile", (0,), repeats=(2**32, 2**30))])


def tile_by_a_negative_number() -> bytes:
    """Repeats of -1."""
    return file_of([(1, 4)], [node("tile", (0,), repeats=(1, -1))])


def slice_with_step_0() -> bytes:
    """A step of 0 never reaches the end."""
    return file_of([(1, 4)], [node("slice", (0,), step=0)])


def slice_with_the_least_integer() -> bytes:
    """Negating -2^63 overflows."""
    return file_of([(1, 4)], [node("slice", (0,), start=-(2**63), end=2**63 - 1, step=-(2**63))])


def select_past_the_end() -> bytes:
    """Entry 2^40 of four, of a tensor that is known when the file is loaded."""
    chosen = node("select", (-1,), axis=0, index=2**40)
    return file_of([(None, 4)], [chosen, node("add", (0, 1))], [raw("w", np.ones((4, 4)))])


def axis_far_outside() -> bytes:
    """An axis of 2^62 in all that take one."""
    ops = ("softmax", "cumsum", "argmax", "flatten", "concat", "stack")
    return file_of([(1, 4)], [node(op, (0,), axis=2**62) for op in ops])


def permutation_that_repeats_an_axis() -> bytes:
    """Not a permutation."""
    return file_of([(2, 3, 4)], [node("permute", (0,), perm=(0, 0, 1))])


def squeeze_of_a_long_axis() -> bytes:
    """An axis of four entries cannot be left out."""
    return file_of([(1, 4)], [node("squeeze", (0,), dims=(1,))])


def reduction_of_an_axis_twice() -> bytes:
    """Kernels mark the axes that they reduce, and count them."""
    return file_of([(2, 3, 4)], [node("amax", (0,), dims=(1, 1, -2))])


def maximum_of_nothing() -> bytes:
    """An empty axis has no maximum."""
    return file_of([(2, 3)], [node("slice", (0,), axis=0, end=0), node("amax", (1,), dims=())])


def group_norm_of_too_many_groups() -> bytes:
    """A million groups of four channels."""
    return file_of([(1, 4, 8, 8)], [node("group_norm", (0,), groups=2**20)])


def attention_of_another_rank() -> bytes:
    """A rank of 16 for values of four dimensions."""
    return file_of([(1, 2, 3, 4)], [node("sdpa", (0, 0, 0), rank=16)])


def rank_of_prelu_that_grows_its_input() -> bytes:
    """Slopes of shape (1, 1, ..., 1) would stretch a vector to 15 dimensions."""
    return file_of([(4,)], [node("prelu", (0, -1), rank=16)], [raw("s", np.ones(1))])


def embedding_without_rows() -> bytes:
    """A table of no rows: every index lies outside."""
    ids = node("embedding", (0, -1))
    return file_of([(1, 4)], [ids], [raw("w", np.ones((0, 4)))], dtype="int64")


def embedding_of_constant_indices_below_zero() -> bytes:
    """Looked up while the file is loaded, before the memory of the table."""
    nodes = [node("take", (-1, -2)), node("mean", (1,), dims=()), node("add", (0, 2))]
    return file_of([(1, 4)], nodes, [raw("w", np.ones((4, 4))), raw("i", [-9, -(2**63)], "int64")])


def gather_of_indices_that_do_not_lie_inside() -> bytes:
    """An index of more rows than the value has."""
    nodes = [node("gather", (-1, -2), axis=1), node("mean", (1,), dims=()), node("add", (0, 2))]
    return file_of([(1, 4)], nodes, [raw("w", np.ones((2, 2))), raw("i", np.zeros((9, 2)), "int64")])


def quotient_of_the_least_integer() -> bytes:
    """-2^63 / -1 is a hardware exception (SIGFPE); ONNX Runtime checks for zero, not for this."""
    nodes = [node("div", (-1, -2)), node("cast", (1,), to="float32"), node("add", (0, 2))]
    return file_of([(1, 1)], nodes, [raw("a", [-(2**63)], "int64"), raw("b", [-1], "int64")])


def quotient_by_integer_zero() -> bytes:
    """The same by zero."""
    nodes = [node("div", (-1, -2)), node("cast", (1,), to="float32"), node("add", (0, 2))]
    return file_of([(1, 1)], nodes, [raw("a", [1], "int32"), raw("b", [0], "int32")])


def input_of_2_to_the_48() -> bytes:
    """A fixed size beyond all memory, claimed in eight bytes."""
    return file_of([(2**48, 2**14)], [node("relu", (0,))])


def tensors_of_no_entries_everywhere() -> bytes:
    """Layers with empty weights."""
    nodes = [node("linear", (0, -1)), node("matmul", (1, -2)), node("einsum", (2, -2), equation="ij,jk->ik")]
    return file_of([(None, 4)], nodes, [constant("a", 0, 4), constant("b", 0, 0)])
