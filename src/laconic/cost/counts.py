"""Multiply-accumulates and all other arithmetic of one operation, from its shapes.

A multiply-accumulate (MAC) is one product added to a sum. Padding is counted as if its zeros were multiplied,
as the literature does; biases start the sum and cost nothing. All other arithmetic (activations, pooling,
normalisation, softmax, gates) is counted in *other operations* of about one MAC each: an addition, a
comparison, a product, or a look-up of exp, tanh and similar functions. In int8 each number that is rescaled
(a layer's sum, the operands of a sum, a conversion from or to float32) counts as one; a ReLU that saturates a
sum counts as none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from laconic.cost.kinds import STATES
from laconic.errors import InputError
from laconic.records import NetworkFacts, OpFacts, TensorFacts, tensor_index

_FLOATS = ("float32", "float16")
_DTYPE_BITS = {"float32": 32, "int64": 64, "bool": 8, "int32": 32, "uint8": 8, "int8": 8, "float16": 16}


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one operation, with zero weights counted and without."""

    dense: int = 0
    nonzero: int = 0
    weight_bits: int = 0


def value_bits(facts: NetworkFacts, value: int, activation_bits: int | None) -> int:
    """Bits of one entry of a value; ``activation_bits`` overrides those of floating-point ones."""
    dtype = facts.values[value].dtype
    return activation_bits if activation_bits and dtype in _FLOATS else _DTYPE_BITS[dtype]


def value_bytes(facts: NetworkFacts, value: int, activation_bits: int | None) -> int:
    """Bytes of a whole value."""
    return facts.values[value].entries * value_bits(facts, value, activation_bits) // 8


def op_bits(facts: NetworkFacts, op: OpFacts, activation_bits: int | None) -> int:
    """Bits of an operation's activations: its widest floating-point value, else its widest, at most 32."""
    values = [r for r in (*op.inputs, *op.outputs) if r is not None and r >= 0]
    floats = [v for v in values if facts.values[v].dtype in _FLOATS]
    return min(32, max(value_bits(facts, v, activation_bits) for v in floats or values))


def count_macs(facts: NetworkFacts, op: OpFacts, activation_bits: int | None) -> Macs:
    """MACs of one operation.

    linear: outputs x inputs a row. Convolution: weights x output positions; transposed: weights x input
    positions. Recurrent: (W_ih + W_hh) x steps x batch. Attention: queries x keys x (width of keys + width of
    values) a head. matmul and einsum: the product of all index sizes. Everything else: none.
    """
    dense = _dense_macs(facts, op)
    if dense == 0:
        return Macs()
    weights = mac_weights(facts, op)
    if not weights:  # two activations
        return Macs(dense, dense, op_bits(facts, op, activation_bits))
    entries = max(1, sum(w.entries for w in weights))
    # each weight is used equally often, so this division has no remainder
    nonzero = dense * sum(w.nonzeros for w in weights) // entries
    return Macs(dense, nonzero, max(w.value_bits for w in weights))


def mac_weights(facts: NetworkFacts, op: OpFacts) -> tuple[TensorFacts, ...]:
    """The stored tensors that enter an operation's products (not biases, not normalisation)."""
    if op.kind == "recurrent":
        stored = stored_inputs(facts, op)
        return tuple(t for t in stored if len(t.shape) == 2)
    if op.kind in ("weighted", "transposed"):
        ref = op.inputs[1]
        return (facts.tensors[tensor_index(ref)],) if ref is not None and ref < 0 else ()
    return stored_inputs(facts, op) if op.kind in ("matmul", "einsum") else ()


def stored_inputs(facts: NetworkFacts, op: OpFacts) -> tuple[TensorFacts, ...]:
    """The stored tensors that an operation reads, each once."""
    refs = dict.fromkeys(r for r in op.inputs if r is not None and r < 0)
    return tuple(facts.tensors[tensor_index(r)] for r in refs)


def shape_of(facts: NetworkFacts, ref: int | None) -> tuple[int, ...]:
    """Shape of a value or of a stored tensor."""
    if ref is None:
        return ()
    return facts.values[ref].shape if ref >= 0 else facts.tensors[tensor_index(ref)].shape


def steps_of(facts: NetworkFacts, op: OpFacts) -> int:
    """Time steps of a recurrent layer: how often each of its weights is read."""
    return shape_of(facts, op.inputs[0])[0 if op.attrs["time_major"] else 1]


def _dense_macs(facts: NetworkFacts, op: OpFacts) -> int:
    shapes = [shape_of(facts, ref) for ref in op.inputs]
    made = math.prod(facts.values[op.outputs[0]].shape)
    if op.kind == "weighted":
        return made * math.prod(shapes[1][1:])
    if op.kind == "transposed":
        return math.prod(shapes[0]) * math.prod(shapes[1][1:])
    if op.kind == "recurrent":
        matrices = sum(math.prod(s) for s in shapes[1 + STATES[op.op] :] if len(s) == 2)
        return matrices * shapes[0][0] * shapes[0][1]
    if op.kind == "attention":
        return score_entries(facts, op) * (shapes[0][-1] + shapes[2][-1])
    if op.kind == "matmul":
        return made * shapes[0][-1]
    return einsum_macs(str(op.attrs["equation"]), shapes) if op.kind == "einsum" else 0


def score_entries(facts: NetworkFacts, op: OpFacts) -> int:
    """Entries of an attention's score matrix, all heads together: the inputs of its softmax."""
    queries, keys = shape_of(facts, op.inputs[0]), shape_of(facts, op.inputs[1])
    return math.prod(queries[:-1]) * keys[-2]


def einsum_macs(equation: str, shapes: list[tuple[int, ...]]) -> int:
    """MACs of an einsum, contracted from left to right; none for a single operand.

    >>> einsum_macs("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)])
    120
    """
    terms, _, result = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    operands = [_indices(t, shape, sizes) for t, shape in zip(terms.split(","), shapes, strict=True)]
    if "->" in equation:
        kept = set(result.replace("...", "")) | {i for i in sizes if i.startswith(".")}
    else:
        letters = [i for indices in operands for i in indices]
        kept = {i for i in sizes if letters.count(i) == 1 or i.startswith(".")}
    total, left = 0, set(operands[0])
    for k, right in enumerate(operands[1:], start=2):
        union = left | set(right)
        total += math.prod(sizes[i] for i in union)
        left = union & kept.union(*operands[k:])
    return total


def _indices(term: str, shape: tuple[int, ...], sizes: dict[str, int]) -> list[str]:
    """One index name per axis; axes under the dots are ``.1``, ``.2``, ... from the right."""
    before, dots, after = term.partition("...")
    hidden = len(shape) - len(before) - len(after)
    names = [*before, *(f".{k}" for k in range(hidden, 0, -1) if dots), *after]
    if len(names) != len(shape):
        raise InputError(
            f"einsum term {term!r} does not name the axes of a value of shape {shape}. Cure: one letter for "
            "each axis, or ... for those that have none"
        )
    for name, size in zip(names, shape, strict=True):
        sizes[name] = max(sizes.get(name, 1), size)
    return names


_GATES = {"lstm": 8, "gru": 6, "rnn": 1}
"""Other operations per hidden unit and step: the gates' look-ups and the products that update the state.

LSTM: four gates, two products for the cell, tanh of it, one for the output. GRU: three gates, the reset, two
for the blend.
"""


def count_other(facts: NetworkFacts, op: OpFacts) -> int:
    """Arithmetic of one operation beside its MACs (see the module's docstring for the unit)."""
    rule = BESIDE.get(op.kind)
    if rule is None:
        raise InputError(
            f"operation {op.op!r} of kind {op.kind!r} has no rule for what it costs. Cure: one of "
            f"{', '.join(BESIDE)}"
        )
    return op.rescaled + rule(facts, op)


def _none(facts: NetworkFacts, op: OpFacts) -> int:
    return 0


def _made(facts: NetworkFacts, op: OpFacts) -> int:
    """One for each entry of the result."""
    return math.prod(facts.values[op.outputs[0]].shape)


def _read(facts: NetworkFacts, op: OpFacts) -> int:
    """One for each entry of the first input."""
    return math.prod(shape_of(facts, op.inputs[0]))


def _pooled(facts: NetworkFacts, op: OpFacts) -> int:
    return _made(facts, op) * _window(op)


def _normalised(facts: NetworkFacts, op: OpFacts) -> int:
    """Sum, sum of squares, scale and shift; one more with weights."""
    return _made(facts, op) * (3 + any(ref is not None for ref in op.inputs[1:]))


def _shares(facts: NetworkFacts, op: OpFacts) -> int:
    """Softmax: maximum, exp, sum, quotient."""
    return 4 * _made(facts, op)


def _attended(facts: NetworkFacts, op: OpFacts) -> int:
    """Scale, softmax, and the mask if there is one."""
    return score_entries(facts, op) * (5 + (len(op.inputs) > 3))


def _gated(facts: NetworkFacts, op: OpFacts) -> int:
    layers = op.attrs["layers"]  # all as wide as the last one
    return _units(facts, op) * _GATES[op.op] * (layers if isinstance(layers, int) else 1)


def _units(facts: NetworkFacts, op: OpFacts) -> int:
    """Entries that all steps of the last layer compute: its outputs, before a projection if it has one."""
    made = _made(facts, op)
    if not op.attrs.get("projected"):
        return made
    narrow, wide = shape_of(facts, op.inputs[-1])
    return made // narrow * wide


def _resized(facts: NetworkFacts, op: OpFacts) -> int:
    taps = {"nearest": 0, "linear": 2, "cubic": 4}[str(op.attrs["mode"])]
    return _made(facts, op) * math.prod([taps] * (len(facts.values[op.outputs[0]].shape) - 2))


def _sampled(facts: NetworkFacts, op: OpFacts) -> int:
    """One product for each entry that a sample reads, and the place of each sample."""
    shape = facts.values[op.outputs[0]].shape
    taps = {"nearest": 0, "linear": 2, "cubic": 4}[str(op.attrs["mode"])]
    places = _entries_of(facts, op.inputs[1])
    return math.prod(shape) * math.prod([taps] * (len(shape) - 2)) + places


def _entries_of(facts: NetworkFacts, ref: int | None) -> int:
    return math.prod(shape_of(facts, ref))


def _scattered(facts: NetworkFacts, op: OpFacts) -> int:
    """One for each entry that is added to another; none where entries are only written."""
    return 0 if op.attrs["reduce"] == "none" else _entries_of(facts, op.inputs[2])


def _ordered(facts: NetworkFacts, op: OpFacts) -> int:
    """Comparisons of a search with a heap of k: log2 of k (rounded up, at least 1) for each entry read."""
    k = op.attrs["k"]
    return _read(facts, op) * max(1, (k - 1).bit_length() if isinstance(k, int) else 1)


def _log_sums(facts: NetworkFacts, op: OpFacts) -> int:
    return 3 * _read(facts, op)


BESIDE: Mapping[str, Callable[[NetworkFacts, OpFacts], int]] = {
    **dict.fromkeys(("view", "partial", "move", "weighted", "transposed", "matmul", "einsum"), _none),
    "conversion": _none,  # its rescaling is counted by OpFacts.rescaled
    "pointwise": _made,
    "reduction": _read,
    "recurrent": _gated,
    "pooling": _pooled,
    "normalisation": _normalised,
    "softmax": _shares,
    "attention": _attended,
    "resampling": _resized,
    "log_sum": _log_sums,
    "search": _ordered,
    "sampling": _sampled,
    "scatter": _scattered,
}
"""Operations of each kind beside MACs. An operation of another kind is refused, not counted as free."""


def _window(op: OpFacts) -> int:
    kernel, rank = op.attrs["kernel"], op.attrs["rank"]
    if not isinstance(kernel, tuple) or not isinstance(rank, int):
        raise InputError(
            f"operation {op.op!r} has kernel {kernel!r} for {rank!r} axes. Cure: a tuple as kernel, a whole "
            "number as rank"
        )
    return kernel[0] ** rank if len(kernel) == 1 else math.prod(kernel)
