"""What kinds of operations there are, where it matters to cost: in place, without a copy, in part."""

from __future__ import annotations

# fmt: off
POINTWISE = frozenset({
    "relu", "sigmoid", "tanh", "silu", "selu", "hardswish", "hardsigmoid", "mish",
    "softsign", "exp", "log", "sqrt", "abs", "neg", "erf", "sin",
    "cos", "reciprocal", "floor", "ceil", "round", "sign", "logical_not", "gelu",
    "elu", "leaky_relu", "softplus", "clamp", "prelu", "batch_norm", "add", "sub",
    "mul", "div", "pow", "minimum", "maximum", "eq", "ne", "lt",
    "le", "gt", "ge", "logical_and", "logical_or", "where", "atan", "floor_divide", "remainder",
})
# fmt: on
"""Value by value: entry i of the output needs entry i of the inputs only, so it may be written over one.

Batch normalisation is one of them in evaluation mode: a scale and a shift per channel.
"""

VIEWS = frozenset({"flatten", "reshape", "unsqueeze", "squeeze", "identity"})
"""The same values in the same order under another shape: no copy, no memory of their own."""

PARTIAL = frozenset({"slice", "select", "take", "gather", "embedding"})
"""They read as many entries of their first input (or table) as they write."""

RECURRENT = {"lstm": 2, "gru": 1, "rnn": 1}
"""Recurrent layers and how many initial states stand between the input and the weights."""

REDUCTIONS = frozenset(
    {
        "mean",
        "sum",
        "amax",
        "amin",
        "prod",
        "argmax",
        "argmin",
        "cumsum",
        "global_avg_pool",
        "global_max_pool",
    }
)
"""One operation per entry read."""

# fmt: off
MOVES = frozenset({
    "permute", "slice", "select", "concat", "stack", "expand", "tile", "pad", "cast", "take", "gather",
    "pixel_shuffle", "embedding", "size", "arange",
})
# fmt: on
"""They put values elsewhere and compute none: their cost is traffic."""

PRODUCTS = frozenset({"linear", "conv", "conv_transpose", "matmul", "einsum"})
"""Multiply-accumulates and nothing beside them."""
