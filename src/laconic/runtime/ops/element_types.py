"""The element types that operations take: those of ONNX, so that no engine is asked for anything else."""

from __future__ import annotations

from collections.abc import Sequence

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import attr
from laconic.records import Node

_INDICES = ("int64", "int32")
_REAL = ("float32", "float16")

_INDEX_AT = {"embedding": 0, "take": 1, "gather": 1, "scatter": 1}
"""Which input holds places."""

_ALIKE = {
    "linear": 3, "conv": 3, "conv_transpose": 3, "batch_norm": 5, "layer_norm": 3, "group_norm": 3,
    "prelu": 2, "sdpa": 3, "matmul": 2,
}  # fmt: skip
"""How many first inputs have one type. Of the operations below all inputs have."""

_JOINED = ("concat", "stack", "einsum")
_COMPARED = ("lt", "le", "gt", "ge")
_ARITHMETIC = ("add", "sub", "mul", "div", "minimum", "maximum")
_LOGICAL = ("logical_and", "logical_or", "logical_not")
_BINARY = (*_ARITHMETIC, *_COMPARED, "eq", "ne", "logical_and", "logical_or")

# fmt: off
_OF_REALS = frozenset((
    "conv", "conv_transpose", "batch_norm", "layer_norm", "group_norm", "avg_pool", "global_avg_pool",
    "global_max_pool", "lstm", "gru", "rnn", "sdpa", "sigmoid", "tanh", "silu", "selu", "hardswish",
    "hardsigmoid", "mish", "softsign", "exp", "log", "sqrt", "erf", "sin", "cos", "atan", "reciprocal",
    "floor", "ceil", "round", "gelu", "elu", "leaky_relu", "softplus", "softmax", "log_softmax",
))
_OF_NUMBERS = frozenset((
    *_ARITHMETIC, *_COMPARED, "relu", "neg", "abs", "sign", "sum", "mean", "prod", "cumsum", "argmax",
    "argmin", "topk", "matmul", "einsum",
))
# fmt: on


def check_element_types(node: Node, kinds: Sequence[str | None]) -> None:
    """Refuse inputs of element types that the operation does not take; None for an absent one.

    Raises ``CorruptFileError`` naming the input, its type and what it must be.

    >>> check_element_types(Node("take", (0, 1)), ["float32", "float32"])
    Traceback (most recent call last):
    laconic.errors.CorruptFileError: input 1 holds float32, it must hold int64 or int32
    """
    op = node.op
    if op in _INDEX_AT:
        _require(kinds, _INDEX_AT[op], _INDICES)
    if op in _LOGICAL:
        for k in range(len(kinds)):
            _require(kinds, k, ("bool",))
    elif op in _OF_REALS:
        _require(kinds, 0, _REAL)
    elif op in _OF_NUMBERS and kinds[0] == "bool":
        raise CorruptFileError("input 0 holds bool, it must hold numbers")
    if op == "where":
        _require(kinds, 0, ("bool",))
        _alike(kinds[1:3], 1)
    elif op == "scatter":
        _alike([kinds[0], None, *kinds[2:3]], 0)
    elif op in _JOINED or op in _BINARY:
        _alike(kinds, 0)
    elif op in _ALIKE:
        _alike(kinds[: _ALIKE[op]], 0)
    if op in _BINARY and len(kinds) == 1 and attr(node, "scalar") is not None:
        _require(kinds, 0, ("float32",))


def _require(kinds: Sequence[str | None], at: int, allowed: Sequence[str]) -> None:
    kind = kinds[at] if at < len(kinds) else None
    if kind is not None and kind not in allowed:
        raise CorruptFileError(f"input {at} holds {kind}, it must hold {' or '.join(allowed)}")


def _alike(kinds: Sequence[str | None], first: int) -> None:
    """All that are there have the type of the first that is."""
    there = [(k, kind) for k, kind in enumerate(kinds, first) if kind is not None]
    for k, kind in there[1:]:
        if kind != there[0][1]:
            raise CorruptFileError(
                f"input {k} holds {kind}, it must hold {there[0][1]} as input {there[0][0]} does"
            )
