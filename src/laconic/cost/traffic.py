"""Bytes that one operation moves: its compulsory traffic, each operand once.

Every operand is read once and every result written once, from and to the memory that holds it; values that
are reused in between are assumed to be in registers or the nearest memory. Exceptions: a recurrent layer
reads its matrices once per time step, an attention writes and reads its score matrix, a slice or look-up
reads the entries that it keeps, a view moves nothing.

A pointwise operation is *fused* with the operation just before it when it is the only reader of that result:
it is computed while the values are in registers, so that only its other operands are traffic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from laconic.cost.counts import (
    mac_weights,
    op_bits,
    score_entries,
    shape_of,
    steps_of,
    stored_inputs,
    value_bytes,
)
from laconic.cost.memory import view_roots
from laconic.cost.weights import few_bit_bytes, sparse_bytes
from laconic.records import NetworkFacts, OpFacts, TensorFacts


@dataclass(frozen=True)
class Traffic:
    """Bytes moved: weights in few-bit form, weights in sparse form (None: no such path), activations.

    ``own_pass`` says that the operation takes a pass of its own (neither a view nor fused nor folded).
    """

    weights: int = 0
    sparse_weights: int | None = None
    activations: int = 0
    own_pass: bool = False


def count_traffic(facts: NetworkFacts, activation_bits: int | None) -> tuple[Traffic, ...]:
    """The traffic of each operation, in order."""
    root = view_roots(facts)
    readers = _reader_counts(facts, root)
    found: list[Traffic] = []
    before: frozenset[int] = frozenset()  # the roots of the results of the last pass
    for op in facts.ops:
        if op.folded or op.kind == "view":
            found.append(Traffic())
            continue
        fused = _fused_operand(facts, op, before, root, readers, activation_bits)
        found.append(_traffic(facts, op, fused, activation_bits))
        before = frozenset(root[v] for v in op.outputs)
    return tuple(found)


def _reader_counts(facts: NetworkFacts, root: list[int]) -> list[int]:
    """How many operations (views apart) and outputs read each root."""
    count = [0] * len(facts.values)
    for op in facts.ops:
        if op.kind != "view":
            for value in {root[r] for r in op.inputs if r is not None and r >= 0}:
                count[value] += 1
    for value in facts.outputs:
        count[root[value]] += 1
    return count


def _fused_operand(
    facts: NetworkFacts,
    op: OpFacts,
    before: frozenset[int],
    root: list[int],
    readers: list[int],
    activation_bits: int | None,
) -> int | None:
    """The operand that the operation before passes on in registers."""
    if op.kind != "pointwise":
        return None
    size = value_bytes(facts, op.outputs[0], activation_bits)
    for ref in op.inputs:
        if ref is None or ref < 0 or root[ref] not in before or readers[root[ref]] != 1:
            continue
        same_shape = facts.values[ref].shape == facts.values[op.outputs[0]].shape
        if same_shape and value_bytes(facts, ref, activation_bits) == size:
            return ref
    return None


def _traffic(facts: NetworkFacts, op: OpFacts, fused: int | None, bits: int | None) -> Traffic:
    weights, sparse = _weight_bytes(facts, op, bits)
    made = sum(value_bytes(facts, v, bits) for v in op.outputs)
    operands = dict.fromkeys(r for r in op.inputs if r is not None and r >= 0 and r != fused)
    if op.kind == "partial":
        source = op.inputs[0] if op.op != "embedding" else None
        read = sum(value_bytes(facts, r, bits) for r in operands if r != source)
        read += made if source is not None and source >= 0 else 0
    else:
        read = sum(value_bytes(facts, r, bits) for r in operands)
    if op.kind == "attention":
        read += 2 * score_entries(facts, op) * op_bits(facts, op, bits) // 8
    # a fused operation's result takes the place of what the operation before has written already
    return Traffic(weights, sparse, read + (0 if fused is not None else made), fused is None)


def _weight_bytes(facts: NetworkFacts, op: OpFacts, bits: int | None) -> tuple[int, int | None]:
    """Weight bytes in few-bit form, and with the matrix of a linear layer in sparse form."""
    stored = stored_inputs(facts, op)
    if op.kind == "partial":
        table = op.inputs[1] if op.op == "embedding" else op.inputs[0]
        kept = math.prod(facts.values[op.outputs[0]].shape)
        return sum(_share(t, kept, shape_of(facts, table) == t.shape) for t in stored), None
    if op.kind == "recurrent":
        matrices = mac_weights(facts, op)
        once = sum(few_bit_bytes(t) for t in stored if t not in matrices)
        return once + steps_of(facts, op) * sum(few_bit_bytes(t) for t in matrices), None
    few = sum(few_bit_bytes(t) for t in stored)
    matrix = mac_weights(facts, op) if op.kind == "weighted" else ()
    matrix = tuple(tensor for tensor in matrix if len(tensor.shape) == 2)
    sparse = sparse_bytes(matrix[0]) if matrix else None
    return few, None if sparse is None else few - few_bit_bytes(matrix[0]) + sparse


def _share(tensor: TensorFacts, kept: int, is_table: bool) -> int:
    """Bytes of the entries that are looked up in a table, or of a whole tensor that is no table."""
    return -(-kept * tensor.bits // 8) + tensor.table_bytes if is_table else few_bit_bytes(tensor)
