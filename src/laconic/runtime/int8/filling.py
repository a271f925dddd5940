"""Pads channels with zeros, so that an int8 network runs in ONNX Runtime's fast kernels.

ONNX Runtime has an int8 convolution that reads the image in place. It needs input channels in multiples of 4,
and output channels in multiples of 4 that are at least 16. For other counts ONNX Runtime copies the windows
first (im2col), which takes 1.2 to 1.8 times as long (AVX-512 with VNNI, ONNX Runtime 1.32). A filter of zeros
makes a channel of zeros, and the next layer multiplies that channel by zeros, so all sums stay the same
integers. Pruned networks often have other counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from laconic.pack.graph.ops import flag_of, int_of, ints_of, text_of
from laconic.records import Graph, Node, Tensor, tensor_index
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.schedule import Schedule
from laconic.runtime.ops.moves import pads_of
from laconic.runtime.ops.row import Channels as Role
from laconic.runtime.ops.row import Int8
from laconic.runtime.ops.table import row_of

_MULTIPLE, _MIN_CHANNELS = 4, 16
_PADDED_FROM = 5  # channels; fewer are not padded to 16


@dataclass(frozen=True)
class Channels:
    """A value's own number of channels, and the number with channels of zeros."""

    own: int
    filled: int

    @property
    def extra(self) -> int:
        """Channels of zeros."""
        return self.filled - self.own


def filled_channels(graph: Graph, schedule: Schedule, tensors: Sequence[Tensor]) -> Mapping[int, Channels]:
    """The values of images (N, C, H, W), or flattened ones, whose channels are padded with zeros.

    Values with the same channels (the operands of a sum, say) are padded alike. None of them is padded where
    one is an output, or is read by a step whose result would depend on the zeros.
    """
    plan = _Groups({})
    for k, spec in enumerate(graph.inputs):
        channels = spec.shape[1] if len(spec.shape) == 4 else None
        if channels is not None and k in schedule.ranges:
            plan.channels[k] = channels
    of_inputs = set(plan.channels)
    for step, kind in zip(schedule.steps, schedule.kinds, strict=True):
        plan.take(step, kind, tensors)
    plan.fixed.update(graph.outputs)
    groups: dict[int, list[int]] = {}
    for value in plan.channels:
        groups.setdefault(plan.root(value), []).append(value)
    found: dict[int, Channels] = {}
    for members in groups.values():
        own = plan.channels[members[0]]
        filled = _target(own, not of_inputs.isdisjoint(members))
        if filled > own and plan.fixed.isdisjoint(members):
            found.update((value, Channels(own, filled)) for value in members)
    return found


def integer_pads(
    graph: Graph, schedule: Schedule, channels: Mapping[int, Channels], read: Collection[int]
) -> dict[int, Sequence[int]]:
    """The values that are an integer value with zeros around it, and these pads in ONNX' order.

    They are inputs with the channels that their readers need, and zero padding between integer values of
    known rank.

    Args:
        graph: A graph with activation ranges.
        schedule: Its schedule.
        channels: What :func:`filled_channels` found.
        read: The values with a range that a node reads.
    """
    extra = {value: found.extra for value, found in channels.items()}
    pads: dict[int, Sequence[int]] = {
        k: (0, 0, 0, 0, 0, extra[k], 0, 0) for k in range(len(graph.inputs)) if k in read and extra.get(k)
    }
    for step, kind in zip(schedule.steps, schedule.kinds, strict=True):
        source, out = step.node.inputs[0], step.outputs[0]
        if source is None or source not in read or out not in read:
            continue
        rank = schedule.ranks.get(source)
        if kind != "move" or step.node.op != "pad" or rank is None:
            continue
        given, mode = ints_of(step.node, "pads"), text_of(step.node, "mode")
        if len(given) % 2 or len(given) > 2 * rank or mode != "constant":
            continue
        around = pads_of(given, rank)
        change = extra.get(out, 0) - extra.get(source, 0)
        if change:
            around[rank + 1] += change
        pads[out] = around
    return pads


def _target(own: int, is_input: bool) -> int:
    """A multiple of 4, and at least 16 from 5 channels on; of the network's inputs a multiple of 4 or one."""
    if is_input and own < 2:
        return own
    return max(-(-own // _MULTIPLE) * _MULTIPLE, _MIN_CHANNELS if own >= _PADDED_FROM and not is_input else 0)


@dataclass
class _Groups:
    """Which values have the same channels (union-find), and which must not be padded (``fixed``)."""

    channels: dict[int, int]
    fixed: set[int] = field(default_factory=set)
    flat: set[int] = field(default_factory=set)
    _parents: dict[int, int] = field(default_factory=dict)

    def root(self, value: int) -> int:
        """The representative of the values with the same channels as this one."""
        while value in self._parents:
            value = self._parents[value]
        return value

    def take(self, step: Step, kind: Int8, tensors: Sequence[Tensor]) -> None:
        """Note what a step does to channels; its inputs are fixed unless it keeps channels apart."""
        refs = [ref for ref in step.node.inputs if ref is not None and ref >= 0]
        known = bool(refs) and all(ref in self.channels for ref in refs)
        if not (known and self._takes(step, kind, tensors, refs)):
            self.fixed.update(refs)
        if kind == "layer" and step.node.op == "conv" and int_of(step.node, "groups") == 1:
            weight = _weight(step.node, tensors)
            if len(weight.shape) == 4:
                self.channels[step.outputs[0]] = weight.shape[0]

    def _takes(self, step: Step, kind: Int8, tensors: Sequence[Tensor], refs: Sequence[int]) -> bool:
        node, out, source = step.node, step.outputs[0], refs[0]
        own, flat = self.channels[source], source in self.flat
        if kind == "layer":
            columns = _weight(node, tensors).shape[1]
            if node.op == "linear":
                return flat and columns % own == 0
            return node.op == "conv" and int_of(node, "groups") == 1 and columns == own and not flat
        role = row_of(node.op).channels
        if kind == "join":
            same = len({(self.channels[ref], ref in self.flat) for ref in refs}) == 1
            return role == "added" and same and self._join(out, refs, flat)
        if kind not in ("move", "average"):
            return False
        if role == "padded" and len(ints_of(node, "pads")) == 6 and not flat:
            around = ints_of(node, "pads")[4:]
            self.channels[out] = own + sum(around)
            return min(around) >= 0 and text_of(node, "mode") == "constant"
        if role == "averaged":
            spatial = not flat and set(ints_of(node, "dims")) in ({2, 3}, {-1, -2})
            return spatial and self._join(out, refs, flat=not flag_of(node, "keepdim"))
        if role == "flattened":
            return _flattens(node) and self._join(out, refs, flat=True)
        return (role == "kept" or not flat and _is_spatial(node, role)) and self._join(out, refs, flat)

    def _join(self, out: int, refs: Sequence[int], flat: bool) -> bool:
        self.channels[out] = self.channels[refs[0]]
        self.flat.update((out,) if flat else ())
        for ref in refs:
            a, b = self.root(ref), self.root(out)
            if a != b:
                self._parents[a] = b
        return True


def _weight(node: Node, tensors: Sequence[Tensor]) -> Tensor:
    """The stored weight of a layer."""
    return tensors[tensor_index(node.inputs[1] or -1)]


def _flattens(node: Node) -> bool:
    """Whether channels and spatial axes become one axis behind the batch."""
    if "shape" in node.attrs:
        return ints_of(node, "shape") == (0, -1)
    return node.op == "flatten" and int_of(node, "axis") == 1


def _is_spatial(node: Node, role: Role) -> bool:
    """Whether only spatial axes are cut or padded."""
    if role == "sliced":
        return int_of(node, "axis") in (2, 3, -1, -2)
    return role == "padded" and len(ints_of(node, "pads")) <= 4
