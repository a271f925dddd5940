"""A calibrated graph as ONNX: layers on int8 weights, QuantizeLinear and DequantizeLinear around them."""

from __future__ import annotations

from laconic.pack.graph.ops import ints_of, text_of
from laconic.records import ActivationRange, Graph, PackedModel
from laconic.runtime.graph.steps import Step, ranks
from laconic.runtime.int8.filling import filled_channels
from laconic.runtime.int8.schedule import schedule_of
from laconic.runtime.int8.weights import filled, integer_layer
from laconic.runtime.onnx_model.int8_layers import activated, int8_layer, transposed_layer
from laconic.runtime.onnx_model.plan import Plan, fitting
from laconic.runtime.ops.moves import pads_of


class Int8Plan(Plan):
    """A plan whose values are quantised to int8 where they have a range.

    ``exact`` holds the names of values before quantisation, ``integers`` those of the uint8 values, ``names``
    those of the dequantised values that float32 nodes read.
    """

    def __init__(self, model: PackedModel, graph: Graph) -> None:
        super().__init__(model, graph)
        schedule = schedule_of(graph)
        self.steps, self.ranges, self.kinds = schedule.steps, schedule.ranges, schedule.kind_at
        self.filled = filled_channels(graph, schedule, model.tensors)
        self.ranks = ranks(graph)
        self.read = {ref for node in graph.nodes for ref in node.inputs}
        self.names: dict[int, str] = {}
        self.integers: dict[int, str] = {}

    def put(self, value: int, name: str, kind: str, in_integers: bool = False) -> None:
        """Note a value's name, and quantise it to int8 if it has a range."""
        entry = self.ranges.get(value) if value in self.read else None
        self.types[value] = kind
        if not in_integers:
            self.exact[value] = name
        if entry is not None:
            self.integers[value] = name if in_integers else self.builder.quantised(name, entry)
        elif value in self.ranks:
            self.builder.ranks[name] = self.ranks[value]

    def name(self, value: int) -> str:
        """What float32 nodes read; DequantizeLinear is written when the first of them needs it."""
        if value not in self.integers:
            return self.exact[value]
        if value not in self.names:
            self.names[value] = self.builder.dequantised(self.integers[value], self.ranges[value])
            if value in self.ranks:
                self.builder.ranks[self.names[value]] = self.ranks[value]
        return self.names[value]

    def put_input(self, value: int, name: str, kind: str) -> None:
        """Note an input, padded to the channels that its readers need."""
        entry, extra = self.ranges.get(value), self._extra(value)
        if entry is None or not extra:
            self.put(value, name, kind)
            return
        integers = self.builder.quantised(name, entry)
        self.put(value, self.builder.padded(integers, entry, (0, 0, 0, 0, 0, extra, 0, 0)), kind, True)

    def emit(self, step: Step) -> None:
        """One step's nodes."""
        source, kind = step.node.inputs[0], self.kinds[step.outputs[0]]
        entry = self.ranges.get(source) if source is not None else None
        in_int8 = step.is_layer and entry is not None
        if step.node.op == "conv_transpose" and kind != "layer":
            in_int8 = False  # files without a range for its output were calibrated for float32
        if in_int8 and entry is not None and source is not None:
            with fitting(step.node.op):
                name, done = self._layer(step, source, entry)
            self.put(step.outputs[0], name, "float32", done)
        elif kind == "move" and source is not None and self._pads_integers(step, source):
            self.put(step.outputs[0], self._pad(step, source), "float32", True)
        else:
            super().emit(step)

    def _extra(self, value: int) -> int:
        return self.filled[value].extra if value in self.filled else 0

    def _layer(self, step: Step, source: int, entry: ActivationRange) -> tuple[str, bool]:
        """A layer on int8 weights with its activation, and whether its output is in integers."""
        out, x = step.outputs[0], self.name(source)
        layer = integer_layer(step, self.tensors, entry.scale)
        if step.node.op == "conv_transpose":
            own = self.ranges.get(out) if out in self.read else None
            return transposed_layer(self.builder, step, x, entry, layer, own)
        columns = self._extra(source)
        if step.node.op == "linear" and columns:  # flattened: several columns for each channel
            columns *= layer.weight.shape[1] // self.filled[source].own
        layer = filled(layer, self._extra(out), columns)
        name = int8_layer(self.builder, step, x, entry, layer, self.ranks.get(source) == 2)
        return activated(self.builder, step, name), False

    def _pads_integers(self, step: Step, source: int) -> bool:
        """Whether a step is zero padding of an integer value of known rank that other steps read."""
        if step.node.op != "pad":
            return False
        rank, pads = self.ranks.get(source), ints_of(step.node, "pads")
        known = rank is not None and len(pads) % 2 == 0 and len(pads) <= 2 * rank
        zeros = text_of(step.node, "mode") == "constant"
        return known and zeros and source in self.integers and step.outputs[0] in self.read

    def _pad(self, step: Step, source: int) -> str:
        """Zero padding of an integer value, without float32."""
        pads = pads_of(ints_of(step.node, "pads"), self.ranks[source])
        change = self._extra(step.outputs[0]) - self._extra(source)
        if change:
            pads[len(pads) // 2 + 1] += change
        return self.builder.padded(self.integers[source], self.ranges[source], pads)
