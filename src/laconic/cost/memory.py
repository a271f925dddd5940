"""Peak activation memory by lifetime analysis of the graph.

Operations run in the file's order. A value needs memory from the operation that makes it to the last one
that reads it; inputs from the start to their last reader, outputs to the end. Inputs count: they are in the
same memory. Three rules reduce the memory:

- a view (reshape, flatten, ...) is its input under another shape;
- a value-by-value operation writes over an operand of the same size in bytes that nobody reads afterwards;
- what depends on stored tensors alone is computed once, when the network is loaded, and is no activation.

Not counted: scratch space of kernels (im2col, gates of a recurrent step), alignment, the program itself.
Counted: an attention's score matrix while the attention runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from laconic.cost.counts import op_bits, score_entries, value_bytes
from laconic.records import NetworkFacts, OpFacts


@dataclass
class _Buffer:
    size: int
    first: int
    last: int


def live_bytes(facts: NetworkFacts, activation_bits: int | None = None) -> tuple[int, ...]:
    """Bytes of activations alive while each operation runs; the peak is the largest of them.

    >>> from laconic.records import ValueFacts
    >>> values = (ValueFacts((4,), "float32"), ValueFacts((4,), "float32"), ValueFacts((4,), "float32"))
    >>> ops = (OpFacts("softmax", (0,), (1,), kind="softmax"), OpFacts("relu", (1,), (2,), kind="pointwise"))
    >>> live_bytes(NetworkFacts(1, values, ops, (2,), (), 0))
    (32, 16)
    """
    root = view_roots(facts)
    last = last_reads(facts, root)
    buffers: dict[int, _Buffer] = {}
    for value in range(facts.n_inputs):
        size = value_bytes(facts, value, activation_bits)
        buffers[value] = _Buffer(size, 0, max(last[value], 0))
    for index, op in enumerate(facts.ops):
        if op.folded:
            continue
        for value in op.outputs:
            if root[value] != value:
                continue
            size = value_bytes(facts, value, activation_bits)
            reused = _reusable(facts, op, index, size, root, buffers) if value == op.outputs[0] else None
            if reused is None:
                buffers[value] = _Buffer(size, index, max(last[value], index))
            else:
                buffers[value] = buffers[reused]
                buffers[value].last = max(last[value], index)
    alive = list({id(b): b for b in buffers.values()}.values())  # each once, however many values share it
    return tuple(
        sum(b.size for b in alive if b.first <= index <= b.last) + _scratch(facts, op, activation_bits)
        for index, op in enumerate(facts.ops)
    )


def view_roots(facts: NetworkFacts) -> list[int]:
    """For each value the one whose memory it is a view of (itself, if it is none)."""
    root = list(range(len(facts.values)))
    for op in facts.ops:
        source = op.inputs[0]
        if op.kind == "view" and source is not None and source >= 0:
            root[op.outputs[0]] = root[source]
    return root


def last_reads(facts: NetworkFacts, root: list[int]) -> list[int]:
    """For each root the last operation that reads it through any view; -1 if none, the end for outputs."""
    last = [-1] * len(facts.values)
    for index, op in enumerate(facts.ops):
        for ref in op.inputs:
            if ref is not None and ref >= 0:
                last[root[ref]] = max(last[root[ref]], index)
    for value in facts.outputs:
        last[root[value]] = len(facts.ops)
    return last


def _reusable(
    facts: NetworkFacts, op: OpFacts, index: int, size: int, root: list[int], buffers: dict[int, _Buffer]
) -> int | None:
    """An operand that a value-by-value operation may write over."""
    if op.kind != "pointwise":
        return None
    made = facts.values[op.outputs[0]].shape
    for ref in op.inputs:
        if ref is None or ref < 0 or root[ref] not in buffers or facts.values[ref].shape != made:
            continue
        buffer = buffers[root[ref]]
        if buffer.size == size and buffer.last == index:
            return root[ref]
    return None


def _scratch(facts: NetworkFacts, op: OpFacts, activation_bits: int | None) -> int:
    if op.kind != "attention" or op.folded:
        return 0
    return score_entries(facts, op) * op_bits(facts, op, activation_bits) // 8
