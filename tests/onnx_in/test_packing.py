"""An ONNX file's weights are compressed; the file runs, or gives the ONNX graph back with decoded weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import laconic
from laconic import pack
from laconic.cli import main
from laconic.cli.onnx_files import run_pack_onnx
from laconic.errors import CorruptFileError, InputError, LimitError, WeightsOnlyError
from laconic.onnx_in import pack_onnx
from laconic.records import PackedModel, RawTensor
from laconic.runtime import export_onnx, load
from laconic.runtime.onnx_model.kept import as_bfloat16, keep, restored
from tests.helpers.onnx_files import model, network, node, run, weight, write

_X = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)


def test_the_file_runs_and_is_onnx_again(tmp_path: Path) -> None:
    made = network()
    path = write(tmp_path / "a.onnx", made)
    found = pack_onnx(path, tmp_path / "a.lac", bits=6)
    assert found.runs and found.notes == () and found.tensors == 3 and found.weights == 216 + 512 + 160
    assert found.length == (tmp_path / "a.lac").stat().st_size and found.original == Path(path).stat().st_size
    (wanted,) = run(path, _X)
    net = load(tmp_path / "a.lac")
    assert np.abs(net(x=_X) - wanted).max() < 0.1 * np.abs(wanted).max()
    export_onnx(tmp_path / "a.lac", tmp_path / "b.onnx")
    np.testing.assert_allclose(run(str(tmp_path / "b.onnx"), _X)[0], net(_X), atol=1e-5)
    exact = {t.name: t.values() for t in pack.read(tmp_path / "a.lac").tensors}
    for each in made.graph.initializer:
        if each.name in ("conv.b", "bn.v", "out.b"):
            np.testing.assert_array_equal(exact[each.name], numpy_helper.to_array(each))


def test_a_graph_that_is_kept_differs_in_the_weights_alone(tmp_path: Path) -> None:
    made = network()
    path = write(tmp_path / "a.onnx", made)
    found = pack_onnx(path, tmp_path / "a.lac", step=0.125, keep_graph=True)
    assert not found.runs
    with pytest.raises(WeightsOnlyError, match="keeps an ONNX graph"):
        load(tmp_path / "a.lac")
    export_onnx(tmp_path / "a.lac", tmp_path / "b.onnx")
    back = onnx.load(str(tmp_path / "b.onnx"))
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(back))
    for before, after in zip(made.graph.initializer, back.graph.initializer, strict=True):
        old, new = numpy_helper.to_array(before), numpy_helper.to_array(after)
        if before.name in ("conv.w", "fc.w", "out.w"):
            assert np.abs(old - new).max() <= 2 * 0.125 and (new / 0.125 == np.rint(new / 0.125)).all()
        else:
            np.testing.assert_array_equal(old, new)
    for each in (made, back):
        del each.graph.initializer[:]
    assert made == back


def test_both_ways_compute_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", network())
    pack_onnx(path, tmp_path / "a.lac", step=0.125)
    pack_onnx(path, tmp_path / "k.lac", step=0.125, keep_graph=True)
    export_onnx(tmp_path / "k.lac", tmp_path / "k.onnx")
    np.testing.assert_allclose(run(str(tmp_path / "k.onnx"), _X)[0], load(tmp_path / "a.lac")(_X), atol=1e-5)


def test_an_operator_without_a_rule_is_named(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "a"), node("Det", "a", "y", name="the end")]
    path = write(tmp_path / "a.onnx", model(nodes, {"w": weight(8, 8)}, {"x": (2, 8, 8)}))
    found = pack_onnx(path, tmp_path / "a.lac", bits=5)
    assert not found.runs and "operator Det (node 'the end') has no rule" in found.notes[0]
    export_onnx(tmp_path / "a.lac", tmp_path / "b.onnx")
    x = np.random.default_rng(0).standard_normal((2, 8, 8)).astype(np.float32)
    assert run(str(tmp_path / "b.onnx"), x)[0].shape == (2,)


@pytest.mark.parametrize("bits", [2.0, 3.5, 6.0])
def test_bits_are_those_of_the_file(tmp_path: Path, bits: float) -> None:
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "a v", "y")]
    arrays = {"w": weight(128, 300), "v": 30 * weight(300, 100)}
    path = write(tmp_path / "a.onnx", model(nodes, arrays, {"x": ("n", 128)}))
    assert abs(pack_onnx(path, tmp_path / "a.lac", bits=bits).bits - bits) < 0.06 * bits


def test_weights_of_sixteen_bits_and_of_doubles(tmp_path: Path) -> None:
    half = numpy_helper.from_array(weight(8, 8).astype(np.float16), "h")
    brain = helper.make_tensor(
        "b", TensorProto.BFLOAT16, [8, 8], as_bfloat16(weight(8, 8)).tobytes(), raw=True
    )
    double = numpy_helper.from_array(weight(8, 8).astype(np.float64), "d")
    nodes = [
        node("Cast", "h", "h32", to=1),
        node("Cast", "b", "b32", to=1),
        node("Cast", "d", "d32", to=1),
        node("MatMul", "x h32", "p"),
        node("MatMul", "p b32", "q"),
        node("MatMul", "q d32", "y"),
    ]
    path = write(tmp_path / "a.onnx", model(nodes, {"h": half, "b": brain, "d": double}, {"x": ("n", 8)}))
    found = pack_onnx(path, tmp_path / "a.lac", bits=8, keep_graph=True)
    assert found.tensors == 3
    export_onnx(tmp_path / "a.lac", tmp_path / "b.onnx")
    back = {t.name: t for t in onnx.load(str(tmp_path / "b.onnx")).graph.initializer}
    assert [back[n].data_type for n in "hbd"] == [10, 16, 11]
    x = np.eye(8, dtype=np.float32)
    np.testing.assert_allclose(run(str(tmp_path / "b.onnx"), x)[0], run(path, x)[0], atol=0.05)


def test_entries_that_are_listed_one_by_one(tmp_path: Path) -> None:
    values = weight(8, 8)
    listed = helper.make_tensor("w", TensorProto.FLOAT, [8, 8], values.reshape(-1).tolist())
    assert not listed.raw_data
    path = write(tmp_path / "a.onnx", model([node("MatMul", "x w")], {"w": listed}, {"x": ("n", 8)}))
    pack_onnx(path, tmp_path / "a.lac", step=1e-3)
    np.testing.assert_allclose(load(tmp_path / "a.lac")(np.eye(8, dtype=np.float32)), values, atol=2e-3)


def test_entries_in_another_file_come_into_the_kept_graph(tmp_path: Path) -> None:
    made = network()
    whole = made.SerializeToString()
    onnx.save(made, tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=16)
    for keep_graph in (False, True):
        found = pack_onnx(tmp_path / "a.onnx", tmp_path / "a.lac", step=0.01, keep_graph=keep_graph)
        assert found.original == sum((tmp_path / n).stat().st_size for n in ("a.onnx", "a.data"))
        export_onnx(tmp_path / "a.lac", tmp_path / "b.onnx")
        (tmp_path / "alone").mkdir(exist_ok=True)
        alone = (tmp_path / "b.onnx").rename(tmp_path / "alone" / "b.onnx")
        np.testing.assert_allclose(run(str(alone), _X)[0], run(whole, _X)[0], atol=0.2)


def test_what_is_kept_stays_exact(tmp_path: Path) -> None:
    made = network()
    path = write(tmp_path / "a.onnx", made)
    found = pack_onnx(path, tmp_path / "a.lac", bits=2, keep="fc.w")
    assert found.tensors == 2
    tensors = {t.name: t.values() for t in pack.read(tmp_path / "a.lac").tensors}
    wanted = next(t for t in made.graph.initializer if t.name == "fc.w")
    np.testing.assert_array_equal(tensors["fc.w"], numpy_helper.to_array(wanted))
    with pytest.raises(InputError, match=r"no initialiser is called 'fc.v'. Cure: a name such as fc.w"):
        pack_onnx(path, tmp_path / "a.lac", bits=2, keep=["fc.v"])


def test_an_initialiser_that_is_an_input_is_a_constant(tmp_path: Path) -> None:
    made = network()
    made.graph.input.append(helper.make_tensor_value_info("fc.w", TensorProto.FLOAT, [16, 32]))
    path = write(tmp_path / "a.onnx", made)
    found = pack_onnx(path, tmp_path / "a.lac", bits=6)
    assert found.runs and "'fc.w' is also inputs" in found.notes[0]
    assert [spec.name for spec in load(tmp_path / "a.lac").inputs] == ["x"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.onnx", network())
    assert run_pack_onnx(path, None) == 0
    out = capsys.readouterr().out
    assert "a.lac: " in out and "x smaller than" in out and "it runs: laconic run" in out
    assert run_pack_onnx(path, str(tmp_path / "b.lac"), step=0.1, keep_graph=True) == 0
    assert "note: the ONNX graph is kept, as was asked for" in capsys.readouterr().out
    with pytest.raises(InputError, match="should end in .lac"):
        run_pack_onnx(path, str(tmp_path / "b.onnx"))


def test_verbs_need_no_torch() -> None:
    assert laconic.pack_onnx is pack_onnx


# --- kept models that no writer makes --------------------------------------------------------------


def _kept(data: bytes) -> PackedModel:
    return PackedModel((keep(data),))


def test_files_that_keep_nothing() -> None:
    with pytest.raises(InputError, match="keeps no ONNX model"):
        restored(PackedModel((RawTensor("w", np.ones(3, np.float32)),)))


def test_bytes_that_are_no_stream() -> None:
    for raw in (b"no", keep(network().SerializeToString()).array.tobytes()[:-9]):
        with pytest.raises(CorruptFileError):
            restored(PackedModel((RawTensor("@onnx", np.frombuffer(raw, np.uint8)),)))


def test_a_bomb() -> None:
    with pytest.raises(LimitError, match="has more than"):
        restored(_kept(bytes(2**26 + 2**23)))


def test_weights_that_do_not_fit() -> None:
    made = network()
    fc = next(t for t in made.graph.initializer if t.name == "fc.w")
    fc.ClearField("raw_data")
    kept = keep(made.SerializeToString())
    good = RawTensor("fc.w", np.zeros((16, 32), np.float32))
    assert restored(PackedModel((good, kept)))
    for bad, message in (
        (RawTensor("fc.w", np.zeros((32, 16), np.float32)), "have shape"),
        (RawTensor("fc.w", np.zeros((16, 32), np.int32)), "no floating-point type"),
        (RawTensor("other", np.zeros((16, 32), np.float32)), "has no place for the weights 'other'"),
    ):
        with pytest.raises(CorruptFileError, match=message):
            restored(PackedModel((bad, kept)))


def test_layers_and_patterns_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", network())
    assert pack_onnx(path, tmp_path / "a.lac", bits=6, keep="f*").weights == 216 + 160
    assert pack_onnx(path, tmp_path / "a.lac", bits=6, keep=["fc", "conv"]).weights == 160
    with pytest.raises(InputError, match="no initialiser is called 'fc.x'. Cure: a name such as fc.w"):
        pack_onnx(path, tmp_path / "a.lac", bits=6, keep="fc.x")


def test_a_file_that_needs_trust_is_named_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.onnx", network())
    run_pack_onnx(path, str(tmp_path / "a.lac"), 6)
    assert "--trusted" not in capsys.readouterr().out
    monkeypatch.setattr("laconic.onnx_in.packing.loading_note", lambda path: "much memory")
    run_pack_onnx(path, str(tmp_path / "a.lac"), 6)
    said = capsys.readouterr().out
    assert f"it runs: laconic run {tmp_path / 'a.lac'} x.npy --trusted" in said
    assert f"laconic export {tmp_path / 'a.lac'} model.onnx --trusted" in said


def test_weights_inside_the_graph_are_named_and_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A weight of an operator that is not folded; a listing does not count the graph's bytes as weights."""
    joined = [node("Concat", "h k", "c", axis=1), node("Tanh", "c", "w")]
    calls = [*joined, node("MatMul", "x w", "z"), node("MatMul", "z v")]
    arrays = {"h": weight(64, 40), "k": weight(64, 40), "v": weight(80, 8)}
    made = model(calls, arrays, {"x": ["n", 64]})
    path = write(tmp_path / "a.onnx", made)
    found = pack_onnx(path, tmp_path / "a.lac", bits=4, keep_graph=True)
    (note,) = (note for note in found.notes if "not compressed" in note)
    assert note.startswith("20.5 kB of weights are computed with before a layer reads them")
    assert "dynamo=False" in note
    rows = pack.layout((tmp_path / "a.lac").read_bytes())
    assert sum(row.weights for row in rows) == 640
    assert sum(row.bytes for row in rows) == found.length
    assert main(["inspect", str(tmp_path / "a.lac")]) == 0
    said = capsys.readouterr().out
    assert "graph: kept, ONNX without its weights" in said
    assert "smaller than" not in said
