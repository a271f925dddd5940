"""Names of axes, inputs and outputs in the graph section: golden bytes, round trips, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import CorruptFileError, FileFormatError, InputError, LimitError
from laconic.pack.graph.ops import make_node
from laconic.pack.graph.section import decode_graph, encode_graph
from laconic.records import ActivationRange, Graph, ValueSpec
from laconic.records.limits import Limits

PLAIN = "0101" + "00" + "01" + "40" + "00"  # a vector, one relu, the default output; names follow
RELU = (make_node("relu", (0,)),)


def graph(name: str = "", axes: tuple[str, ...] = (), outputs: tuple[str, ...] = (), **more: object) -> Graph:
    return Graph((ValueSpec("float32", (None,), name, axes),), RELU, (1,), output_names=outputs, **more)  # type: ignore[arg-type]


def test_golden_bytes() -> None:
    named = graph("ids", ("time",), ("y",), keyed=True, ranges=(ActivationRange(0, 0.5, -128),))
    data = encode_graph(named)
    assert data.hex() == PLAIN + "000f" + "00" + "0474696d65" + "03696473" + "0179" + "01" + "000000003f80"
    assert decode_graph(data, 0) == named


def test_axes_are_numbered_as_they_come() -> None:
    inputs = (
        ValueSpec("int64", (None, None), axes=("b", "t")),
        ValueSpec("bool", (None, 3, None), axes=("t", "b")),
    )
    named = Graph(inputs, RELU, (2,))
    data = encode_graph(named)
    assert data.hex().endswith("0001" + "00010100" + "0162" + "0174")
    assert decode_graph(data, 0) == named
    assert named.free_axes == ("b", "t") and inputs[1].sizes == ("t", 3, "b")


@pytest.mark.parametrize(
    "plain", [graph(), graph("input"), graph("", ("batch",)), graph("", (), ("output",))]
)
def test_what_is_usual_takes_no_byte(plain: Graph) -> None:
    assert encode_graph(plain).hex() == PLAIN
    assert decode_graph(encode_graph(plain), 0) == graph()
    assert plain.input_names == ("input",) and plain.result_names == ("output",)


def test_several_inputs_and_outputs_without_names_are_numbered() -> None:
    two = Graph((ValueSpec("float32", (3,)), ValueSpec("float32", (3,))), RELU, (2, 0))
    assert two.input_names == ("input_0", "input_1") and two.result_names == ("output_0", "output_1")


NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_names_come_back(data: st.DataObject) -> None:
    axes = data.draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    names = data.draw(st.lists(NAMES, min_size=2, max_size=2, unique=True))
    specs = tuple(
        ValueSpec("float32", (None, 4, None), name, tuple(data.draw(st.sampled_from(axes)) for _ in range(2)))
        for name in names
    )
    outputs = tuple(data.draw(st.lists(NAMES, min_size=2, max_size=2, unique=True)))
    named = Graph(specs, RELU, (2, 0), output_names=outputs, keyed=data.draw(st.booleans()))
    back = decode_graph(encode_graph(named), 0)
    assert [spec.sizes for spec in back.inputs] == [spec.sizes for spec in named.inputs]
    assert (back.input_names, back.result_names, back.keyed) == (tuple(names), outputs, named.keyed)


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        ("0000", "flags 0"),
        ("0010", "flags 16"),
        ("0001" + "01" + "0174", "axis 1 comes before axis 0"),
        ("0002" + "00", "is called ''"),
        ("0002" + "010a", "is called"),
        ("0002" + "01ff", "not UTF-8"),
        ("0002" + "8002" + "61" * 256, "is called"),
        ("0002" + "0178" + "00", "follow its end"),
    ],
)
def test_hostile_names_are_refused(tail: str, text: str) -> None:
    with pytest.raises(CorruptFileError, match=text):
        decode_graph(bytes.fromhex(PLAIN + tail), 0)


def test_names_given_twice_are_refused() -> None:
    both = "020000" + "01" + "40" + "00" + "0002" + "0178" + "0178"
    with pytest.raises(CorruptFileError, match="two of the inputs have one name"):
        decode_graph(bytes.fromhex(both), 0)
    with pytest.raises(CorruptFileError, match="no dimension is free"):
        decode_graph(bytes.fromhex("0100" + "01" + "40" + "00" + "0001"), 0)


def test_every_truncation_is_refused() -> None:
    data = encode_graph(graph("ids", ("time",), ("y",)))
    for end in range(len(PLAIN) // 2 + 1, len(data)):
        with pytest.raises(FileFormatError):
            decode_graph(data[:end], 0)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (graph("a" * 256), "1 to 255 printable bytes"),
        (graph("a\n"), "printable"),
        (graph("x", (), ("a", "b")), "1 outputs and the names"),
    ],
)
def test_the_writer_refuses_names_that_cannot_be(wrong: Graph, text: str) -> None:
    with pytest.raises(InputError, match=text):
        encode_graph(wrong)


def test_axes_must_be_as_many_as_the_free_dimensions() -> None:
    with pytest.raises(InputError, match="cannot name the free dimensions"):
        ValueSpec("float32", (None, 3), "x", ("a", "b"))


def test_named_axes_count_as_nodes_do() -> None:
    """Three axes of three names, where two nodes are allowed."""
    spec = ValueSpec("float32", (None, None, None), "x", ("a", "b", "c"))
    data = encode_graph(Graph((spec,), (make_node("relu", (0,)),), (1,)))
    assert decode_graph(data, 0, Limits(nodes=3)).free_axes == ("a", "b", "c")
    with pytest.raises(LimitError, match="3 named axes of the graph, the limit is 2"):
        decode_graph(encode_graph(Graph((spec,), (), (0,))), 0, Limits(nodes=2))
