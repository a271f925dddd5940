"""Loading and running without PyTorch, and what wrong arrays and files are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.errors import (
    CorruptFileError,
    FileFormatError,
    InputError,
    LimitError,
    ReadError,
    WeightsOnlyError,
)
from laconic.pack.graph.ops import make_node
from laconic.records import FloatArray, Graph, IntTensor, Node, PackedModel, RawTensor, UniformGrid, ValueSpec
from laconic.runtime import Network, load
from laconic.runtime.onnx_model.builder import Builder
from laconic.runtime.onnx_model.protos import BESIDE_BYTES
from tests.helpers.fresh import run_fresh


def mlp(width: int = 4) -> PackedModel:
    rng = np.random.default_rng(0)
    q = rng.integers(-2, 3, (width, 3)).astype(np.int32)
    tensors = (
        IntTensor("a.weight", q, UniformGrid(0.5)),
        RawTensor("a.bias", rng.standard_normal(width).astype(np.float16)),
    )
    nodes = (make_node("linear", (0, -1, -2)), make_node("relu", (1,)))
    return PackedModel(tensors, Graph((ValueSpec("float32", (None, 3)),), nodes, (2,)))


def by_hand(model: PackedModel, x: FloatArray) -> FloatArray:
    weight, bias = (t.values().astype(np.float32) for t in model.tensors)
    return np.maximum(x @ weight.T + bias, 0)


@pytest.mark.parametrize("width", [4, BESIDE_BYTES])
def test_a_network_computes_what_numpy_computes(width: int) -> None:
    model = mlp(width)  # the second is wide enough for its weights to lie beside the model
    network = Network.from_packed(model, threads=1)
    for batch in (0, 1, 7):
        x = np.random.default_rng(1).standard_normal((batch, 3)).astype(np.float32)
        np.testing.assert_allclose(network(x), by_hand(model, x), rtol=1e-5, atol=1e-6)
    assert network.inputs[0].shape == (None, 3)
    assert (network.outputs, network.nbytes) == (1, 4 * width * 4)


def test_files_and_bytes_are_loaded(tmp_path: Path) -> None:
    pack.write(tmp_path / "m.lac", mlp())
    x = np.ones((2, 3), np.float32)
    wanted = by_hand(mlp(), x)
    for source in (tmp_path / "m.lac", str(tmp_path / "m.lac"), (tmp_path / "m.lac").read_bytes()):
        np.testing.assert_allclose(load(source, threads=1)(x), wanted, rtol=1e-6)
    with pytest.raises(FileFormatError):
        load(b"not a file")
    with pytest.raises(ReadError, match="cannot read .*: No such file or directory. Cure: check the path"):
        load(tmp_path / "none.lac")
    for source in (3, None, bytearray(b"")):
        with pytest.raises(InputError, match="load: .* is no .lac file. Cure: a path, or the file's bytes"):
            load(source)  # type: ignore[call-overload]


def test_limits_are_the_callers() -> None:
    data = pack.encode(mlp())
    assert load(data, limits=pack.Limits(elements=16)).outputs == 1
    with pytest.raises(LimitError, match="claims 16 elements"):
        load(data, limits=pack.Limits(elements=15))


def test_names_of_inputs_give_way_to_tensors() -> None:
    one = np.ones(1, np.float32)
    spec = ValueSpec("float32", (None,))
    b = Builder((RawTensor("input", one), RawTensor("input_1", one), RawTensor("Add/1", one)), (spec,))
    assert b.input_name(0) == "input_"
    assert b.op("Add", "input_", "input_") == "Add/2"
    assert Builder(b.tensors, (spec, spec)).input_name(1) == "input_1_"
    assert Builder((), (spec,)).input_name(0) == "input"


def test_arrays_that_are_not_contiguous() -> None:
    x = np.ones((3, 2), np.float32).T
    np.testing.assert_allclose(Network.from_packed(mlp())(x), by_hand(mlp(), x), rtol=1e-6)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.ones((2, 3)), r"input 0 must be float32, got float64. Cure: x.astype\('float32'\)"),
        (np.ones(3, np.float32), r"input 0 must have shape \(any, 3\), got \(3\). Cure: add the batch"),
        (np.ones((2, 4), np.float32), r"input 0 must have shape \(any, 3\), got \(2, 4\). Cure"),
        (np.ones((2, 3, 1), np.float32), r"got \(2, 3, 1\). Cure"),
        ([[1.0, 2.0, 3.0]], "must be a NumPy array, got list"),
    ],
)
def test_wrong_inputs_are_named(array: FloatArray, text: str) -> None:
    with pytest.raises(InputError, match=text):
        Network.from_packed(mlp())(array)


@pytest.mark.parametrize(
    "nodes", [(), (make_node("flatten", (0,)),), (make_node("relu", (0,)), make_node("relu", (1,)))]
)
def test_results_never_share_the_callers_memory(nodes: tuple[Node, ...]) -> None:
    model = PackedModel((), Graph((ValueSpec("float32", (None, 3)),), nodes, (len(nodes),)))
    network = Network.from_packed(model, threads=1)
    x = np.ones((2, 3), np.float32)
    y = network(x)
    assert isinstance(y, np.ndarray) and not np.shares_memory(x, y)
    y[:] = 7
    assert bool((x == 1).all()) and bool((np.asarray(network(x)) == 1).all())


def test_wrong_numbers_of_inputs_and_threads() -> None:
    with pytest.raises(InputError, match=r"takes 1 input \(input\), got 2. Cure"):
        Network.from_packed(mlp())(np.ones((1, 3), np.float32), np.ones((1, 3), np.float32))
    with pytest.raises(InputError, match="threads must be at least 1"):
        Network.from_packed(mlp(), threads=0)


def test_free_dimensions_must_agree() -> None:
    spec = ValueSpec("float32", (None, 2))
    network = Network.from_packed(PackedModel((), Graph((spec, spec), (make_node("add", (0, 1)),), (2,))))
    with pytest.raises(InputError, match="input 1.*one size for each free axis"):
        network(np.ones((3, 2), np.float32), np.ones((1, 2), np.float32))


def test_an_index_outside_an_embedding() -> None:
    table = RawTensor("t", np.ones((4, 2), np.float32))
    graph = Graph((ValueSpec("int64", (None,)),), (make_node("embedding", (0, -1)),), (1,))
    network = Network.from_packed(PackedModel((table,), graph))
    with pytest.raises(InputError, match="cannot run on these values"):
        network(np.array([9]))


def test_weights_only_files_say_how_to_load_them() -> None:
    with pytest.raises(WeightsOnlyError, match=r"laconic\.restore\(path, into=module\)"):
        Network.from_packed(PackedModel(mlp().tensors))


@pytest.mark.parametrize(
    "nodes",
    [
        (make_node("conv", (0, -1, -2)),),  # a matrix as a kernel
        (make_node("lstm", (0, None, None, -1, -1, -2, -2)),),  # weights that hold no four gates
        (make_node("lstm", (0, None, None, -1, -1)),),
        (make_node("batch_norm", (0, -2, -2, None, -2)),),
        (make_node("linear", (0, None)),),
        (make_node("permute", (0,), perm=(0, 7)),),
        (make_node("max_pool", (0,), kernel=(1, 2, 3)),),
        (make_node("add", (0,)),),
        (make_node("concat", (0, -1), axis=9),),
        (make_node("einsum", (0, -1), equation="->->"),),
    ],
    ids=lambda nodes: nodes[0].op,
)
def test_graphs_that_contradict_their_tensors(nodes: tuple[object, ...]) -> None:
    model = PackedModel(mlp().tensors, Graph(mlp().graph.inputs, nodes, (1,)))  # type: ignore[arg-type,union-attr]
    with pytest.raises(CorruptFileError):
        Network.from_packed(model)


def test_equal_constants_are_stored_once() -> None:
    b = Builder((), ())
    assert b.ints((1, 2)) == b.ints([1, 2]) != b.ints((2, 1))
    assert len(b.initialisers) == 2


def test_a_file_runs_where_there_is_no_torch(tmp_path: Path) -> None:
    pack.write(tmp_path / "m.lac", mlp())
    code = (
        "import numpy as np; from laconic.runtime import load\n"
        f"print(load({str(tmp_path / 'm.lac')!r})(np.ones((2, 3), np.float32)).shape)"
    )
    assert run_fresh(code, without_torch=True) == "(2, 4)\n"


def test_a_network_says_what_it_is() -> None:
    graph = Graph((ValueSpec("float32", (None, 3)),), (make_node("linear", (0, -1)),), (1,))
    tensor = IntTensor("fc", np.ones((2, 3), np.int32), UniformGrid(0.5))
    network = load(pack.encode(PackedModel((tensor,), graph)))
    assert repr(network) == (
        "<Network (input: float32 (any, 3)) -> 1 output, fp32, engine auto, 24 bytes of weights>"
    )


@pytest.mark.parametrize(
    ("size", "cure"), [(3, r"add the batch dimension: x\[None\]"), (5, "reshape the array")]
)
def test_an_axis_is_offered_only_where_it_helps(size: int, cure: str) -> None:
    with pytest.raises(InputError, match=f"Cure: {cure}"):
        load(pack.encode(mlp()))(np.zeros(size, np.float32))
