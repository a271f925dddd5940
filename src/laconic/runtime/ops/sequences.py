"""Layers over sequences: LSTM, GRU, plain RNN, and scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import attr, flag_of, float_of, int_of
from laconic.records import AnyArray, Node
from laconic.runtime.ops.arithmetic import product
from laconic.runtime.ops.row import Emitter, Op, Takes, plain
from laconic.runtime.ops.shape_rules import (
    Given,
    Shape,
    broadcast,
    filled,
    optional,
    present,
    replaced,
    require,
)

if TYPE_CHECKING:
    from laconic.runtime.onnx_model.builder import Builder
    from laconic.runtime.onnx_model.protos import OnnxAttr

# PyTorch stacks gates as (i, f, g, o) and (r, z, n); ONNX as (i, o, f, c) and (z, r, h)
_LSTM_ORDER, _GRU_ORDER, _RNN_ORDER = (0, 3, 1, 2), (1, 0, 2), (0,)


def _reorder(array: AnyArray, order: Sequence[int]) -> AnyArray:
    """Permute the blocks of gates that lie stacked along the first axis."""
    if array.ndim == 0 or array.shape[0] % len(order):
        raise CorruptFileError(f"recurrent weights of shape {array.shape} do not hold {len(order)} gates")
    gates = np.split(array, len(order))
    return np.concatenate([gates[k] for k in order])


def _weights(
    b: Builder, names: Sequence[str], order: Sequence[int], has_bias: bool, projections: Sequence[str]
) -> tuple[str, str, str]:
    """ONNX' W, R and B of one layer (all directions) from PyTorch's tensors of that layer, made once.

    A projected LSTM feeds back h = P m, m being what an LSTM without projection puts out. As W_hh h is
    (W_hh P) m, it is one without projection whose recurrent weights are W_hh P, and P of what that puts out.
    """
    step = 4 if has_bias else 2
    per_direction = [names[k : k + step] for k in range(0, len(names), step)]
    key: tuple[str | int | bool, ...] = ("recurrent", *order, has_bias, *names, "", *projections)
    if key not in b.made:
        b.made[key] = _stacked(b, per_direction, order, step, projections)
    w, r, bias = b.made[key]
    return w, r, bias


def _stacked(
    b: Builder,
    per_direction: Sequence[Sequence[str]],
    order: Sequence[int],
    step: int,
    projections: Sequence[str],
) -> tuple[str, str, str]:
    stacks = [np.stack([_reorder(b.array(d[k]), order) for d in per_direction]) for k in range(step)]
    if projections:
        stacks[1] = np.matmul(stacks[1], np.stack([b.array(p) for p in projections]))
    bias = b.constant(np.concatenate(stacks[2:], axis=1)) if step == 4 else ""
    return b.constant(stacks[0]), b.constant(stacks[1]), bias


def _without_projections(names: Sequence[str], directions: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A layer's tensors without the projections, and the projections, each direction's last tensor."""
    step = len(names) // directions
    ends = tuple(names[step - 1 :: step])
    return tuple(name for k, name in enumerate(names) if (k + 1) % step), ends


def _projected(b: Builder, out: tuple[str, ...], projections: Sequence[str]) -> tuple[str, ...]:
    """Outputs (time, direction, batch, hidden) and final state times each direction's projection."""
    matrices = np.stack([np.ascontiguousarray(b.array(p).T) for p in projections])
    matrix = b.constant(matrices)
    return (b.op("MatMul", out[0], matrix), b.op("MatMul", out[1], matrix), *out[2:])


def _state(b: Builder, name: str, layer: int, directions: int, layers: int) -> str:
    """The rows of an initial state (layers * directions, batch, hidden) that belong to one layer."""
    if not name or layers == 1:
        return name
    start, end = b.ints((layer * directions,)), b.ints(((layer + 1) * directions,))
    return b.op("Slice", name, start, end, b.ints((0,)))


def _recurrent_form(kind: str, order: Sequence[int], n_states: int) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        layers, both = int_of(node, "layers"), flag_of(node, "bidirectional")
        directions = 2 if both else 1
        has_bias = not flag_of(node, "no_bias")
        projected = node.op == "lstm" and flag_of(node, "projected")
        tensors = x[1 + n_states :]
        per_layer = directions * ((4 if has_bias else 2) + projected)
        if len(tensors) != layers * per_layer or not all(tensors):
            raise CorruptFileError(f"{node.op} of {layers} layers needs {layers * per_layer} tensors")
        attrs = _recurrent_attrs(
            node, b, tensors[per_layer // directions - 1 if projected else 1], directions
        )
        major = flag_of(node, "time_major")
        value = x[0] if major else b.op("Transpose", x[0], perm=(1, 0, 2))
        last: list[tuple[str, ...]] = []
        for layer in range(layers):
            own = tensors[layer * per_layer : (layer + 1) * per_layer]
            own, projections = _without_projections(own, directions) if projected else (own, own[:0])
            w, r, bias = _weights(b, own, order, has_bias, projections)
            states = [_state(b, name, layer, directions, layers) for name in x[1 : 1 + n_states]]
            out = b.ops(kind, 1 + n_states, value, w, r, bias, "", *states, **attrs)
            if projections:
                out = _projected(b, out, projections)
            # (time, direction, batch, hidden) -> (time, batch, direction * hidden)
            value = b.op("Reshape", b.op("Transpose", out[0], perm=(0, 2, 1, 3)), b.ints((0, 0, -1)))
            last.append(out[1:])
        y = value if major else b.op("Transpose", value, perm=(1, 0, 2))
        finals = [b.op("Concat", *(s[k] for s in last), axis=0) for k in range(n_states)]
        return (y, *finals)

    return emit


def _recurrent_attrs(node: Node, b: Builder, recurrent_weight: str, directions: int) -> dict[str, OnnxAttr]:
    hidden = b.array(recurrent_weight)
    if hidden.ndim != 2:
        raise CorruptFileError(f"recurrent weights must have rank 2, got shape {hidden.shape}")
    attrs: dict[str, OnnxAttr] = {"hidden_size": hidden.shape[1]}
    attrs["direction"] = "bidirectional" if directions == 2 else "forward"
    if node.op == "gru":
        attrs["linear_before_reset"] = 1  # the bias of the new gate sits inside the reset, as in PyTorch
    if node.op == "rnn":
        attrs["activations"] = ["Relu" if flag_of(node, "relu") else "Tanh"] * directions
    return attrs


def _sdpa_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """softmax(q k^T * scale + mask) v, zeros for a row of -inf; scale is 1 / sqrt(width of q) by default."""
    rank = int_of(node, "rank")
    swap = (*range(rank - 2), rank - 1, rank - 2)
    scores = b.op("MatMul", x[0], b.op("Transpose", x[1], perm=swap))
    if attr(node, "scale") is None:
        width = b.op("Cast", b.op("Shape", x[0], start=rank - 1, end=rank), to=1)
        scores = b.op("Div", scores, b.op("Sqrt", width))
    else:
        scores = b.op("Mul", scores, b.scalar(float_of(node, "scale")))
    if flag_of(node, "causal"):
        full = b.op("Expand", b.scalar(-math.inf), b.op("Shape", scores))
        above = b.op("Trilu", full, b.constant(np.asarray(1, dtype=np.int64)), upper=1)
        scores = b.op("Add", scores, above)
    if len(x) < 4 or not x[3]:
        return (b.op("MatMul", b.op("Softmax", scores, axis=-1), x[2]),)
    scores = b.op("Add", scores, x[3])
    # a query whose keys are all masked gives zeros; a plain softmax would give NaN
    best = b.op("ReduceMax", scores, b.ints((-1,)), keepdims=1)
    masked = b.op("Equal", best, b.scalar(-math.inf))
    shares = b.op("Where", masked, b.scalar(0.0), b.op("Softmax", scores, axis=-1))
    return (b.op("MatMul", shares, x[2]),)


GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def _recurrent_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    """Output, last states; no size may be 0, at which the runtime's kernels abort the process."""
    x, gates, states = filled(present(given, 0)), GATES[node.op], 2 if node.op == "lstm" else 1
    require(len(x) == 3, f"a sequence has three dimensions, this value {x}")
    layers, directions = int_of(node, "layers"), 2 if flag_of(node, "bidirectional") else 1
    projected = node.op == "lstm" and flag_of(node, "projected")
    plain = 2 if flag_of(node, "no_bias") else 4
    each = plain + projected
    require(len(given) == 1 + states + layers * directions * each, "the number of its tensors does not fit")
    batch = x[1] if flag_of(node, "time_major") else x[0]
    recurrent = filled(present(given, 2 + states))
    require(len(recurrent) == 2, f"recurrent weights of shape {recurrent} are not a matrix")
    width, out = x[2], recurrent[1]
    hidden = recurrent[0] // gates if projected else out
    last = ((layers * directions, batch, out), (layers * directions, batch, hidden))[:states]
    for k in range(1, 1 + states):
        found = optional(given, k)
        wanted_state = None if projected else last[k - 1]
        require(found in (None, wanted_state), f"an initial state has shape {found}, not {wanted_state}")
    for layer in range(layers):
        for direction in range(directions):
            start = 1 + states + (layer * directions + direction) * each
            rows = gates * hidden
            wanted = ((rows, width), (rows, out), (rows,), (rows,))[:plain] + ((out, hidden),) * projected
            for k, shape in enumerate(wanted):
                found = present(given, start + k)
                require(found == shape, f"layer {layer} has a tensor of shape {found}, not {shape}")
        width = directions * out
    return (replaced(x, 2, width), *last)


def _sdpa_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    query, key, value = (filled(present(given, k)) for k in range(3))
    rank = int_of(node, "rank")
    require(len(query) == len(key) == rank, f"queries {query} and keys {key} must have {rank} dimensions")
    scores = product(query, (*key[:-2], key[-1], key[-2]))
    mask = optional(given, 3)
    if mask is not None:
        scores = broadcast(scores, mask)
    return (product(scores, value),)


ROWS: dict[str, Op] = {
    "lstm": plain(_recurrent_form("LSTM", _LSTM_ORDER, 2), _recurrent_shape, Takes("reals"), "recurrent"),
    "gru": plain(_recurrent_form("GRU", _GRU_ORDER, 1), _recurrent_shape, Takes("reals"), "recurrent"),
    "rnn": plain(_recurrent_form("RNN", _RNN_ORDER, 1), _recurrent_shape, Takes("reals"), "recurrent"),
    "sdpa": plain(_sdpa_form, _sdpa_shape, Takes("reals", alike=(0, 1, 2)), "attention"),
}
