"""ONNX files that no exporter writes: each is refused by one clear error, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from laconic.errors import CorruptFileError, FileFormatError, InputError, LaconicError, TruncatedFileError
from laconic.onnx_in import pack_onnx
from laconic.records import AnyArray
from tests.helpers.fresh import run_fresh
from tests.helpers.onnx_files import model, network, node, weight, write


def _refused(path: Path | str, kind: type[LaconicError] = InputError) -> str:
    out = Path(path).parent / "out.lac"
    with pytest.raises(kind) as caught:
        pack_onnx(path, out, bits=4)
    assert not out.exists()
    return str(caught.value)


def _elsewhere(location: str, **more: str) -> ModelProto:
    """A product whose weight is in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8, 8], data_location=1)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return model([node("MatMul", "x w")], {"w": tensor}, {"x": ("n", 8)})


@pytest.mark.parametrize(
    "location",
    [
        "../w.bin",
        "a/../../w.bin",
        "/etc/passwd",
        "..",
        "",
        "C:\\w.bin",
        "..\\w.bin",
        "\\w.bin",
        "a\0b",
        "~/../w",
    ],
)
def test_a_path_that_leaves_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(weight(8, 8).tobytes())
    folder = tmp_path / "net"
    folder.mkdir()
    message = _refused(write(folder / "a.onnx", _elsewhere(location)))
    assert "'w'" in message and "not in the folder" in message and "Cure:" in message


def test_a_link_that_leaves_the_folder(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(weight(8, 8).tobytes())
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "w.bin").symlink_to(tmp_path / "w.bin")
    assert "a link that leads out" in _refused(write(folder / "a.onnx", _elsewhere("w.bin")))
    (folder / "sub").symlink_to(tmp_path)
    assert "a link that leads out" in _refused(write(folder / "a.onnx", _elsewhere("sub/w.bin")))


def test_another_file_that_is_missing_or_no_file(tmp_path: Path) -> None:
    assert "which is missing" in _refused(write(tmp_path / "a.onnx", _elsewhere("w.bin")))
    (tmp_path / "w.bin").mkdir()
    assert "which is missing" in _refused(write(tmp_path / "a.onnx", _elsewhere("w.bin")))


@pytest.mark.parametrize(
    "more", [{"offset": "1"}, {"length": "257"}, {"offset": "9" * 18}, {"offset": "300"}]
)
def test_another_file_that_is_too_short(tmp_path: Path, more: dict[str, str]) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(256))
    path = write(tmp_path / "a.onnx", _elsewhere("w.bin", **{"length": "256", **more}))
    assert "'w'" in _refused(path, TruncatedFileError)


@pytest.mark.parametrize("more", [{"offset": "-1"}, {"length": "1e3"}, {"offset": "9" * 30}, {"length": "²"}])
def test_numbers_that_are_none(tmp_path: Path, more: dict[str, str]) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(256))
    assert "'w' has the" in _refused(
        write(tmp_path / "a.onnx", _elsewhere("w.bin", **more)), CorruptFileError
    )


def test_another_file_of_the_wrong_length(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(300))
    assert "300 bytes, not 256" in _refused(write(tmp_path / "a.onnx", _elsewhere("w.bin")), CorruptFileError)


def test_constants_of_nodes_in_other_files(tmp_path: Path) -> None:
    made = network()
    value = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1], data_location=1)
    value.external_data.add(key="location", value="c.bin")
    made.graph.node.append(helper.make_node("Constant", [], ["c"], value=value))
    assert "constant in the file 'c.bin'" in _refused(write(tmp_path / "a.onnx", made))


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = network().SerializeToString()
    path = tmp_path / "a.onnx"
    for size in [*range(0, 200, 7), *range(200, len(data), 211)]:
        path.write_bytes(data[:size])
        _refused(path, LaconicError)


def test_flipped_bytes_are_refused_or_packed(tmp_path: Path) -> None:
    """Whatever a byte of the structure becomes, no other error comes out."""
    data = network().SerializeToString()
    path, out = tmp_path / "a.onnx", tmp_path / "out.lac"
    generator = np.random.default_rng(0)
    for _ in range(60):
        at, bit = int(generator.integers(0, 900)), int(generator.integers(0, 8))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        try:
            pack_onnx(path, out, step=0.1)
        except LaconicError as error:
            assert str(error)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff" * 40,
        b"\x3a\xff\xff\xff\xff\x0f",
        b"\x3b",
        b"\x80" * 11,
        b"PK\x03\x04",
        b"\x3a\0\x3a\0",
    ],
)
def test_bytes_that_are_no_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(data)
    assert "a.onnx" in _refused(path, FileFormatError)


def _changed(change: Callable[[ModelProto], None]) -> ModelProto:
    made = network()
    change(made)
    return made


def _fc(made: ModelProto) -> TensorProto:
    return next(t for t in made.graph.initializer if t.name == "fc.w")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: _fc(m).dims.__setitem__(0, -16), "has the shape"),
        (lambda m: _fc(m).dims.__setitem__(0, 2**40), "not "),
        (lambda m: _fc(m).dims.__setitem__(0, 15), "2048 bytes, not 1920"),
        (lambda m: setattr(_fc(m), "data_type", 99), "data type 99 is not defined"),
        (lambda m: setattr(_fc(m), "data_type", 0), "data type 0 is not defined"),
        (lambda m: setattr(_fc(m), "name", ""), "one without a name"),
        (lambda m: setattr(_fc(m), "name", "conv.w"), "two initialisers called 'conv.w'"),
        (lambda m: m.graph.node[2].input.__setitem__(0, "nowhere"), "'nowhere' is read before it is made"),
        (lambda m: m.graph.node[2].output.__setitem__(0, "a"), "'a' is made twice"),
        (lambda m: setattr(_fc(m), "data_location", 1), "another file, which is not named"),
    ],
)
def test_contradictions(tmp_path: Path, change: Callable[[ModelProto], None], message: str) -> None:
    assert message in _refused(write(tmp_path / "a.onnx", _changed(change)), CorruptFileError)


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    bad = weight(8, 8)
    bad[3, 3] = np.nan
    path = write(tmp_path / "a.onnx", model([node("MatMul", "x w")], {"w": bad}, {"x": ("n", 8)}))
    assert "initialiser 'w' holds 1 NaN" in _refused(path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(TensorProto.INT8, "int8"), (TensorProto.UINT4, "uint4"), (17, "float8e4m3fn"), (14, "complex64")],
)
def test_types_of_weights_that_are_not_compressed_are_named(tmp_path: Path, kind: int, name: str) -> None:
    tensor = TensorProto(name="w", data_type=kind, dims=[8, 8], raw_data=bytes(64))
    path = write(tmp_path / "a.onnx", model([node("MatMul", "x w")], {"w": tensor}, {"x": ("n", 8)}))
    message = _refused(path)
    assert "no weights of floating-point numbers" in message and name in message


def test_sizes_that_no_machine_has_are_not_tried(tmp_path: Path) -> None:
    for nodes, arrays, shape in (
        ([node("MatMul", "x w")], {}, (2**40, 8)),
        ([node("MatMul", "x w", "m"), node("Expand", "m s")], {"s": np.array([2**36, 2, 8])}, (2, 8)),
    ):
        made = model(nodes, {"w": weight(8, 8), **arrays}, {"x": shape})
        found = pack_onnx(write(tmp_path / "a.onnx", made), tmp_path / "a.lac", bits=4)
        assert not found.runs and found.notes


def test_a_step_that_is_too_small(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", network())
    with pytest.raises(InputError, match="is too small for values"):
        pack_onnx(path, tmp_path / "out.lac", step=1e-12)


def test_a_step_that_leaves_no_weight(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", network())
    with pytest.raises(InputError, match=r"step 1e\+30 rounds all of its weights to zero.* Cure: a smaller"):
        pack_onnx(path, tmp_path / "out.lac", step=1e30)
    assert not (tmp_path / "out.lac").exists()


@pytest.mark.parametrize("given", [{}, {"bits": 4, "step": 0.1}, {"bits": 0}, {"bits": 17}, {"step": -1.0}])
def test_settings(tmp_path: Path, given: dict[str, float]) -> None:
    path = write(tmp_path / "a.onnx", network())
    with pytest.raises(InputError, match="Cure: "):
        pack_onnx(path, tmp_path / "out.lac", **given)


def test_no_file(tmp_path: Path) -> None:
    assert "cannot read" in _refused(tmp_path / "none.onnx")


def _doubled(kind: str, first: str, count: int = 34) -> list[NodeProto]:
    """Nodes of which each doubles what the one before it gives."""
    names = [first, *(f"a{k}" for k in range(count))]
    return [node(kind, f"{a} {a}", b, axis=0) for a, b in pairwise(names)]


@pytest.mark.parametrize(
    ("nodes", "arrays", "said"),
    [
        (_doubled("Concat", "c"), {"c": np.ones(1000, np.float32)}, "constants that are computed of others"),
        (
            [node("Shape", "x", "s"), *_doubled("Concat", "s")],
            {},
            "sizes",
        ),
        (
            [
                node("Gather", "big i", "a0"),
                *(node("Gather", f"a{k} i", f"a{k + 1}", axis=1) for k in range(4)),
            ],
            {"big": np.ones((2, 1), np.float32), "i": np.zeros((1, 1000), np.int64)},
            "constants that are computed of others",
        ),
        (
            [node("ConstantOfShape", "size", f"a{k}") for k in range(50)],
            {"size": np.array([1 << 22], np.int64)},
            "constants that are computed of others",
        ),
    ],
)
def test_a_few_nodes_that_make_huge_constants(
    tmp_path: Path, nodes: list[NodeProto], arrays: dict[str, AnyArray], said: str
) -> None:
    """Their memory is bounded, and the graph is kept."""
    made = model([*nodes, node("MatMul", "x w")], {"w": weight(8, 8), **arrays}, {"x": ("n", 8)})
    path = write(tmp_path / "a.onnx", made)
    source = f"""
import resource
from laconic.onnx_in import pack_onnx
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
print(pack_onnx({str(path)!r}, {str(tmp_path / "a.lac")!r}, bits=4).notes)
"""
    assert said in run_fresh(source)


@pytest.mark.parametrize("location", ["a" * 5000, "/".join(["a"] * 5000), "loop/w"])
def test_another_file_that_no_system_opens(tmp_path: Path, location: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    message = _refused(write(tmp_path / "a.onnx", _elsewhere(location)))
    assert "'w'" in message and "Cure:" in message and len(message) < 600


def test_a_file_that_is_read_is_never_written_over(tmp_path: Path) -> None:
    entries, path = tmp_path / "w.bin", write(tmp_path / "a.onnx", _elsewhere("w.bin"))
    entries.write_bytes(weight(8, 8).tobytes())
    before = {each: each.read_bytes() for each in (entries, Path(path))}
    for out, said in (
        (path, "is the ONNX file that is read"),
        (entries, "the file 'w.bin' that holds entries"),
    ):
        with pytest.raises(InputError, match=said):
            pack_onnx(path, out, bits=4)
    assert before == {each: each.read_bytes() for each in before}


@pytest.mark.parametrize("rate", [{"bits": "3"}, {"bits": True}, {"step": "0.1"}])
def test_rates_that_are_no_numbers(tmp_path: Path, rate: Any) -> None:
    path = write(tmp_path / "a.onnx", network())
    with pytest.raises(InputError, match="must be a number, got .* Cure"):
        pack_onnx(path, tmp_path / "a.lac", **rate)


@pytest.mark.parametrize("rounded", [True, False])
def test_names_that_look_like_those_of_transposed_weights(tmp_path: Path, rounded: bool) -> None:
    """'w' is read both ways, and another initialiser is called 'w.T'."""
    arrays = {"w": weight(16, 16), "w.T": weight(16, 16)}
    nodes = [
        node("MatMul", "x w", "a"),
        node("Gemm", "a w", "b", transB=1),
        node("Gemm", "b w.T", "c", transB=1),
        node("MatMul", "c w.T", "d"),
        node("MatMul", "d v"),
    ]
    made = model(nodes, {**arrays, "v": weight(16, 16)}, {"x": ("n", 16)})
    keep = () if rounded else tuple(arrays)
    found = pack_onnx(write(tmp_path / "a.onnx", made), tmp_path / "a.lac", bits=8, keep=keep)
    assert found.runs, found.notes
