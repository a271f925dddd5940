"""Our shape rules against the runtime: what they accept runs, with the shape and type that they say."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import OPS, make_node
from laconic.records import Attr, Graph, Node, PackedModel, RawTensor, ValueSpec
from laconic.runtime import Network
from laconic.runtime.graph.shapes import follow, input_shapes, tried_inputs, walk
from laconic.runtime.graph.types import value_types

F32 = np.float32
TRIES = 60
LEAST = 8
"""Of so many random nodes of an operation, so many at least must fit."""


def _shape(rng: np.random.Generator, low: int = 1, high: int = 4) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(1, 6, rng.integers(low, high + 1)))


def _ints(rng: np.random.Generator, low: int, high: int, most: int = 3) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(low, high, rng.integers(1, most + 1)))


def _flag(rng: np.random.Generator) -> bool:
    return bool(rng.integers(0, 2))


Case = tuple[list[tuple[int, ...]], list[tuple[int, ...]], dict[str, Attr]]
"""Shapes of values, shapes of tensors behind them, attributes."""


def _convolution(op: str, rng: np.random.Generator) -> Case:
    axes, groups = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    x = (2, 4, *(int(n) for n in rng.integers(4, 9, axes)))
    outer, inner = (4, 4 // groups) if op == "conv" else (4, 3)
    weight = (outer, inner, *(int(n) for n in rng.integers(1, 4, axes)))
    attrs: dict[str, Attr] = {
        "stride": _ints(rng, 1, 4, 1),
        "padding": _ints(rng, 0, 3, 2 * axes),
        "dilation": _ints(rng, 1, 3, 1),
        "groups": groups,
    }
    if op == "conv_transpose":
        attrs["output_padding"] = (int(rng.integers(0, 2)),)
    bias = weight[0] if op == "conv" else weight[1] * groups
    return [x], [weight, (bias,)], attrs


def _pooling(op: str, rng: np.random.Generator) -> Case:
    axes = int(rng.integers(1, 3))
    attrs: dict[str, Attr] = {
        "kernel": _ints(rng, 1, 5, 1),
        "stride": _ints(rng, 1, 4, 1) if _flag(rng) else (),
        "padding": _ints(rng, 0, 3, 2 * axes),
        "ceil": _flag(rng),
        "rank": axes,
    }
    attrs.update({"dilation": _ints(rng, 1, 3, 1)} if op == "max_pool" else {"exclude_pad": _flag(rng)})
    return [(2, 3, *(int(n) for n in rng.integers(3, 12, axes)))], [], attrs


def _recurrent(op: str, rng: np.random.Generator) -> Case:
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[op]
    layers, both, no_bias = int(rng.integers(1, 3)), _flag(rng), _flag(rng)
    projected = op == "lstm" and _flag(rng)
    width, hidden, tensors = 3, 4, []
    out = 2 if projected else hidden
    for layer in range(layers):
        for _ in range(1 + both):
            inner = width if layer == 0 else out * (1 + both)
            tensors += [(gates * hidden, inner), (gates * hidden, out)]
            tensors += [] if no_bias else [(gates * hidden,), (gates * hidden,)]
            tensors += [(out, hidden)] if projected else []
    attrs: dict[str, Attr] = {
        "layers": layers,
        "bidirectional": both,
        "time_major": _flag(rng),
        "no_bias": no_bias,
        **({"projected": True} if projected else {}),
    }
    return [(4, 5, width)], tensors, attrs


def _normalisation(op: str, rng: np.random.Generator) -> Case:
    x = (2, 4, *_shape(rng, 0, 2))
    if op == "batch_norm":
        return [x], [(4,)] * 4, {}
    if op == "group_norm":
        return [x], [(4,)] * int(rng.integers(0, 3)), {"groups": int(rng.integers(1, 5)), "rank": len(x)}
    dims = int(rng.integers(1, len(x) + 1))
    return [x], [x[-dims:]] * int(rng.integers(0, 3)), {"dims": dims}


def _attention(op: str, rng: np.random.Generator) -> Case:
    head = _shape(rng, 0, 2)
    n, m, width = (int(k) for k in rng.integers(1, 5, 3))
    mask = [(n, m)] if _flag(rng) else []
    attrs: dict[str, Attr] = {"rank": len(head) + 2, "causal": _flag(rng)}
    return [(*head, n, width), (*head, m, width), (*head, m, 3), *mask], [], attrs


def _equation(op: str, rng: np.random.Generator) -> Case:
    sizes = dict(zip("abcd", (2, 3, 4, 5), strict=True))
    terms = [
        "".join(rng.choice(list("abcd"), rng.integers(1, 4), replace=False))
        for _ in range(rng.integers(1, 4))
    ]
    letters = sorted(set("".join(terms)))
    out = "".join(rng.permutation(letters)[: rng.integers(0, len(letters) + 1)])
    dots = "..." if _flag(rng) else ""
    shapes = [(*((7,) if dots else ()), *(sizes[k] for k in term)) for term in terms]
    text = ",".join(dots + term for term in terms) + ("->" + dots + out if _flag(rng) or dots else "")
    return shapes, [], {"equation": text}


def _moves(op: str, rng: np.random.Generator) -> Case:
    x = _shape(rng)
    axis = int(rng.integers(-len(x), len(x)))
    match op:
        case "permute":
            return [x], [], {"perm": tuple(int(k) for k in rng.permutation(len(x)))}
        case "reshape":
            shape = [int(k) for k in rng.permutation(x)]
            if _flag(rng):
                shape[int(rng.integers(len(shape)))] = -1
            return [x], [], {"shape": (0, *shape[1:]) if _flag(rng) else tuple(shape)}
        case "unsqueeze":
            return [x], [], {"dims": _ints(rng, -3, 4, 2)}
        case "squeeze":
            return [(1, *x, 1)], [], {"dims": ((0,), (-1,), (0, -1))[int(rng.integers(3))]}
        case "slice":
            start, end = (int(k) for k in rng.integers(-7, 8, 2))
            step = int(rng.choice([1, 2, 3, -1, -2]))
            return [x], [], {"axis": axis, "start": start, "end": end, "step": step}
        case "select":
            return [x], [], {"axis": axis, "index": int(rng.integers(-3, 3))}
        case "concat":
            other = list(x)
            other[axis] = 2
            return [x, tuple(other), x], [], {"axis": axis}
        case "stack":
            return [x, x], [], {"axis": int(rng.integers(-len(x) - 1, len(x) + 1))}
        case "expand":
            return [tuple(n if _flag(rng) else 1 for n in x)], [], {"shape": (2, *x) if _flag(rng) else x}
        case "tile":
            return [x], [], {"repeats": tuple(int(n) for n in rng.integers(1, 4, len(x)))}
        case "pad":
            pads = tuple(int(n) for n in rng.integers(-2, 4, 2 * int(rng.integers(1, len(x) + 1))))
            return [x], [], {"pads": pads, "mode": str(rng.choice(["constant", "reflect", "edge", "wrap"]))}
        case "resize":
            size = _ints(rng, 1, 9, 2)
            image = (1, 2, *(3,) * len(size))
            return (
                [image],
                [],
                {"size": size, "mode": str(rng.choice(["nearest", "linear"])), "align": _flag(rng)},
            )
        case "pixel_shuffle":
            return [(1, 4 * int(rng.integers(1, 4)), 2, 3)], [], {"factor": int(rng.integers(1, 3))}
    return [x], [], {"axis": axis}


def _searching(op: str, rng: np.random.Generator) -> Case:
    x = _shape(rng)
    axis = int(rng.integers(-len(x), len(x)))
    if op == "topk":
        return [x], [], {"axis": axis, "k": int(rng.integers(1, 6)), "smallest": _flag(rng)}
    if op == "grid_sample":
        axes = int(rng.integers(2, 4))
        image, grid = (2, 3, *(int(n) for n in rng.integers(1, 6, axes))), (2, *(4,) * axes, axes)
        mode = str(rng.choice(["linear", "nearest", "cubic"]))
        padding = str(rng.choice(["zeros", "border", "reflection"]))
        return [image, grid], [], {"mode": mode, "padding": padding, "align": _flag(rng)}
    if op == "fold":
        size, kernel = _ints(rng, 1, 8, 1) * 2, _ints(rng, 1, 4, 1) * 2
        stride, padding = int(rng.integers(1, 3)), int(rng.integers(0, 3))
        places = ((size[0] + 2 * padding - kernel[0]) // stride + 1) ** 2
        attrs: dict[str, Attr] = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (1, 1)}
        return [(2, 3 * kernel[0] ** 2, places)], [], {"size": size, "kernel": kernel, **attrs}
    return [x, x], [], {}


def _other(op: str, rng: np.random.Generator) -> Case:
    x = _shape(rng)
    match op:
        case "linear":
            return [(*x[:-1], 3)], [(4, 3), (4,)][: int(rng.integers(1, 3))], {}
        case "prelu":
            slope = (x[1],) if len(x) > 1 and _flag(rng) else (1,)
            return [x], [slope], {"rank": len(x)}
        case "matmul":
            head = _shape(rng, 0, 2)
            return [(*head, 2, 3), (*head[1:], 3, 4) if _flag(rng) else (3,)], [], {}
        case "global_avg_pool" | "global_max_pool":
            return [(2, 3, *x[:3])], [], {}
        case "where":
            return [x, tuple(1 if _flag(rng) else n for n in x), x], [], {}
        case "argmax" | "argmin" | "softmax" | "log_softmax" | "cumsum" | "flatten":
            keep: dict[str, Attr] = {"keepdim": _flag(rng)} if op.startswith("arg") else {}
            return [x], [], {"axis": int(rng.integers(-len(x), len(x))), **keep}
        case "clamp":
            return [x], [], {"low": 0.0}
    spec = next(spec for spec in OPS if spec.name == op)
    if any(a.name == "scalar" for a in spec.attrs):
        other = tuple(1 if _flag(rng) else n for n in x)[int(rng.integers(0, len(x))) :]
        alone = _flag(rng) and op not in _BOOLEAN
        return ([x], [], {"scalar": 2.0}) if alone else ([x, other], [], {"reverse": _flag(rng)})
    if any(a.name == "keepdim" for a in spec.attrs):
        dims = _ints(rng, -len(x), len(x), 2) if _flag(rng) else ()
        return [x], [], {"dims": dims, "keepdim": _flag(rng)}
    return [x], [], {}


_MAKERS = {
    **dict.fromkeys(("conv", "conv_transpose"), _convolution),
    **dict.fromkeys(("max_pool", "avg_pool"), _pooling),
    **dict.fromkeys(("lstm", "gru", "rnn"), _recurrent),
    **dict.fromkeys(("batch_norm", "group_norm", "layer_norm"), _normalisation),
    **dict.fromkeys(("topk", "grid_sample", "fold", "floor_divide", "remainder"), _searching),
    "sdpa": _attention,
    "einsum": _equation,
    **dict.fromkeys(
        ("permute", "reshape", "unsqueeze", "squeeze", "slice", "select", "concat", "stack", "expand", "tile",
         "pad", "resize", "pixel_shuffle"),
        _moves,
    ),
}  # fmt: skip
_INDEXED = ("embedding", "take", "gather", "cast", "identity", "scatter", "arange")
_WHOLE = ("floor_divide", "remainder")
_BOOLEAN = ("logical_and", "logical_or", "logical_not", "where")


def _model(op: str, rng: np.random.Generator) -> PackedModel:
    """One node of an operation on float32 values, or booleans where it takes them."""
    shapes, tensors, attrs = _MAKERS.get(op, _other)(op, rng)
    kinds = [
        "bool" if op in _BOOLEAN and (k == 0 or op != "where") else "int64" if op in _WHOLE else "float32"
        for k in range(len(shapes))
    ]
    refs: list[int | None] = [*range(len(shapes))]
    refs += [None] * {"lstm": 2, "gru": 1, "rnn": 1}.get(op, 0)
    refs += [-1 - k for k in range(len(tensors))]
    node = make_node(op, tuple(refs), **attrs)
    specs = tuple(ValueSpec(kind, shape) for kind, shape in zip(kinds, shapes, strict=True))
    count = len(specs)
    raw = tuple(RawTensor(f"t{k}", np.ones(shape, F32)) for k, shape in enumerate(tensors))
    return PackedModel(raw, Graph(specs, (node,), tuple(range(count, count + node.n_outputs))))


def _checked(model: PackedModel) -> bool:
    """Whether our rules accept the graph; then the runtime gives what they say."""
    graph = model.graph or Graph((), (), ())
    try:
        shapes = follow(graph, [t.values().shape for t in model.tensors], input_shapes(graph, 1))
    except CorruptFileError:
        return False
    types = value_types(graph, [str(t.values().dtype) for t in model.tensors])
    feed = [np.ones(spec.shape, spec.dtype) for spec in graph.inputs]  # type: ignore[arg-type]
    result = Network.from_packed(model, threads=1, engine="onnxruntime")(*feed)
    found = result if isinstance(result, tuple) else (result,)
    said = [(shapes[ref], types[ref]) for ref in graph.outputs]
    assert [(y.shape, str(y.dtype)) for y in found] == said, graph
    return True


@pytest.mark.parametrize("op", [spec.name for spec in OPS if spec.name not in _INDEXED])
def test_what_a_rule_accepts_runs_at_that_shape(op: str) -> None:
    rng = np.random.default_rng(sum(map(ord, op)))
    fitting = sum(_checked(_model(op, rng)) for _ in range(TRIES if op in _MAKERS else TRIES // 4))
    assert fitting >= LEAST


@pytest.mark.parametrize(
    ("node", "shapes", "kind"),
    [
        (Node("embedding", (0, -1)), (2, 5), "int64"),
        (Node("take", (-1, 0), {"axis": 1}), (2, 5), "int64"),
        (Node("take", (-1, 0), {"axis": -2}), (), "int64"),
        (Node("gather", (-1, 0), {"axis": 0}), (5, 2), "int64"),
        (Node("gather", (-1, 0), {"axis": 1}), (1, 9), "int64"),
        (Node("cast", (0,), {"to": "uint8"}), (2, 5), "float32"),
        (Node("identity", (0,)), (2, 5), "bool"),
        (Node("scatter", (-1, 0, -1), {"axis": 0}), (3, 4), "int64"),
        (Node("scatter", (-1, 0, -1), {"axis": 1, "reduce": "add"}), (3, 4), "int64"),
    ],
)
def test_indices_and_types(node: Node, shapes: tuple[int, ...], kind: str) -> None:
    table = RawTensor("w", np.ones((3, 4), F32))
    graph = Graph((ValueSpec(kind, shapes),), (node,), (1,))
    assert _checked(PackedModel((table,), graph))


NUMBERS = (RawTensor("three", np.asarray(3, np.int64)), RawTensor("minus", np.asarray(-7, np.int64)))
_COMPUTED = [
    ((Node("mul", (1, -1)), Node("expand", (-3, 2), {"shape": (-2, 4)})), (12, 4)),
    ((Node("remainder", (-2, 1)), Node("slice", (0, 2, None), {"axis": 1, "end": 5})), (4, 4)),
    ((Node("floor_divide", (-2, -1)), Node("slice", (0, None, 2))), (4, 2)),
    ((Node("sub", (-1, 1), {"reverse": True}), Node("arange", (2,))), (1,)),
    ((Node("sub", (-1, 1)), Node("arange", (2,))), (0,)),
    ((Node("maximum", (-1, 1)), Node("reshape", (0, 2), {"shape": (-2, -1)})), (4, 5)),
    ((Node("minimum", (-1, 1)), Node("resize", (-4, 2, -1), {"size": (-2, -2)})), (1, 1, 3, 3)),
]


@pytest.mark.parametrize(("nodes", "shape"), _COMPUTED)
def test_numbers_made_of_sizes_are_those_of_the_runtime(
    nodes: tuple[Node, Node], shape: tuple[int, ...]
) -> None:
    tensors = (
        *NUMBERS,
        RawTensor("row", np.ones((1, 4), F32)),
        RawTensor("image", np.ones((1, 1, 2, 2), F32)),
    )
    graph = Graph((ValueSpec("float32", (None, 5)),), (Node("size", (0,), {"axis": 0}), *nodes), (1, 2, 3))
    numbers = {-1: 3, -2: -7}
    found = walk(graph, [t.values().shape for t in tensors], [(4, 5)], numbers)
    size, number, y = Network.from_packed(PackedModel(tensors, graph))(np.ones((4, 5), F32))
    assert (int(size), int(number)) == (4, found.numbers[2])
    assert y.shape == found.shapes[3] == shape


def test_a_size_that_is_no_number_of_sizes_is_refused() -> None:
    specs = (ValueSpec("float32", (None, 5)), ValueSpec("int64", ()))
    graph = Graph(specs, (Node("reshape", (0, 1), {"shape": (-2, -1)}),), (2,))
    with pytest.raises(CorruptFileError, match="reshape.*not computed from the inputs' sizes"):
        follow(graph, [], [(4, 5), ()])


def test_axes_of_several_names_are_tried_apart() -> None:
    specs = (ValueSpec("float32", (None, None), "", ("batch", "time")),)
    nodes = (Node("linear", (0, -1)),)
    shapes = list(tried_inputs(Graph(specs, nodes, (1,))))
    assert [(1, 1)] in shapes and [(64, 64)] in shapes and [(1, 64)] in shapes


def test_whole_quotients_take_whole_numbers() -> None:
    graph = Graph((ValueSpec("float32", (None,)),), (Node("remainder", (0, -1)),), (1,))
    with pytest.raises(CorruptFileError, match="'remainder' takes int64, not float32 and int64"):
        value_types(graph, ["int64"])
