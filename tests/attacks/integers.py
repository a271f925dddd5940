"""Activation ranges where nothing can run in int8: deriving int8 weights must not trust any shape."""

from __future__ import annotations

import numpy as np

from laconic.pack.graph.ops import make_node as node
from tests.attacks.files import constant, file_of, raw


def range_at_a_convolution_whose_weight_is_a_vector() -> bytes:
    """Its channels were read from a second dimension: IndexError."""
    return file_of([(None, 3, 8, 8)], [node("conv", (0, -1))], [raw("w", np.ones(3))], ranges=(0, 1))


def range_at_a_convolution_without_weight() -> bytes:
    """An absent weight was taken for the last tensor."""
    return file_of([(None, 3, 8, 8)], [node("conv", (0, None))], [raw("w", np.ones(3))], ranges=(0, 1))


def range_at_a_convolution_of_no_channels() -> bytes:
    """A division by its channels, ZeroDivisionError."""
    tensors = [raw("w", np.ones((4, 0, 1, 1))), raw("v", np.ones((4, 4)))]
    nodes = [node("conv", (0, -1)), node("flatten", (1,)), node("linear", (2, -2))]
    return file_of([(None, 0, 1, 1)], nodes, tensors, ranges=(0, 1, 3))


def range_at_a_flattened_value_of_no_channels() -> bytes:
    """The columns of a linear layer divided by the channels that were flattened, of which there are none."""
    nodes = [node("flatten", (0,)), node("linear", (1, -1))]
    return file_of([(None, 0, 8, 8)], nodes, [raw("w", np.ones((4, 4)))], ranges=(0, 2))


def range_at_a_linear_layer_whose_weight_is_computed() -> bytes:
    """No tensor of the file, so there are no int8 weights to derive."""
    nodes = [node("add", (-1,), scalar=1.0), node("linear", (0, 1))]
    return file_of([(None, 4)], nodes, [raw("w", np.ones((4, 4)))], ranges=(0, 1, 2))


def range_at_a_bias_of_another_width() -> bytes:
    """The bias is divided by scales, row by row."""
    tensors = [raw("w", np.ones((4, 4))), raw("b", np.ones(3))]
    return file_of([(None, 4)], [node("linear", (0, -1, -2))], tensors, ranges=(0, 1))


def range_at_integers() -> bytes:
    """Integer weights, and an integer input."""
    return file_of(
        [(None, 4)], [node("linear", (0, -1))], [raw("w", np.ones((4, 4)), "int64")], ranges=(0, 1)
    )


def range_at_weights_that_are_no_numbers() -> bytes:
    """NaN and infinities give no scale."""
    return file_of([(None, 2)], [node("linear", (0, -1))], [raw("w", [[np.nan, np.inf]])], ranges=(0, 1))


def range_at_a_pad_of_channels_below_zero() -> bytes:
    """Channels that are padded, and cut again by a negative pad."""
    nodes = [node("pad", (0,), pads=(0, 0, 0, 0, -2, 0)), node("conv", (1, -1))]
    return file_of([(None, 3, 8, 8)], nodes, [raw("w", np.ones((5, 1, 3, 3)))], ranges=(0, 2))


def ranges_at_everything() -> bytes:
    """Ranges at values that only move, and at outputs of recurrent layers."""
    tensors = [
        raw("w", np.ones((8, 3))),
        raw("r", np.ones((8, 2))),
        raw("b", np.ones(8)),
        raw("c", np.ones(8)),
    ]
    nodes = [
        node("relu", (0,)),
        node("lstm", (1, None, None, -1, -2, -3, -4)),
        node("permute", (2,), perm=(2, 0, 1)),
    ]
    return file_of([(4, 5, 3)], nodes, tensors, ranges=(0, 1, 2, 3, 4, 5))


def transposed_convolution_with_pads_that_cut_everything() -> bytes:
    """Margins below zero on both sides."""
    wide = node("conv_transpose", (0, -1), stride=(2,), padding=(9,))
    return file_of([(1, 4, 4, 4)], [wide, node("relu", (1,))], [constant("w", 4, 16, 4, 4)], ranges=(0, 1))


def grouped_convolution_whose_groups_do_not_divide() -> bytes:
    """Seven groups of four channels."""
    grouped = node("conv", (0, -1), groups=7)
    return file_of([(1, 4, 4, 4)], [grouped], [raw("w", np.ones((4, 4, 1, 1)))], ranges=(0, 1))


def scalars_that_are_infinite() -> bytes:
    """Bounds and factors of infinity around an int8 layer."""
    nodes = [
        node("linear", (0, -1)),
        node("clamp", (1,), low=float("inf"), high=float("-inf")),
        node("mul", (2,), scalar=float("inf")),
    ]
    return file_of([(None, 4)], nodes, [raw("w", np.ones((4, 4)))], ranges=(0, 2))
