"""The graph section: golden bytes, round trips, and refusals."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import CorruptFileError, FileFormatError, InputError, LimitError, TruncatedFileError
from laconic.pack.graph.ops import DTYPES, OPS, AttrSpec, OpSpec, make_node
from laconic.pack.graph.section import decode_graph, encode_graph
from laconic.records import ActivationRange, Attr, Graph, Node, ValueSpec

IMAGE = ValueSpec("float32", (None, 1, 28, 28))


def lenet5() -> Graph:
    nodes = (
        make_node("conv", (0, -1, -2)),
        make_node("max_pool", (1,)),
        make_node("conv", (2, -3, -4)),
        make_node("max_pool", (3,)),
        make_node("flatten", (4,)),
        make_node("linear", (5, -5, -6)),
        make_node("relu", (6,)),
        make_node("linear", (7, -7, -8)),
    )
    return Graph((IMAGE,), nodes, (8,))


def test_lenet5_golden_bytes() -> None:
    data = encode_graph(lenet5())
    # one input: float32 of rank 4, (free, 1, 28, 28); eight nodes of one byte; the default output
    assert data.hex() == "01" + "04" + "00021d1d" + "08" + "0207020711014001" + "00"
    assert decode_graph(data, 8) == lenet5()


def test_codes_and_names_are_unique_and_fit_their_bits() -> None:
    assert len({op.code for op in OPS}) == len({op.name for op in OPS}) == len(OPS)
    assert all(0 < op.code < 128 for op in OPS)
    for op in OPS:
        assert op.least <= len(op.pattern) and (op.most is None or len(op.pattern) <= op.most)
        assert all(a.default is None or a.kind != "choice" or a.default in a.choices for a in op.attrs)


def test_residual_connections_absent_inputs_and_many_outputs() -> None:
    nodes = (
        make_node("conv", (0, -1), padding=(1,), stride=(2, 1)),
        make_node("add", (1, 0)),
        make_node("lstm", (2, None, None, *(-k for k in range(2, 10))), layers=2),
        make_node("concat", (3, 4, 5, 0), axis=-1),
        make_node("pow", (6,), scalar=0.5, reverse=True),
        make_node("clamp", (7,), low=-1.5),
        make_node("einsum", (8, 0), equation="bij,bkj->bik"),
        make_node("pad", (9,), mode="reflect", pads=(0, 3)),
    )
    graph = Graph((IMAGE,), nodes, (10, 3))
    assert decode_graph(encode_graph(graph), 9) == graph


def test_attributes_that_equal_their_default_are_dropped() -> None:
    wordy = Graph((IMAGE,), (Node("conv", (0, -1, -2), {"groups": 1, "stride": (1,)}),), (1,))
    assert encode_graph(wordy) == encode_graph(Graph((IMAGE,), (make_node("conv", (0, -1, -2)),), (1,)))


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (Node("nonsense", (0,)), "no operation is called 'nonsense'"),
        (Node("relu", (0,), {"slope": 1.0}), "no attribute 'slope'"),
        (Node("relu", (1,)), "before it exists"),
        (Node("relu", (0, 0)), "takes 1 to 1 inputs"),
        (Node("relu", (None,)), "no first input"),
        (Node("lstm", (0, None, None, -1, -2), {}, 1), "3 outputs"),
        (Node("elu", (0,), {"alpha": 0.1}), "must be a float32"),
        (Node("elu", (0,), {"alpha": 1e300}), "must be a float32"),
        (Node("conv", (0, -1), {"groups": (1, 2)}), "cannot hold"),
        (Node("cast", (0,), {"to": "complex64"}), "cannot hold"),
        (Node("einsum", (0,), {"equation": "a\0b"}), "cannot hold"),
        (Node("max_pool", (0,), {"rank": 0}), "cannot hold"),
        (Node("permute", (0,), {"perm": (0,) * 33}), "cannot hold"),
    ],
)
def test_the_writer_refuses_what_the_table_does_not_hold(node: Node, text: str) -> None:
    with pytest.raises(InputError, match=text):
        encode_graph(Graph((IMAGE,), (node,), (1,)))


def test_outputs_must_exist() -> None:
    for outputs in ((5,), (), (-1,)):
        with pytest.raises(InputError, match="not all values"):
            encode_graph(Graph((IMAGE,), (make_node("relu", (0,)),), outputs))


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ("", TruncatedFileError, "early"),
        ("ffffffffff7f", TruncatedFileError, "claims"),
        ("0104", TruncatedFileError, "early"),
        ("01f4", CorruptFileError, "no input type"),
        ("0101ffffffffffffffff7f", CorruptFileError, "dimension"),
        ("010100" + "ffffff7f", TruncatedFileError, "claims"),
        ("010100" + "01" + "3f" + "00", CorruptFileError, "no operation has code 63"),
        ("010100" + "01" + "01" + "00", CorruptFileError, "does not exist"),  # a linear layer without tensors
        ("010100" + "01" + "c0" + "04" + "00", CorruptFileError, "attributes that it does not have"),
        ("010100" + "01" + "c0" + "02" + "01" + "06" + "00", CorruptFileError, "values back"),
        ("010100" + "01" + "c0" + "02" + "01" + "00" + "00", CorruptFileError, "no first input"),
        ("010100" + "01" + "c0" + "03" + "05" + "00", CorruptFileError, "claims 5 inputs"),
        ("010100" + "01" + "9d" + "04" + "09" + "00", CorruptFileError, "no choice 9"),
        ("010100" + "01" + "d8" + "04" + "0000c07f" + "00", CorruptFileError, "is NaN"),
        ("010100" + "01" + "a3" + "05" + "03" + "610062" + "00", CorruptFileError, "equation"),
        ("010100" + "01" + "a3" + "05" + "07" + "612d3e622d3e63" + "00", CorruptFileError, "a->b->c"),
        ("010100" + "01" + "a3" + "05" + "02" + "c3a9" + "00", CorruptFileError, "not ASCII"),
        ("010100" + "01" + "87" + "40" + "00" + "00", CorruptFileError, "'rank' is 0"),
        ("010100" + "01" + "85" + "05" + "22" + "00", CorruptFileError, "'dims' is 17"),
        ("010100" + "01" + "86" + "05" + "80a8d6b907" + "00", CorruptFileError, "'groups' is"),
        ("010100" + "01" + "93" + "04" + "21" + "00" * 33 + "00", CorruptFileError, "claims 33 integers"),
        ("010100" + "01" + "40" + "01" + "07", CorruptFileError, "output"),
        ("010100" + "01" + "40" + "00" + "00", CorruptFileError, "follow its end"),
        ("00" + "00" + "00", CorruptFileError, "output"),
    ],
)
def test_the_reader_refuses_what_no_writer_writes(data: str, error: type[FileFormatError], text: str) -> None:
    with pytest.raises(error, match=text):
        decode_graph(bytes.fromhex(data), 0)


def test_all_inputs_of_a_graph_have_a_limit_together() -> None:
    """Nodes in the short form for many tensors claim 4,096 inputs in four bytes each."""
    nodes = tuple(Node("concat", (0, 0, *(-k for k in range(1, 4095)))) for _ in range(2))
    data = bytearray(encode_graph(Graph((IMAGE,), nodes, (1,))))
    assert decode_graph(bytes(data), 9000)
    many = Graph((IMAGE,), tuple(Node("concat", (0, *(-k for k in range(1, 4096)))) for _ in range(65)), (1,))
    with pytest.raises(LimitError, match="over 262144 inputs"):
        decode_graph(encode_graph(many), 9000)


# --- activation ranges ----------------------------------------------------------------------------

RANGED = "0101" + "00" + "01" + "40" + "00"  # a vector, one relu, the default output; ranges follow


def test_ranges_golden_bytes() -> None:
    ranges = (ActivationRange(0, 0.5, -128), ActivationRange(1, 0.25, 3))
    graph = Graph((ValueSpec("float32", (None,)),), (make_node("relu", (0,)),), (1,), ranges)
    data = encode_graph(graph)
    assert data.hex() == RANGED + "02" + "000000003f80" + "000000803e03"
    assert decode_graph(data, 0) == graph
    assert encode_graph(Graph(graph.inputs, graph.nodes, graph.outputs)).hex() == RANGED


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        ("00", "these are no names"),
        ("01", "no 1 activation ranges"),
        ("ffffffff0f", "activation ranges"),
        ("01" + "020000003f00", "is of value 2 of 2"),
        ("02" + "010000003f00" + "000000003f00", "is of value 2 of 2"),
        ("01" + "000000c07f00", "scale nan"),
        ("01" + "00000080ff00", "scale -inf"),
        ("01" + "000000807f00", "scale inf"),
        ("01" + "00000000bf00", "scale -0.5"),
        ("01" + "000000000000", "scale 0.0"),
        ("01" + "000100000000", "scale 1.4"),  # a denormal number
        ("01" + "000000003f00" + "00", "follow its end"),
    ],
)
def test_hostile_ranges_are_refused(tail: str, text: str) -> None:
    with pytest.raises(CorruptFileError, match=text):
        decode_graph(bytes.fromhex(RANGED + tail), 0)


def test_the_writer_refuses_ranges_that_are_none() -> None:
    for scale in (float("nan"), -1.0, 0.0, 2.0**70, 0.1):  # 0.1 is no float32
        with pytest.raises(InputError, match="scale"):
            ActivationRange(0, scale, 0)
    for zero_point in (-129, 128):
        with pytest.raises(InputError, match=rf"zero point {zero_point}; it must be in -128..127"):
            ActivationRange(0, 0.5, zero_point)
    nodes, one = (make_node("relu", (0,)),), ActivationRange(1, 0.5, 0)
    for ranges in ((one, one), (one, ActivationRange(0, 0.5, 0)), (ActivationRange(2, 0.5, 0),)):
        with pytest.raises(InputError, match="Cure: calibrate the network that is saved"):
            encode_graph(Graph((IMAGE,), nodes, (1,), ranges))


def test_every_truncation_is_refused() -> None:
    data = encode_graph(lenet5())
    for end in range(len(data)):
        with pytest.raises(FileFormatError):
            decode_graph(data[:end], 8)


# --- random graphs ------------------------------------------------------------------------------

N_TENSORS = 40
INTEGERS = st.integers(-(2**63), 2**63 - 1)


def attribute(spec: AttrSpec) -> st.SearchStrategy[Attr]:
    match spec.kind:
        case "int":
            return st.integers(spec.least, spec.most)
        case "ints":
            return st.lists(INTEGERS, max_size=5).map(tuple)
        case "float":
            return st.floats(width=32, allow_nan=False)
        case "choice":
            return st.sampled_from(spec.choices)
        case "text":
            return st.sampled_from(["a", "b i j, b k j -> b i k", "...a,Z...->...", ",,", "->", "i...,..."])
        case _:
            return st.just(True)


@st.composite
def a_node(draw: st.DrawFn, spec: OpSpec, values: int) -> Node:
    refs = st.one_of(st.integers(0, values - 1), st.integers(-N_TENSORS, -1), st.none())
    count = draw(st.integers(spec.least, spec.most if spec.most is not None else spec.least + 5))
    first = draw(refs.filter(lambda r: r is not None))
    inputs = (first, *(draw(refs) for _ in range(count - 1)))
    chosen = draw(st.sets(st.sampled_from(spec.attrs))) if spec.attrs else set()
    return make_node(spec.name, inputs, **{a.name: draw(attribute(a)) for a in chosen})


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    sizes = st.one_of(st.none(), st.integers(0, 2**40))
    shapes = st.lists(sizes, max_size=5).map(tuple)
    inputs = tuple(
        ValueSpec(draw(st.sampled_from(DTYPES)), draw(shapes)) for _ in range(draw(st.integers(1, 3)))
    )
    values, nodes = len(inputs), []
    for spec in draw(st.lists(st.sampled_from(OPS), max_size=6)):
        nodes.append(draw(a_node(spec, values)))
        values += spec.n_outputs
    outputs = draw(st.lists(st.integers(0, values - 1), min_size=1, max_size=3))
    ranged = sorted(draw(st.sets(st.integers(0, values - 1), max_size=4)))
    scales = st.floats(2.0**-64, 2.0**64, width=32)
    ranges = tuple(ActivationRange(v, draw(scales), draw(st.integers(-128, 127))) for v in ranged)
    return Graph(inputs, tuple(nodes), tuple(outputs), ranges)


@settings(max_examples=120, deadline=None)
@given(graphs())
def test_any_graph_comes_back(graph: Graph) -> None:
    data = encode_graph(graph)
    assert decode_graph(data, N_TENSORS) == graph
    assert encode_graph(decode_graph(data, N_TENSORS)) == data


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_are_a_graph_or_a_named_error(data: bytes) -> None:
    try:
        graph = decode_graph(data, 3)
    except FileFormatError:
        return
    assert decode_graph(encode_graph(graph), 3).outputs == graph.outputs


@settings(max_examples=150, deadline=None)
@given(graphs(), st.data())
def test_a_flipped_bit_is_a_graph_or_a_named_error(graph: Graph, data: st.DataObject) -> None:
    raw = bytearray(encode_graph(graph))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    try:
        other = decode_graph(bytes(raw), N_TENSORS)
    except FileFormatError:
        return
    assert decode_graph(encode_graph(other), N_TENSORS).outputs == other.outputs
