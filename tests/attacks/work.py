"""A few bytes that claim much time: what depends on tensors alone is computed while a file is loaded.

The default limit is 2^30 steps of about a nanosecond. Multiply-accumulates of constants, entries that are
decoded or packed, and nodes all count.
"""

from __future__ import annotations

import numpy as np

from laconic.pack.graph.ops import make_node as node
from laconic.records import IntTensor, UniformGrid
from tests.attacks.files import constant, file_of, raw


def convolution_of_two_constants() -> bytes:
    """4096^2 by 2048^2: 67 bytes, 10^13 multiply-accumulates."""
    nodes = [node("conv", (-1, -2), padding=(1024,)), node("mean", (1,), dims=()), node("add", (0, 2))]
    return file_of([(None, 4)], nodes, [constant("a", 1, 1, 4096, 4096), constant("b", 1, 1, 2048, 2048)])


def convolution_of_two_small_constants() -> bytes:
    """600^2 by 300^2 fits every limit of memory: 8 x 10^9."""
    nodes = [node("conv", (-1, -2)), node("mean", (1,), dims=()), node("add", (0, 2))]
    return file_of([(None, 4)], nodes, [constant("a", 1, 1, 600, 600), constant("b", 1, 1, 300, 300)])


def transposed_convolution_in_int8() -> bytes:
    """Kernel = stride = 1024: the phases of a million taps were put together one by one, in 4 s."""
    wide = node("conv_transpose", (0, -1), stride=(1024,))
    return file_of(
        [(1, 1, 2, 2)], [wide, node("relu", (1,))], [constant("w", 1, 1, 1024, 1024)], ranges=(0, 1)
    )


def product_of_constants_again_and_again() -> bytes:
    """A matrix of 600^2 to the power of 100: each product is small, all of them are 2 x 10^10."""
    nodes = [node("matmul", (-1, -1))] + [node("matmul", (k, -1)) for k in range(1, 100)]
    nodes += [node("mean", (100,), dims=()), node("add", (0, 101))]
    return file_of([(None, 4)], nodes, [constant("w", 600, 600)])


def einsum_that_sums_over_everything() -> bytes:
    """Five letters of 100 entries, a number as the result: 10^10."""
    nodes = [node("einsum", (-1, -2, -3), equation="abc,cde,aeb->"), node("add", (0, 1))]
    tensors = [constant(name, 100, 100, 100) for name in "abc"]
    return file_of([(None, 4)], nodes, tensors)


def einsum_of_many_operands() -> bytes:
    """500 terms: the number of pairs grows with their square."""
    nodes = [
        node("einsum", (-1,) * 300, equation=",".join(["ab"] * 300) + "->ab"),
        node("mean", (1,), dims=()),
    ]
    return file_of([(None, 4)], [*nodes, node("add", (0, 2))], [constant("w", 40, 40)])


def pooling_of_a_constant_by_a_wide_kernel() -> bytes:
    """Each of 10^6 windows has 10^6 entries."""
    pool = node("avg_pool", (-1,), kernel=(1001,), stride=(1,), padding=(500,))
    return file_of(
        [(None, 4)],
        [pool, node("mean", (1,), dims=()), node("add", (0, 2))],
        [constant("a", 1, 1, 1000, 1000)],
    )


def attention_of_constants() -> bytes:
    """Scores of 3000 x 3000 on 64 columns."""
    nodes = [node("sdpa", (-1, -1, -1), rank=3), node("mean", (1,), dims=()), node("add", (0, 2))]
    return file_of([(None, 4)], nodes, [constant("q", 1, 3000, 64)])


def recurrent_layer_over_a_constant() -> bytes:
    """A sequence of 10^5 steps that is known when the file is loaded."""
    tensors = [
        constant("x", 1, 100_000, 4),
        constant("w", 256, 4),
        constant("r", 256, 64),
        constant("b", 256),
        constant("c", 256),
    ]
    nodes = [node("lstm", (-1, None, None, -2, -3, -4, -5)), node("mean", (1,), dims=()), node("add", (0, 4))]
    return file_of([(None, 4)], nodes, tensors)


def cumulative_sums_of_a_constant() -> bytes:
    """A thousand of them over 10^6 entries."""
    nodes = [node("cumsum", (-1,))] + [node("cumsum", (k,)) for k in range(1, 300)]
    return file_of(
        [(None, 4)], [*nodes, node("mean", (300,), dims=()), node("add", (0, 301))], [constant("a", 10**6)]
    )


def powers_of_a_constant() -> bytes:
    """Functions that take a hundred times as long as a sum."""
    nodes = [node("tile", (-1,), repeats=(2**8,))]
    nodes += [node(op, (k,)) for k, op in enumerate(["tanh", "erf", "exp", "sin", "log", "gelu"] * 3, 1)]
    nodes += [node("mean", (19,), dims=()), node("add", (0, 20))]
    return file_of([(None, 4)], nodes, [raw("w", np.ones(2**12))])


def linear_layer_at_a_claimed_size() -> bytes:
    """An input that claims 2^17 x 512: the engine measured layers at that size, 1.1 GB and minutes."""
    rng = np.random.default_rng(0)
    weight = IntTensor("w", (rng.random((512, 512)) < 0.01).astype(np.int32), UniformGrid(1.0))
    return file_of([(2**17, 512)], [node("linear", (0, -1))], [weight])


def many_linear_layers_to_measure() -> bytes:
    """Layers of distinct shapes, each just large enough that the engine measures it."""
    sizes = [364 + k for k in range(12)]
    tensors = [constant(f"w{k}", sizes[k + 1], sizes[k]) for k in range(11)]
    return file_of([(None, sizes[0])], [node("linear", (k, -1 - k)) for k in range(11)], tensors)


def free_sizes_tried_in_vain() -> bytes:
    """A graph of 5,000 nodes that fits no free size, which shows only at its end."""
    nodes = [node("relu", (k,)) for k in range(5000)] + [node("squeeze", (5000,), dims=(1,))]
    return file_of([(None, 4)], nodes)


def equation_that_is_ambiguous_to_a_pattern() -> bytes:
    """A text on which a careless regular expression would try all splits."""
    nodes = [node("einsum", (0, 0), equation="a" * 400 + "..." + "a" * 400 + ",b")]
    return file_of([(None, 4)], nodes)
