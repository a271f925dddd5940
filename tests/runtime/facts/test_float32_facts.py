"""Facts of a network: every operation of the closed table has the shape that the runtime gives it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from laconic.cost import count
from laconic.errors import CorruptFileError, InputError, LimitError, WeightsOnlyError
from laconic.pack.graph.ops import OPS, make_node
from laconic.records import AnyArray, Attr, Graph, Node, PackedModel, RawTensor, ValueSpec
from laconic.runtime import Network
from laconic.runtime.facts.float32_facts import network_facts

Shape = tuple[int, ...]
X: Shape = (2, 4, 6, 6)
PLAIN = "relu sigmoid tanh silu selu hardswish hardsigmoid mish softsign exp log sqrt abs neg erf sin cos "
PLAIN += (
    "reciprocal floor ceil round sign gelu elu leaky_relu softplus softmax log_softmax clamp identity cumsum"
)
BINARY = "add sub mul div pow minimum maximum eq ne lt le gt ge"
REDUCTIONS = "mean sum amax amin prod logsumexp"

# operation -> variants: shapes of its inputs, shapes of its tensors, attributes
Case = tuple[list[Shape], list[Shape], dict[str, Attr]]
CASES: dict[str, list[Case]] = {
    **{name: [([X], [], {})] for name in PLAIN.split()},
    **{name: [([X, X], [], {}), ([X], [(6,)], {}), ([X], [], {"scalar": 2.0})] for name in BINARY.split()},
    **{
        name: [([X], [], {"dims": (2, 3)}), ([X], [], {"keepdim": True}), ([X], [], {"dims": ()})]
        for name in REDUCTIONS.split()
    },
    "linear": [([(2, 5)], [(3, 5), (3,)], {}), ([(2, 4, 5)], [(3, 5)], {})],
    "conv": [
        ([X], [(8, 4, 3, 3), (8,)], {"stride": (2,), "padding": (1, 0), "dilation": (2, 1)}),
        ([X], [(4, 1, 3, 3)], {"groups": 4, "padding": (0, 1, 1, 2)}),
        ([(2, 4, 9)], [(3, 4, 3)], {}),
    ],
    "conv_transpose": [([X], [(4, 3, 3, 3)], {"stride": (2,), "output_padding": (1,), "groups": 2})],
    "batch_norm": [([X], [(4,)] * 4, {})],
    "layer_norm": [([X], [(6,), (6,)], {}), ([X], [], {"dims": 2})],
    "group_norm": [([X], [(4,), (4,)], {"groups": 2}), ([X], [], {})],
    "max_pool": [([X], [], {}), ([X], [], {"kernel": (3,), "stride": (2,), "ceil": True, "padding": (1,)})],
    "avg_pool": [([X], [], {}), ([X], [], {"kernel": (3,), "stride": (2,), "ceil": True})],
    "global_avg_pool": [([X], [], {})],
    "global_max_pool": [([X], [], {})],
    "prelu": [([X], [(4,)], {})],
    "sdpa": [([(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)], [], {}), ([X, X, X], [], {"causal": True})],
    "flatten": [([X], [], {}), ([X], [], {"axis": 2})],
    "reshape": [([X], [], {"shape": (0, -1)}), ([X], [], {"shape": (8, 36)})],
    "permute": [([X], [], {"perm": (0, 2, 3, 1)})],
    "unsqueeze": [([X], [], {"dims": (0, 2)})],
    "squeeze": [([(2, 1, 3, 1)], [], {"dims": (1, 3)})],
    "slice": [([X], [], {"start": 1, "step": 2}), ([X], [], {"axis": -1, "start": -3, "end": -1})],
    "select": [([X], [], {"axis": 2, "index": -1})],
    "concat": [([X, X], [], {}), ([X], [(2, 1, 6, 6)], {})],
    "stack": [([X, X], [], {"axis": 0})],
    "expand": [([(2, 1, 6)], [], {"shape": (5, 1, 4, 1)})],
    "tile": [([X], [], {"repeats": (1, 2, 1, 3)})],
    "pad": [([X], [], {}), ([X], [], {"pads": (0, 0, 1, 2, 3, 0), "mode": "edge"})],
    "cast": [([X], [], {"to": "int64"}), ([X], [], {"to": "bool"})],
    "resize": [([X], [], {"size": (12, 9)}), ([X], [], {"size": (3, 3), "mode": "linear", "align": True})],
    "pixel_shuffle": [([X], [], {})],
    "matmul": [([(2, 3, 4), (2, 4, 5)], [], {}), ([(2, 3, 4)], [(4, 5)], {})],
    "einsum": [([(2, 3, 4), (2, 5, 4)], [], {"equation": "bij,b k j->bik"})],
    "argmax": [([X], [], {}), ([X], [], {"axis": 1, "keepdim": True})],
    "argmin": [([X], [], {})],
}


def array(shape: Shape) -> AnyArray:
    return np.random.default_rng(0).uniform(0.1, 1.0, shape).astype(np.float32)


def one_node(op: str, case: Case) -> tuple[PackedModel, list[AnyArray]]:
    shapes, tensors, attrs = case
    inputs = tuple(range(len(shapes))) + tuple(-1 - k for k in range(len(tensors)))
    return _model(make_node(op, inputs, **attrs), [array(s) for s in shapes], [array(s) for s in tensors])


def _model(node: Node, arrays: list[AnyArray], tensors: list[AnyArray]) -> tuple[PackedModel, list[AnyArray]]:
    specs = tuple(ValueSpec(str(a.dtype), (None, *a.shape[1:])) for a in arrays)
    raw = tuple(RawTensor(f"t{k}", a) for k, a in enumerate(tensors))
    outputs = tuple(len(arrays) + k for k in range(node.n_outputs))
    graph = Graph(specs, (node,), outputs)
    return PackedModel(raw, graph), arrays


def counted(x: AnyArray) -> tuple[PackedModel, list[AnyArray]]:
    """0, 1, .. to half the size of the last axis, which a convolution has made."""
    nodes = (
        make_node("conv", (0, -1)),
        make_node("size", (1,), axis=3),
        make_node("floor_divide", (2, -2)),
        make_node("arange", (3,)),
    )
    tensors = (RawTensor("w", array((1, x.shape[1], 3, 3))), RawTensor("two", np.asarray(2, np.int64)))
    spec = ValueSpec("float32", (None, x.shape[1], None, None), "x", ("batch", "height", "width"))
    return PackedModel(tensors, Graph((spec,), nodes, (1, 2, 3, 4))), [x]


def recurrent(
    op: str, gates: int, layers: int, both: bool, major: bool
) -> tuple[PackedModel, list[AnyArray]]:
    ways = 2 if both else 1
    tensors = []
    for layer in range(layers):
        width = 5 if layer == 0 else 3 * ways
        tensors += [array(s) for _ in range(ways) for s in ((gates * 3, width), (gates * 3, 3))]
    states = (None, None) if op == "lstm" else (None,)
    inputs = (0, *states, *(-1 - k for k in range(len(tensors))))
    node = make_node(op, inputs, layers=layers, bidirectional=both, time_major=major, no_bias=True)
    return _model(node, [array((2, 7, 5))], tensors)


def others() -> dict[str, list[tuple[PackedModel, list[AnyArray]]]]:
    """Operations whose inputs are not floats, or that have many tensors."""
    x, index = array(X), np.array([2, 0], np.int64)
    yes, whole = x > 0.5, np.arange(-4, 4).reshape(2, 4)
    return {
        "embedding": [_model(make_node("embedding", (0, -1)), [np.zeros((2, 3), np.int64)], [array((9, 4))])],
        "take": [_model(make_node("take", (0, -1), axis=1), [x], [index])],
        "gather": [_model(make_node("gather", (0, -1)), [x], [np.zeros((2, 3, 6, 6), np.int64)])],
        "where": [_model(make_node("where", (0, 1, -1)), [yes, x], [array((6,))])],
        **{
            f"logical_{k}": [_model(make_node(f"logical_{k}", (0, 1)), [yes, yes], [])] for k in ("and", "or")
        },
        "size": [
            _model(make_node("size", (0,), axis=2), [x], []),
            _model(make_node("size", (0,), axis=-1), [x], []),
        ],
        "arange": [counted(x)],
        **{
            k: [_model(make_node(k, (0, 1)), [whole, whole[:, ::-1]], [])]
            for k in ("floor_divide", "remainder")
        },
        "logical_not": [_model(make_node("logical_not", (0,)), [yes], [])],
        **searches(x),
        "lstm": [recurrent("lstm", 4, 1, False, False), recurrent("lstm", 4, 2, True, True), projected()],
        "gru": [recurrent("gru", 3, 2, True, False)],
        "rnn": [recurrent("rnn", 1, 1, False, True)],
    }


def searches(x: AnyArray) -> dict[str, list[tuple[PackedModel, list[AnyArray]]]]:
    """What looks for places; ``x`` is (2, 4, 6, 6)."""
    grid, places = array((2, 4, 5, 2)), np.zeros((2, 4, 1, 6), np.int64)
    plain = make_node("fold", (0,), size=(3, 4), kernel=(2, 2))
    padded = make_node("fold", (0,), size=(3, 4), kernel=(2, 2), padding=(1, 0))
    cubic = make_node("grid_sample", (0, 1), mode="cubic", padding="border", align=True)
    return {
        "topk": [
            _model(make_node("topk", (0,), k=4), [x], []),
            _model(make_node("topk", (0,), k=2, axis=1, smallest=True), [x], []),
        ],
        "grid_sample": [
            _model(make_node("grid_sample", (0, 1)), [x, grid], []),
            _model(cubic, [x, grid], []),
        ],
        "scatter": [
            _model(make_node("scatter", (0, 1, 2), axis=2), [x, places, x[:, :, :1]], []),
            _model(make_node("scatter", (0, 1, 2), axis=2, reduce="max"), [x, places, x[:, :, :1]], []),
        ],
        "fold": [_model(plain, [array((2, 12, 6))], []), _model(padded, [array((2, 12, 12))], [])],
        "atan": [_model(make_node("atan", (0,)), [x], [])],
    }


def projected() -> tuple[PackedModel, list[AnyArray]]:
    """An LSTM of 4 units, both ways, whose outputs are projected to 2."""
    shapes = [(16, 3), (16, 2), (16,), (16,), (2, 4)] * 2
    tensors = [array(shape) * 0.3 for shape in shapes]
    refs = (0, None, None, *range(-1, -1 - len(tensors), -1))
    return _model(make_node("lstm", refs, bidirectional=True, projected=True), [array((2, 5, 3))], tensors)


ALL = {op: [one_node(op, case) for case in cases] for op, cases in CASES.items()} | others()


def test_the_whole_table_is_here() -> None:
    assert set(ALL) == {spec.name for spec in OPS}


@pytest.mark.parametrize("op", ALL)
def test_facts_are_what_the_runtime_computes(op: str) -> None:
    for model, arrays in ALL[op]:
        facts = network_facts(model, 0, shapes=[a.shape for a in arrays])
        results = Network.from_packed(model, threads=1)(*arrays)
        made = results if isinstance(results, tuple) else (results,)
        assert [(v.shape, v.dtype) for v in facts.values] == [
            (a.shape, str(a.dtype)) for a in (*arrays, *made)
        ]
        cost = count(facts)
        assert min(cost.macs, cost.other_ops, cost.traffic_bytes) >= 0
        assert cost.peak_activation_bytes >= max(a.nbytes for a in (*arrays, *made))


def test_batch_fills_free_dimensions() -> None:
    model, _ = one_node("linear", CASES["linear"][0])
    assert network_facts(model, 0).values[1].shape == (1, 3)
    assert network_facts(model, 0, batch=7).values[1].shape == (7, 3)


def test_expand_to_the_free_size() -> None:
    graph = Graph((ValueSpec("float32", (None, 3)),), (make_node("expand", (-1,), shape=(-1, 5, 1)),), (1,))
    facts = network_facts(PackedModel((RawTensor("t", array((1, 1, 4))),), graph), 0, batch=6)
    assert facts.values[1].shape == (6, 5, 4)
    assert facts.ops[0].folded


def test_attributes_come_with_their_defaults() -> None:
    model, _ = one_node("max_pool", CASES["max_pool"][0])
    assert network_facts(model, 0).ops[0].attrs["kernel"] == (2,)


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ([(1, 4)], "input 0 of the network has shape anyx5, got 1x4. Cure"),
        ([(5,)], "input 0 of the network has shape anyx5, got 5. Cure"),
        ([(0, 5)], "got 0x5. Cure"),
        ([(1, 5), (1, 5)], "takes 1 input, got 2 shapes"),
    ],
)
def test_other_shapes_are_refused(shapes: list[Shape], complaint: str) -> None:
    model, _ = one_node("linear", CASES["linear"][0])
    with pytest.raises(InputError, match=complaint):
        network_facts(model, 0, shapes=shapes)


def test_no_batch_is_refused() -> None:
    model, _ = one_node("linear", CASES["linear"][0])
    with pytest.raises(InputError, match="batch must be at least 1, got 0"):
        network_facts(model, 0, batch=0)


def test_weights_only_has_no_facts() -> None:
    model, _ = one_node("linear", CASES["linear"][0])
    with pytest.raises(WeightsOnlyError, match="cannot be counted. Cure"):
        network_facts(replace(model, graph=None), 0)


def test_ranges_without_end_are_refused_before_they_are_counted() -> None:
    """Each is small beside the limit of one value; together they were 10 GB."""
    nodes, value = [make_node("size", (0,), axis=0)], 1
    nodes += [make_node("arange", (value,)) for _ in range(300)]
    graph = Graph((ValueSpec("float32", (2**22,)),), tuple(nodes), (1,))
    with pytest.raises((LimitError, CorruptFileError)):
        network_facts(PackedModel((), graph), 0)
