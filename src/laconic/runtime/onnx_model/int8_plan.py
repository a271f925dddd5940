"""A calibrated graph as ONNX: layers on int8 weights, QuantizeLinear and DequantizeLinear around them."""

from __future__ import annotations

from laconic.pack.graph.ops import ints_of, text_of
from laconic.records import Graph, PackedModel
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.filling import filled_channels
from laconic.runtime.int8.schedule import Schedule, schedule_of
from laconic.runtime.int8.weights import LayerPlan, filled, integer_layer, plan_layer
from laconic.runtime.onnx_model.builder import Builder
from laconic.runtime.onnx_model.int8_layers import int8_layer, transposed_layer
from laconic.runtime.onnx_model.plan import Plan, fitting
from laconic.runtime.ops.moves import pads_of
from laconic.runtime.ops.table import row_of


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
        self.ranks = schedule.ranks
        self.layers = self._planned(schedule)
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
        out, source = step.outputs[0], step.node.inputs[0]
        if out in self.layers and source is not None:
            with fitting(step.node.op):
                name, done = self._layer(step, source, self.layers[out])
            self.put(out, name, "float32", done)
            return
        pads = None if source is None or self.kinds[out] != "move" else self._integer_pads(step, source)
        if pads is None or source is None:
            super().emit(step)
        else:
            name = self.builder.padded(self.integers[source], self.ranges[source], pads)
            self.put(out, name, "float32", True)

    def _extra(self, value: int) -> int:
        return self.filled[value].extra if value in self.filled else 0

    def _planned(self, schedule: Schedule) -> dict[int, LayerPlan]:
        """The layers that run on int8 weights, by their first output."""
        found: dict[int, LayerPlan] = {}
        for step, kind in zip(schedule.steps, schedule.kinds, strict=True):
            source, out = step.node.inputs[0], step.outputs[0]
            if not step.is_layer or source is None or source not in schedule.ranges:
                continue
            transposed = step.node.op == "conv_transpose"
            if transposed and kind != "layer":
                continue  # files without a range for its output were calibrated for float32
            scale = schedule.ranges[source].scale
            with fitting(step.node.op):
                layer = integer_layer(step, self.tensors, scale)
                columns = self._extra(source)
                if step.node.op == "linear" and columns:  # flattened: several columns for each channel
                    columns *= layer.weight.shape[1] // self.filled[source].own
                found[out] = plan_layer(
                    layer if transposed else filled(layer, self._extra(out), columns), scale
                )
        return found

    def _layer(self, step: Step, source: int, plan: LayerPlan) -> tuple[str, bool]:
        """A layer on int8 weights with its activation, and whether its output is in integers."""
        b: Builder = self.builder
        out, x = step.outputs[0], self.name(source)
        own, phases = self.ranges.get(out) if out in self.read else None, None
        if step.node.op == "conv_transpose" and plan.layer.window is not None:
            y, phases = transposed_layer(b, x, plan, plan.layer.window, own is not None)
        else:
            y = int8_layer(b, x, plan, self.ranks.get(source) == 2)
        if step.activation is not None:
            y = row_of(step.activation.op).form(b, step.activation, (y,))[0]
        if phases is None or own is None:
            return y, False
        return b.op("DepthToSpace", b.quantised(y, own), blocksize=phases, mode="CRD"), True

    def _integer_pads(self, step: Step, source: int) -> list[int] | None:
        """The pads of a step that is zero padding of an integer value of known rank that other steps read."""
        out, rank = step.outputs[0], self.ranks.get(source)
        if step.node.op != "pad" or rank is None or source not in self.integers or out not in self.read:
            return None
        given, mode = ints_of(step.node, "pads"), text_of(step.node, "mode")
        if len(given) % 2 or len(given) > 2 * rank or mode != "constant":
            return None
        pads = pads_of(given, rank)
        change = self._extra(out) - self._extra(source)
        if change:
            pads[len(pads) // 2 + 1] += change
        return pads
