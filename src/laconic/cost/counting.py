"""Facts of a network -> its cost, counted: exact, and the same on every machine."""

from __future__ import annotations

from laconic.cost.counts import count_macs, count_other, op_bits
from laconic.cost.memory import live_bytes
from laconic.cost.tables import Cost, LayerCost
from laconic.cost.traffic import count_traffic
from laconic.cost.weights import dense_bytes, few_bit_bytes, stored_bytes
from laconic.errors import InputError
from laconic.records import NetworkFacts, OpFacts, tensor_index

ACTIVATION_BITS = (8, 16, 32)


def count(facts: NetworkFacts, *, activation_bits: int | None = None) -> Cost:
    """Bytes, MACs, traffic and peak activation memory of a network at one input shape.

    Views, and operations that are computed when the network is loaded, cost nothing.

    Args:
        facts: The network's operations, values and tensors at that shape.
        activation_bits: Width in which the device keeps floating-point values: 8, 16 or 32 bits; None for the
            graph's own. int8 values take one byte in any case.

    Returns:
        The cost, with neither an estimate nor a measurement.

    Raises:
        InputError: ``activation_bits`` is another number.

    >>> from laconic.records import TensorFacts, ValueFacts
    >>> values = (ValueFacts((1, 4), "float32"), ValueFacts((1, 2), "float32"))
    >>> ops = (OpFacts("linear", (0, -1), (1,), kind="weighted"),)
    >>> cost = count(NetworkFacts(1, values, ops, (1,), (TensorFacts("fc.weight", (2, 4), 6, 32, 32),), 0))
    >>> cost.macs, cost.macs_nonzero, cost.weights_dense_bytes, cost.peak_activation_bytes
    (8, 6, 32, 24)
    """
    if activation_bits not in (None, *ACTIVATION_BITS):
        raise InputError(
            f"activations can have 8, 16 or 32 bits, got {activation_bits!r}. Cure: activation_bits=8"
        )
    live = live_bytes(facts, activation_bits)
    traffic = count_traffic(facts, activation_bits)
    layers = []
    for op, alive, moved in zip(facts.ops, live, traffic, strict=True):
        free = op.folded or op.kind == "view"
        macs = count_macs(facts, op, activation_bits)
        layers.append(
            LayerCost(
                name=_name(facts, op),
                op=op.op,
                shape=facts.values[op.outputs[0]].shape,
                weight_bits=0 if free else macs.weight_bits,
                activation_bits=32 if op.folded else op_bits(facts, op, activation_bits),
                macs=0 if free else macs.dense,
                macs_nonzero=0 if free else macs.nonzero,
                other_ops=0 if free else count_other(facts, op),
                weight_traffic=moved.weights,
                sparse_traffic=moved.sparse_weights,
                activation_traffic=moved.activations,
                live_bytes=alive,
                own_pass=moved.own_pass,
            )
        )
    whole = facts.tensors if facts.original is None else facts.original
    return Cost(
        input_shapes=tuple(value.shape for value in facts.values[: facts.n_inputs]),
        layers=tuple(layers),
        file_bytes=facts.file_bytes,
        weights=sum(t.entries for t in whole),
        weights_nonzero=sum(t.nonzeros for t in whole),
        weights_dense_bytes=sum(dense_bytes(t) for t in whole),
        weights_few_bit_bytes=sum(few_bit_bytes(t) for t in facts.tensors),
        weights_stored_bytes=sum(stored_bytes(t) for t in facts.tensors),
        precision="fp32" if facts.original is None else "int8",
    )


def _name(facts: NetworkFacts, op: OpFacts) -> str:
    """The layer's name, from the first stored tensor that has one; else the operation's."""
    for ref in op.inputs:
        name = facts.tensors[tensor_index(ref)].name if ref is not None and ref < 0 else "@"
        if not name.startswith("@"):
            return name.rpartition(".")[0] or name
    return op.op
