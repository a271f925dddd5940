"""ONNX files that no exporter writes: each is refused by one clear error, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from laconic.errors import CorruptFileError, FileFormatError, InputError, LaconicError, TruncatedFileError
from laconic.onnx_in import pack_onnx
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


@pytest.mark.parametrize("given", [{}, {"bits": 4, "step": 0.1}, {"bits": 0}, {"bits": 17}, {"step": -1.0}])
def test_settings(tmp_path: Path, given: dict[str, float]) -> None:
    path = write(tmp_path / "a.onnx", network())
    with pytest.raises(InputError, match="Cure: "):
        pack_onnx(path, tmp_path / "out.lac", **given)


def test_no_file(tmp_path: Path) -> None:
    assert "cannot read" in _refused(tmp_path / "none.onnx")
