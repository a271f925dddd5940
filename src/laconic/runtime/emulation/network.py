"""A whole network in integer arithmetic: each step of the graph on integers, or in float32 and named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from laconic.errors import CorruptFileError, InputError, at
from laconic.files import read_input
from laconic.pack.graph.ops import SIZED, float_of, ints_of
from laconic.records import AnyArray, Graph, Node, PackedModel, RawTensor, ValueSpec, tensor_ref
from laconic.records.limits import DEFAULT, Limits
from laconic.runtime.calls.door import Door
from laconic.runtime.emulation import kernels
from laconic.runtime.emulation.arithmetic import Arithmetic, Int8, Int16x8, Ternary
from laconic.runtime.emulation.fixed_point import quantize_multiplier
from laconic.runtime.emulation.needs import emulated_call
from laconic.runtime.emulation.values import Encoding, Quantised
from laconic.runtime.graph.sizes import claims_of
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.schedule import schedule_of
from laconic.runtime.int8.weights import IntegerLayer, integer_layer
from laconic.runtime.network import Network
from laconic.runtime.ops.row import Int8 as Kind
from laconic.runtime.precision import with_precision
from laconic.runtime.reading import read_model

Value = Quantised | AnyArray

_REMEMBERED = 1024
"""Float32 steps at one set of shapes that are kept built; a network of one size needs one for each step."""


def emulate(
    source: str | os.PathLike[str] | bytes | PackedModel,
    arithmetic: Arithmetic = Int8(),  # noqa: B008 - frozen
    *,
    limits: Limits = DEFAULT,
) -> Emulator:
    """A calibrated .lac file as a device with this arithmetic would run it.

    Outputs are clipped to their calibrated range, as on a device. The int8 kernels of
    :func:`laconic.runtime.load` return the outputs of a last layer in float32, unclipped.

    Args:
        source: The file's path, its bytes, or records that were read from it.
        arithmetic: ``Int8()``, ``Int16x8()`` or ``Ternary()``.
        limits: What reading the file and one call may take (memory in bytes, work in steps of about a
            nanosecond).

    Returns:
        The emulated network, called as one that ``load`` returns.

    Raises:
        InputError: The file has no activation ranges.
        FileFormatError: It is no .lac file, or a wrong one.
        WeightsOnlyError: It has no graph.
        LimitError: Reading it takes more than the limits allow.

    Example:
        >>> from laconic.records import ActivationRange
        >>> ranges = (ActivationRange(0, 1.0, 0), ActivationRange(1, 2.0, 0))
        >>> graph = Graph((ValueSpec("float32", (None, 1)),), (Node("linear", (0, -1)),), (1,), ranges)
        >>> net = emulate(PackedModel((RawTensor("w", np.float32([[3]])),), graph))
        >>> net(np.float32([[5]]))
        array([[16.]], dtype=float32)
    """
    if isinstance(source, PackedModel):
        return Emulator(source, arithmetic, limits)
    if isinstance(source, bytes):
        return Emulator(read_model(source, limits), arithmetic, limits)
    data = read_input(source)
    with at(f"reading {os.fspath(source)!r}"):
        model = read_model(data, limits)
    return Emulator(model, arithmetic, limits)


@dataclass(frozen=True, eq=False)
class _Layer:
    """What one layer needs at run time: its integers, and what its sums are multiplied by."""

    weights: IntegerLayer
    adds_only: bool


class Emulator:
    """``emulator(x) -> y`` as :class:`laconic.runtime.Network`, in integers; outputs are dequantised.

    Layers, sums, concatenations, averages, and all that only moves numbers (pooling, reshaping, padding,
    relu) are integer arithmetic. Any other step runs in float32 between a dequantisation and, where its
    output has a range, a quantisation: ``float_steps`` names them, and is empty where the device needs no
    floating point. ``multiplied`` names the layers that ``Ternary`` found not ternary.

    Args:
        model: Records with a graph and activation ranges.
        arithmetic: As for :func:`emulate`.
        limits: As for :func:`emulate`.

    >>> from laconic.records import ActivationRange, RawTensor
    >>> ranges = (ActivationRange(0, 1.0, 0), ActivationRange(1, 2.0, 0))
    >>> graph = Graph((ValueSpec("float32", (None, 2)),), (Node("linear", (0, -1)),), (1,), ranges)
    >>> model = PackedModel((RawTensor("w", np.float32([[1, 1], [1, -1]])),), graph)
    >>> net = Emulator(model)
    >>> net(np.float32([[100, 20], [127, 127]])), net.float_steps
    (array([[120.,  80.],
           [254.,   0.]], dtype=float32), ())
    """

    def __init__(
        self,
        model: PackedModel,
        arithmetic: Arithmetic = Int8(),  # noqa: B008 - frozen
        limits: Limits = DEFAULT,
    ) -> None:
        model = with_precision(model, "int8")
        self._float = Network.from_packed(with_precision(model, "fp32"), 1, limits)  # refuses a wrong graph
        graph = model.graph or Graph((), (), ())
        self.arithmetic = arithmetic
        self.inputs = self._float.inputs
        self.outputs, self.output_names = self._float.outputs, self._float.output_names
        self._rules: Int8 | Int16x8 = (
            arithmetic.activations if isinstance(arithmetic, Ternary) else arithmetic
        )
        self._model, self._graph = model, graph
        schedule = schedule_of(graph)
        self._steps, ranges, self._kinds = schedule.steps, schedule.ranges, schedule.kind_at
        self._encodings = {value: self._rules.encoding(entry) for value, entry in ranges.items()}
        self._own = schedule.own
        self._ranks = schedule.ranks
        self._entries = ranges
        self._small: dict[tuple[int, tuple[tuple[int, ...], ...], tuple[tuple[int, int], ...]], Network] = {}
        self._layers = {k: self._layer(s) for k, s in enumerate(self._steps) if self._kind(s) == "layer"}
        self._unread_after = _unread_after(self._steps, graph)
        self._door = Door(graph, claims_of(model, limits), limits, emulated_call)
        self.float_steps = tuple(
            self._name(s) for s in self._steps if self._kind(s) == "float" and _reads_values(s)
        )
        self.multiplied = tuple(
            self._name(self._steps[k])
            for k, layer in self._layers.items()
            if isinstance(arithmetic, Ternary) and not layer.adds_only
        )

    def __call__(
        self, *arrays: AnyArray, **named: AnyArray
    ) -> AnyArray | tuple[AnyArray, ...] | dict[str, AnyArray]:
        """Run the network; takes and returns what ``Network`` does, and raises as it does."""
        return self._float.returned(self.run(self._float.in_order(arrays, named) if named else arrays))

    def run(self, arrays: tuple[AnyArray, ...]) -> list[AnyArray]:
        """The outputs for inputs in order, as a list in order, whatever the module returns."""
        nothing = self._enter(arrays)
        if nothing is not None:
            return nothing
        values = self._values(arrays, self._unread_after)
        return [_real(values[ref]) for ref in self._graph.outputs]

    def call_memory(self, *shapes: tuple[int, ...]) -> int:
        """About how many bytes one call allocates for inputs of these shapes, estimated from above.

        It is what a call is held to: ``Limits.call_memory``.
        """
        return self._door.call_memory(shapes)

    def trace(self, *arrays: AnyArray) -> dict[int, Value]:
        """Every value of the graph by its id: integers with their encoding, or float32 (and index) arrays."""
        if self._enter(arrays) is not None:
            raise InputError("an input is empty: there are no values to show. Cure: give at least one sample")
        return self._values(arrays, {})

    def _enter(self, arrays: tuple[AnyArray, ...]) -> list[AnyArray] | None:
        """None when a call may run; its outputs when they are empty. Raises as a call does."""
        self._float.check_inputs(*arrays)
        return self._door.enter([a.shape for a in arrays])

    def _values(
        self, arrays: tuple[AnyArray, ...], unread_after: Mapping[int, Sequence[int]]
    ) -> dict[int, Value]:
        """The values of the graph by id; those that no step reads after a step are dropped there."""
        values: dict[int, Value] = {}
        for k, (spec, array) in enumerate(zip(self.inputs, arrays, strict=True)):
            if k in self._own and bool(np.isnan(array).any()):
                raise InputError(
                    f"input {spec.name or k!r} holds NaN, for which no integer stands. Cure: replace it "
                    "before the call"
                )
            values[k] = self._kept(k, array)
        free = (
            size
            for spec, array in zip(self.inputs, arrays, strict=True)
            for size, dim in zip(array.shape, spec.shape, strict=True)
            if dim is None
        )
        batch = next(free, 1)
        for k, step in enumerate(self._steps):
            with at(f"emulating {self._name(step)}"):
                for value, result in zip(step.outputs, self._run(k, step, values, batch), strict=True):
                    values[value] = self._kept(value, result)
            for value in unread_after.get(k, ()):
                del values[value]
        return values

    def _kept(self, value: int, result: Value) -> Value:
        """A value as other steps read it: in integers where it has a range of its own."""
        if isinstance(result, Quantised) or value not in self._own:
            return result
        if result.dtype != np.float32:
            raise CorruptFileError(f"value {value} is {result.dtype} and has an activation range")
        return self._encodings[value].encode(result)

    # --- what a step is, and what it is called ---------------------------------------------------

    def _kind(self, step: Step) -> Kind:
        return self._kinds[step.outputs[0]]

    def _name(self, step: Step) -> str:
        """The operation and its weight, or the value it gives."""
        weights = [ref for ref in step.node.inputs[1:] if ref is not None and ref < 0]
        tensor = f"{self._model.tensor(weights[0]).name!r}" if weights else f"(value {step.outputs[0]})"
        return f"{step.node.op} {tensor}"

    def _layer(self, step: Step) -> _Layer:
        source = step.node.inputs[0] or 0
        weights = integer_layer(step, self._model.tensors, self._entries[source].scale)
        return _Layer(weights, isinstance(self.arithmetic, Ternary) and weights.is_ternary)

    # --- running -----------------------------------------------------------------------------------

    def _run(self, index: int, step: Step, values: dict[int, Value], batch: int) -> tuple[Value, ...]:
        kind = self._kind(step)
        given = [values[ref] for ref in step.node.inputs if ref is not None and ref >= 0]
        integers = [x for x in given if isinstance(x, Quantised)]
        if kind == "layer":
            return (self._run_layer(self._layers[index], step, integers[0]),)
        if kind == "join":
            return (self._run_join(step, integers),)
        if kind == "average":
            if step.node.op == "mean":
                return (kernels.mean(integers[0], step.node, self._rules),)
            return (kernels.average(integers[0], step.node),)
        if kind == "move":
            sizes = [_real(x) for x in given[1:]]
            moved = self._run_float(index, step, [integers[0].centred.astype(np.float32), *sizes], batch)[0]
            whole = moved.astype(np.int64) + integers[0].encoding.zero_point
            return (Quantised(whole, integers[0].encoding),)
        return self._run_float(index, step, [_real(x) for x in given], batch)

    def _run_layer(self, layer: _Layer, step: Step, x: Quantised) -> Quantised:
        """Sums, bias, multiplier, zero point, saturation: the whole of an integer layer."""
        out, weights = self._encodings[step.outputs[0]], layer.weights
        if step.node.op == "conv":
            sums = kernels.conv_sums(x.centred, weights.weight, step.node, layer.adds_only)
            shape = (1, -1, *(1,) * (sums.ndim - 2))
        elif step.node.op == "conv_transpose":
            sums = kernels.conv_transpose_sums(x.centred, weights.weight, step.node, layer.adds_only)
            shape = (1, -1, *(1,) * (sums.ndim - 2))
        else:
            sums = kernels.linear_sums(x.centred, weights.weight, layer.adds_only)
            shape = (-1,)
        bias = weights.bias_integers(x.encoding.scale, self._rules.bias_bits)
        sums = kernels.check_sums(sums + bias.reshape(shape), self._rules.sum_bits)
        real = x.encoding.scale * weights.scales.astype(np.float64) / out.scale
        result = self._rules.requantised(sums, quantize_multiplier(real).reshape(*shape))
        return _saturated(result + out.zero_point, out, step.activation)

    def _run_join(self, step: Step, given: list[Quantised]) -> Quantised:
        out = self._encodings[step.outputs[0]]
        if step.node.op == "add":
            return _saturated(kernels.add(given[0], given[1], out, self._rules), out, step.activation)
        parts = [out.saturate(kernels.rescale(x, out, self._rules)) for x in given]
        axis = step.node.attrs.get("axis", 1)
        return Quantised(np.concatenate(parts, int(axis)), out)  # type: ignore[arg-type]

    def _run_float(self, index: int, step: Step, given: list[AnyArray], batch: int) -> tuple[AnyArray, ...]:
        """The step's nodes in float32, as a network of their own (kept for the next call of these shapes)."""
        sizes = _sizes_among(step.node, given)
        key = (index, tuple(x.shape for x in given), tuple(sizes.items()))
        if key not in self._small:
            if len(self._small) >= _REMEMBERED:
                self._small.clear()
            self._small[key] = Network.from_packed(self._alone(step, given, batch, sizes), 1)
        return tuple(self._small[key].run(tuple(given)))

    def _alone(self, step: Step, given: list[AnyArray], batch: int, sizes: Mapping[int, int]) -> PackedModel:
        """A model of one step: its values become the inputs, sizes among them numbers, its tensors stay."""
        tensors = [RawTensor(f"size/{k}", np.asarray(size, np.int64)) for k, size in sizes.items()]
        places = {k: tensor_ref(len(self._model.tensors) + place) for place, k in enumerate(sizes)}
        nodes: list[Node] = []
        n, count = len(given), len(given)
        for node in (step.node, step.norm, step.activation):
            if node is None:
                continue
            fresh = iter([places.get(k, k) for k in range(n)])
            refs = tuple(ref if ref is None or ref < 0 else next(fresh) for ref in node.inputs)
            if nodes:
                refs = (count, *node.inputs[1:])
                count += 1
            nodes.append(replace(_sized(node, batch), inputs=refs))
        outputs = tuple(range(count, count + len(step.outputs)))
        specs = tuple(ValueSpec(str(x.dtype), x.shape) for x in given)
        return PackedModel((*self._model.tensors, *tensors), Graph(specs, tuple(nodes), outputs))


def _unread_after(steps: tuple[Step, ...], graph: Graph) -> dict[int, list[int]]:
    """For each step, the values that no later step reads and the network does not return."""
    last: dict[int, int] = {}
    for k, step in enumerate(steps):
        last.update(dict.fromkeys(step.outputs, k))
        last.update((ref, k) for ref in step.node.inputs if ref is not None and ref >= 0)
    found: dict[int, list[int]] = {}
    for value in last.keys() - set(graph.outputs):
        found.setdefault(last[value], []).append(value)
    return found


def _sizes_among(node: Node, given: list[AnyArray]) -> dict[int, int]:
    """Which of a node's values are read as sizes, and what they are: shapes must be known before it runs."""
    if node.op == "arange":
        return {0: int(given[0])} if given else {}
    if node.op not in SIZED:
        return {}
    return {k: int(x) for k, x in enumerate(given) if k > 0 or (node.inputs[0] or 0) < 0}


def _sized(node: Node, batch: int) -> Node:
    """A node that expands to the inputs' free size, with that size filled in."""
    if node.op != "expand":
        return node
    shape = tuple(batch if size == -1 else size for size in ints_of(node, "shape"))
    return replace(node, attrs={**node.attrs, "shape": shape})


def _reads_values(step: Step) -> bool:
    return any(ref is not None and ref >= 0 for ref in step.node.inputs)


def _real(x: Value) -> AnyArray:
    return x.values() if isinstance(x, Quantised) else x


def _saturated(integers: AnyArray, out: Encoding, activation: Node | None) -> Quantised:
    """Clamp to the output's type and to the activation that is folded in."""
    low: int | None = None
    high: int | None = None
    if activation is not None and activation.op == "relu":
        low = out.zero_point
    elif activation is not None:
        low = out.integer(float_of(activation, "low")) if "low" in activation.attrs else None
        high = out.integer(float_of(activation, "high")) if "high" in activation.attrs else None
    return Quantised(out.saturate(integers, low, high), out)
