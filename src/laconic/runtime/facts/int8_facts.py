"""Facts of a calibrated network in int8: its float32 facts, rewritten step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from laconic.records import (
    ActivationRange,
    Graph,
    NetworkFacts,
    OpFacts,
    PackedModel,
    Tensor,
    TensorFacts,
    ValueFacts,
    tensor_index,
    tensor_ref,
)
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.schedule import schedule_of
from laconic.runtime.int8.weights import IntegerLayer, integer_layer
from laconic.runtime.ops.row import Int8


def integer_facts(facts: NetworkFacts, model: PackedModel) -> NetworkFacts:
    """The facts of a model with activation ranges, in int8; ``facts`` are those in float32, same shapes.

    Steps that integer arithmetic runs read and write int8 values; normalisation and activation that are
    folded into them are dropped. Weights take one byte each and a float32 scale a row, the bias is int32.
    Inputs and outputs of the network are float32: ``quantize`` and ``dequantize`` convert a value, once each.
    All other operations stay float32.
    """
    graph = model.graph or Graph((), (), ())
    schedule = schedule_of(graph)
    plan = _Rewrite(facts, model.tensors, schedule.ranges)
    taken = 0
    for step, kind in zip(schedule.steps, schedule.kinds, strict=True):
        size = 1 + (step.norm is not None) + (step.activation is not None)
        plan.take(step, kind, facts.ops[taken : taken + size])
        taken += size
    outputs = tuple(plan.real(value) for value in graph.outputs)
    return replace(
        facts,
        values=tuple(plan.values),
        ops=tuple(plan.ops),
        outputs=outputs,
        tensors=tuple(plan.tensors),
        original=facts.tensors,
    )


@dataclass
class _Rewrite:
    """The facts written so far; a value has one id in float32 and one in int8, made when first needed."""

    facts: NetworkFacts
    stored: Sequence[Tensor]
    ranges: Mapping[int, ActivationRange]
    values: list[ValueFacts] = field(init=False)
    ops: list[OpFacts] = field(default_factory=list)
    tensors: list[TensorFacts] = field(default_factory=list)
    _integers: dict[int, int] = field(default_factory=dict)
    _reals: dict[int, int] = field(default_factory=dict)
    _constant: set[int] = field(default_factory=set)
    _known: dict[object, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = list(self.facts.values)
        self._reals = {k: k for k in range(self.facts.n_inputs)}

    def take(self, step: Step, kind: Int8, ops: Sequence[OpFacts]) -> None:
        """Add one step; ``ops`` are the operations folded into it."""
        if kind == "float":
            for op in ops:
                self._float(op)
            return
        inputs = tuple(ref if ref is None or ref < 0 else self._integer(ref) for ref in step.node.inputs)
        if kind == "layer":
            source = step.node.inputs[0] or 0
            inputs = (inputs[0], *self._layer_tensors(step, self.ranges[source].scale, ops[0]))
        for value in step.outputs:
            self.values[value] = replace(self.values[value], dtype="int8")
            self._integers[value] = value
        rescaled = self._rescaled(step, kind)
        self.ops.append(replace(ops[0], inputs=inputs, outputs=step.outputs, rescaled=rescaled))

    def real(self, value: int) -> int:
        """The id of a value in float32 (or of its own integer type)."""
        if value not in self._reals:
            self._reals[value] = self._changed("dequantize", self._integers[value], "float32")
        return self._reals[value]

    def _integer(self, value: int) -> int:
        if value not in self._integers:
            self._integers[value] = self._changed("quantize", self._reals[value], "int8")
        return self._integers[value]

    def _changed(self, op: str, source: int, dtype: str) -> int:
        made = ValueFacts(self.values[source].shape, dtype)
        self.values.append(made)
        new = len(self.values) - 1
        folded = source in self._constant
        self._constant.update((new,) if folded else ())
        self.ops.append(
            OpFacts(op, (source,), (new,), folded=folded, rescaled=made.entries, kind="conversion")
        )
        return new

    def _float(self, op: OpFacts) -> None:
        """An operation that stays as it is, on float32 values and the file's own tensors."""
        inputs = tuple(
            None if ref is None else self.real(ref) if ref >= 0 else self._tensor(tensor_index(ref))
            for ref in op.inputs
        )
        self._reals.update((value, value) for value in op.outputs)
        self._constant.update(op.outputs if op.folded else ())
        self.ops.append(replace(op, inputs=inputs))

    def _tensor(self, index: int) -> int:
        return self._added(index, self.facts.tensors[index])

    def _added(self, key: object, tensor: TensorFacts) -> int:
        """The reference of a tensor, which is kept once for all operations that read it."""
        if key not in self._known:
            self._known[key] = tensor_ref(len(self.tensors))
            self.tensors.append(tensor)
        return self._known[key]

    def _layer_tensors(self, step: Step, input_scale: float, op: OpFacts) -> tuple[int, int]:
        """The int8 weights and the int32 bias that a layer is multiplied by."""
        layer = integer_layer(step, self.stored, input_scale)
        own = self.facts.tensors[tensor_index(op.inputs[1] or -1)]
        name, shape = own.name, own.shape
        bias = layer.bias_integers(input_scale, 32)
        weight, rows = _weight_facts(name, shape, layer), bias.shape
        shift = TensorFacts(f"{name} (bias)", rows, int(np.count_nonzero(bias)), 32, 32)
        scales = layer.scales.tobytes()
        return (
            self._added((name, layer.weight.tobytes(), scales), weight),
            self._added((name, bias.tobytes(), scales, input_scale), shift),
        )

    def _rescaled(self, step: Step, kind: Int8) -> int:
        """Numbers to rescale: a layer's sums; operands and result of a sum; parts of a concatenation."""
        made = self.values[step.outputs[0]].entries
        if kind == "layer":
            return made
        if kind != "join":
            return 0
        refs = [ref for ref in step.node.inputs if ref is not None]
        if step.node.op == "add":
            return made + sum(self.values[ref].entries for ref in refs)
        out = self.ranges[step.outputs[0]]
        return sum(
            self.values[ref].entries
            for ref in refs
            if (self.ranges[ref].scale, self.ranges[ref].zero_point) != (out.scale, out.zero_point)
        )


def _weight_facts(name: str, shape: tuple[int, ...], layer: IntegerLayer) -> TensorFacts:
    nonzeros = int(np.count_nonzero(layer.weight))
    return TensorFacts(name, shape, nonzeros, 8, 8, 4 * len(layer.scales))
