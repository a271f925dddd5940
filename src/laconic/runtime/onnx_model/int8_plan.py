"""A calibrated graph as ONNX: layers on int8 weights, QuantizeLinear and DequantizeLinear around them."""

from __future__ import annotations

from laconic.records import Graph, PackedModel
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.filling import filled_channels, integer_pads
from laconic.runtime.int8.schedule import Schedule
from laconic.runtime.onnx_model.builder import Builder
from laconic.runtime.onnx_model.int8_layers import LayerForm, layer_forms
from laconic.runtime.onnx_model.plan import Plan
from laconic.runtime.ops.shape_rules import fitting
from laconic.runtime.ops.table import row_of


class Int8Plan(Plan):
    """A plan whose values are quantised to int8 where they have a range.

    ``exact`` holds the names of values before quantisation, ``integers`` those of the uint8 values, ``names``
    those of the dequantised values that float32 nodes read.
    """

    def __init__(self, model: PackedModel, graph: Graph, schedule: Schedule) -> None:
        super().__init__(model, graph)
        self.steps, self.ranks = schedule.steps, schedule.ranks
        read = {ref for node in graph.nodes for ref in node.inputs}
        self.ranges = {value: entry for value, entry in schedule.ranges.items() if value in read}
        channels = filled_channels(graph, schedule, model.tensors)
        self.pads = integer_pads(graph, schedule, channels, self.ranges)
        self.layers = layer_forms(schedule, model.tensors, channels, self.ranges)
        self.names: dict[int, str] = {}
        self.integers: dict[int, str] = {}

    def put(self, value: int, name: str, kind: str) -> None:
        """Note a value's name, and quantise it to int8 if it has a range."""
        self.types[value], self.exact[value] = kind, name
        if value in self.ranges:
            self.integers[value] = self.builder.quantised(name, self.ranges[value])
        elif value in self.ranks:
            self.builder.ranks[name] = self.ranks[value]

    def put_integers(self, value: int, name: str) -> None:
        """Note the name of a float32 value that was made in integers."""
        self.types[value], self.integers[value] = "float32", name

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
        if value not in self.pads:
            self.put(value, name, kind)
            return
        integers = self.builder.quantised(name, self.ranges[value])
        self.put_integers(value, self.builder.padded(integers, self.ranges[value], self.pads[value]))

    def emit(self, step: Step) -> None:
        """One step's nodes."""
        out, source = step.outputs[0], step.node.inputs[0]
        if source is None or (out not in self.layers and out not in self.pads):
            super().emit(step)
        elif out in self.layers:
            with fitting(step.node.op):
                self._layer(step, self.layers[out], self.name(source))
        else:
            integers = self.integers[source]
            self.put_integers(out, self.builder.padded(integers, self.ranges[source], self.pads[out]))

    def _layer(self, step: Step, form: LayerForm, x: str) -> None:
        """A layer on int8 weights with its activation; one in phases stays in integers."""
        b, out = self.builder, step.outputs[0]
        y = _product(b, x, form)
        if step.activation is not None:
            y = row_of(step.activation.op).form(b, step.activation, (y,))[0]
        if form.phases is None:
            self.put(out, y, "float32")
            return
        q = b.quantised(y, self.ranges[out])
        self.put_integers(out, b.op("DepthToSpace", q, blocksize=form.phases, mode="CRD"))


def _product(b: Builder, x: str, form: LayerForm) -> str:
    """The node of a layer; ``x`` is its input, quantised and dequantised."""
    if form.scales is None:
        return b.op(form.kind, x, b.constant(form.weight), b.constant(form.bias), **form.attrs)
    if form.units is None:
        product = b.op(form.kind, x, b.rows_of(form.weight, form.scales, axis=1))
        return b.op("Add", product, b.constant(form.bias))
    bias = b.rows_of(form.bias, form.units, axis=0)
    return b.op(form.kind, x, b.rows_of(form.weight, form.scales, axis=0), bias, **form.attrs)
