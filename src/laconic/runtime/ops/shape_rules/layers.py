"""Shape rules of layers: linear, convolutions, normalisations, pooling, recurrent layers, attention."""

from __future__ import annotations

from laconic.pack.graph.ops import flag_of, int_of, ints_of
from laconic.records import Node
from laconic.runtime.ops.onnx_forms.layers import both_ends, spread
from laconic.runtime.ops.shape_rules.arithmetic import product
from laconic.runtime.ops.shape_rules.common import (
    Given,
    Rule,
    Shape,
    broadcast,
    filled,
    optional,
    present,
    replaced,
    require,
)

LARGEST = 2**31 - 1
"""Strides, kernels, paddings and such: what the runtime's kernels count in 32 bits stays below this."""


def _positive(values: list[int], what: str) -> list[int]:
    require(all(0 < v <= LARGEST for v in values), f"{what} {tuple(values)} must be in 1..{LARGEST}")
    return values


def _not_negative(values: list[int], what: str) -> list[int]:
    require(all(0 <= v <= LARGEST for v in values), f"{what} {tuple(values)} must be in 0..{LARGEST}")
    return values


def _linear(node: Node, given: Given) -> tuple[Shape, ...]:
    weight, bias = filled(present(given, 1)), optional(given, 2)
    require(len(weight) == 2, f"a weight of shape {weight} is no matrix")
    y = product(filled(present(given, 0)), weight[::-1])
    return (y if bias is None else broadcast(y, bias),)


class _Window:
    """Stride, dilation and padding of a convolution over a kernel's axes."""

    def __init__(self, node: Node, given: Given) -> None:
        x, weight = filled(present(given, 0)), filled(present(given, 1))
        n = len(weight) - 2
        require(n >= 1 and len(x) == len(weight), f"a kernel of shape {weight} cannot run over {x}")
        self.x, self.weight, self.n, self.kernel = x, weight, n, weight[2:]
        self.groups = int_of(node, "groups")
        self.stride = _positive(spread(ints_of(node, "stride"), n), "stride")
        self.dilation = _positive(spread(ints_of(node, "dilation"), n), "dilation")
        pads = _not_negative(both_ends(ints_of(node, "padding"), n), "padding")
        self.pads = [a + b for a, b in zip(pads[:n], pads[n:], strict=True)]
        self.reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]

    def result(self, channels: int, sizes: list[int], bias: Shape | None) -> tuple[Shape, ...]:
        """Batch, channels and sizes, once all are right."""
        require(min(sizes) > 0, f"a kernel of shape {self.kernel} finds no place in {self.x}")
        require(bias is None or bias == (channels,), f"a bias of shape {bias} is not for {channels} channels")
        return ((self.x[0], channels, *sizes),)


def _conv(node: Node, given: Given) -> tuple[Shape, ...]:
    w = _Window(node, given)
    fits = w.x[1] == w.weight[1] * w.groups and w.weight[0] % w.groups == 0
    require(fits, f"a weight of shape {w.weight} in {w.groups} groups is not for {w.x[1]} channels")
    sizes = [(s + p - r) // t + 1 for s, p, r, t in zip(w.x[2:], w.pads, w.reach, w.stride, strict=True)]
    return w.result(w.weight[0], sizes, optional(given, 2))


def _conv_transpose(node: Node, given: Given) -> tuple[Shape, ...]:
    w = _Window(node, given)
    extra = _not_negative(spread(ints_of(node, "output_padding"), w.n), "output_padding")
    inside = all(e < t for e, t in zip(extra, w.stride, strict=True))
    require(inside, f"an output padding of {extra} reaches beyond a stride of {w.stride}")
    fits = w.x[1] == w.weight[0] and w.weight[0] % w.groups == 0
    require(fits, f"a weight of shape {w.weight} in {w.groups} groups is not for {w.x[1]} channels")
    sizes = [
        t * (s - 1) + r - p + e
        for s, p, r, t, e in zip(w.x[2:], w.pads, w.reach, w.stride, extra, strict=True)
    ]
    return w.result(w.weight[1] * w.groups, sizes, optional(given, 2))


def _batch_norm(node: Node, given: Given) -> tuple[Shape, ...]:
    x = filled(present(given, 0))
    require(len(x) >= 2, f"a value of shape {x} has no channels")
    for k in range(1, 5):
        found = optional(given, k)
        absent = found is None and k < 3
        require(absent or found == (x[1],), f"moments of shape {found} are not for {x[1]} channels")
    return (x,)


def _layer_norm(node: Node, given: Given) -> tuple[Shape, ...]:
    x, dims = filled(present(given, 0)), int_of(node, "dims")
    require(dims <= len(x), f"a value of shape {x} has no {dims} dimensions to normalise")
    for k in (1, 2):
        found = optional(given, k)
        require(found is None or found == x[-dims:], f"a weight of shape {found} is not for {x[-dims:]}")
    return (x,)


def _group_norm(node: Node, given: Given) -> tuple[Shape, ...]:
    x, groups = filled(present(given, 0)), int_of(node, "groups")
    fits = len(x) == int_of(node, "rank") and len(x) >= 2 and x[1] % groups == 0
    require(fits, f"a value of shape {x} has no {groups} groups of channels")
    for k in (1, 2):
        found = optional(given, k)
        require(found is None or found == (x[1],), f"a weight of shape {found} is not for {x[1]} channels")
    return (x,)


def _pool(node: Node, given: Given) -> tuple[Shape, ...]:
    """Windows over the last axes; with ``ceil`` also one that ends outside, but none that begins there."""
    x, n = filled(present(given, 0)), int_of(node, "rank")
    require(len(x) == n + 2 and n < 4, f"a value of shape {x} has no {n} of one to three axes to pool")
    kernel = _positive(spread(ints_of(node, "kernel"), n), "kernel")
    stride = _positive(spread(ints_of(node, "stride") or kernel, n), "stride")
    dilation = [1] * n
    if node.op == "max_pool":
        dilation = _positive(spread(ints_of(node, "dilation"), n), "dilation")
    pads = _not_negative(both_ends(ints_of(node, "padding"), n), "padding")
    sizes = []
    for axis, size in enumerate(x[2:]):
        before, after, step = pads[axis], pads[n + axis], stride[axis]
        require(max(before, after) < kernel[axis], f"a padding of {pads} hides a kernel of {kernel}")
        room = size + before + after - dilation[axis] * (kernel[axis] - 1) - 1
        count = (-(-room // step) if flag_of(node, "ceil") else room // step) + 1
        if flag_of(node, "ceil") and (count - 1) * step >= size + before:
            count -= 1
        require(room >= 0 and count > 0, f"a kernel of {kernel} finds no place in {x}")
        sizes.append(count)
    return ((*x[:2], *sizes),)


def _global(node: Node, given: Given) -> tuple[Shape, ...]:
    x = filled(present(given, 0))
    require(2 < len(x) < 6, f"a value of shape {x} has no one to three axes to pool behind its channels")
    return ((*x[:2], *(1,) * (len(x) - 2)),)


def _embedding(node: Node, given: Given) -> tuple[Shape, ...]:
    weight = filled(present(given, 1))
    require(len(weight) >= 1, "the weights have no rows")
    return ((*present(given, 0), *weight[1:]),)


def _prelu(node: Node, given: Given) -> tuple[Shape, ...]:
    x, slope = present(given, 0), present(given, 1)
    count, rank = (slope[0] if len(slope) == 1 else 1), int_of(node, "rank")
    by_channel = len(x) >= 2 and rank == len(x) and count == x[1]
    lines_up = by_channel or count == 1 and max(1, rank - 1) <= max(1, len(x))
    require(len(slope) <= 1 and lines_up, f"slopes of shape {slope} are not for {x}")
    return (x,)


GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def _recurrent(node: Node, given: Given) -> tuple[Shape, ...]:
    """Output, last states; no size may be 0, which ends the process in the runtime's kernels."""
    x, gates, states = filled(present(given, 0)), GATES[node.op], 2 if node.op == "lstm" else 1
    require(len(x) == 3, f"a sequence has three dimensions, this value {x}")
    layers, directions = int_of(node, "layers"), 2 if flag_of(node, "bidirectional") else 1
    projected = node.op == "lstm" and flag_of(node, "projected")
    plain = 2 if flag_of(node, "no_bias") else 4
    each = plain + projected
    require(len(given) == 1 + states + layers * directions * each, "the number of its tensors does not fit")
    batch = x[1] if flag_of(node, "time_major") else x[0]
    recurrent = filled(present(given, 2 + states))
    require(len(recurrent) == 2, f"recurrent weights of shape {recurrent} are no matrix")
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


def _sdpa(node: Node, given: Given) -> tuple[Shape, ...]:
    query, key, value = (filled(present(given, k)) for k in range(3))
    rank = int_of(node, "rank")
    require(len(query) == len(key) == rank, f"queries {query} and keys {key} must have {rank} dimensions")
    scores = product(query, (*key[:-2], key[-1], key[-2]))
    mask = optional(given, 3)
    if mask is not None:
        scores = broadcast(scores, mask)
    return (product(scores, value),)


LAYER_RULES: dict[str, Rule] = {
    "linear": _linear,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "max_pool": _pool,
    "avg_pool": _pool,
    "global_avg_pool": _global,
    "global_max_pool": _global,
    "embedding": _embedding,
    "prelu": _prelu,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn": _recurrent,
    "sdpa": _sdpa,
}
