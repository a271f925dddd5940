"""Engines end to end: the same outputs, cuts in the right places, measured choices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.errors import InputError
from laconic.pack.graph.ops import make_node
from laconic.records import (
    AnyArray,
    Codebook,
    FloatArray,
    Graph,
    IntTensor,
    Node,
    PackedModel,
    RawTensor,
    Tensor,
    UniformGrid,
    ValueSpec,
)
from laconic.runtime import Engine, Network, load
from laconic.runtime.engines import cache, choice, few_bits, measure
from laconic.runtime.engines.few_bits import PackedImplementation, implementations_for
from laconic.runtime.engines.openvino import installed
from laconic.runtime.engines.own import own_matrix
from laconic.runtime.kernels import native, plain


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines.txt"


def weight(name: str, rows: int, cols: int, zeros: float = 0.9, most: int = 1) -> IntTensor:
    rng = np.random.default_rng(rows + 7 * cols)
    q = rng.integers(-most, most + 1, (rows, cols)) * (rng.random((rows, cols)) >= zeros)
    return IntTensor(name, q.astype(np.int32), UniformGrid(0.0625))


def bias(name: str, rows: int) -> RawTensor:
    return RawTensor(name, np.random.default_rng(rows).standard_normal(rows).astype(np.float32))


def model(
    tensors: tuple[Tensor, ...], nodes: tuple[Node, ...], out: tuple[int, ...], *shape: int
) -> PackedModel:
    return PackedModel(tensors, Graph((ValueSpec("float32", (None, *shape)),), nodes, out))


def perceptron(zeros: float = 0.9, most: int = 1) -> PackedModel:
    """LeNet-300's shape, narrower, from images."""
    tensors: list[Tensor] = []
    nodes, last = [make_node("flatten", (0,))], 1
    for k, (rows, cols) in enumerate([(60, 784), (40, 60), (10, 40)]):
        tensors += [weight(f"fc{k}.weight", rows, cols, zeros, most), bias(f"fc{k}.bias", rows)]
        nodes.append(make_node("linear", (last, -1 - 2 * k, -2 - 2 * k)))
        nodes.append(make_node("relu", (last + 1,)))
        last += 2
    return model(tuple(tensors), tuple(nodes[:-1]), (last - 1,), 1, 28, 28)


def branches() -> PackedModel:
    """Queries, keys and values from one sequence, softmax between them, a residual."""
    tensors: tuple[Tensor, ...] = tuple(weight(n, 32, 32) for n in ("q", "k", "v", "o"))
    nodes = (
        make_node("tanh", (0,)),
        make_node("linear", (1, -1)),
        make_node("linear", (1, -2)),
        make_node("linear", (1, -3)),
        make_node("sdpa", (2, 3, 4), rank=3),
        make_node("linear", (5, -4)),
        make_node("add", (0, 6)),
        make_node("relu", (6,)),
    )
    return model(tensors, nodes, (7, 8, 0), 6, 32)


def shared() -> PackedModel:
    """One matrix used twice, its first product read by two nodes (so the ReLU is not taken in)."""
    nodes = (
        make_node("linear", (0, -1, -2)),
        make_node("relu", (1,)),
        make_node("linear", (2, -1, -2)),
        make_node("add", (1, 3)),
    )
    return model((weight("w", 24, 24), bias("b", 24)), nodes, (4,), 24)


NETWORKS = {
    "perceptron": (perceptron(), (1, 28, 28)),
    "branches": (branches(), (6, 32)),
    "shared": (shared(), (24,)),
}


def outputs(network: Network, x: FloatArray) -> tuple[AnyArray, ...]:
    found = network(x)
    return found if isinstance(found, tuple) else (found,)


def same(network: Network, plain_network: Network, x: FloatArray, most: float = 1e-5) -> None:
    for got, right in zip(outputs(network, x), outputs(plain_network, x), strict=True):
        assert got.shape == right.shape
        assert got.dtype == right.dtype
        assert float(np.abs(got - right).max(initial=0)) <= most * float(np.abs(right).max(initial=1e-9))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("engine", ["sparse", "auto", "openvino"])
def test_engines_agree(name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "openvino" and not installed():
        pytest.skip("OpenVINO is not installed")
    monkeypatch.setattr(choice, "SMALL", 100)
    packed, shape = NETWORKS[name]
    dense = Network.from_packed(packed, 1, engine="onnxruntime")
    network = Network.from_packed(packed, 1, engine=engine)
    for batch in (1, 3, 17):
        x = np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)
        same(network, dense, x)
    if engine == "sparse":
        assert {layer.implementation for layer in network.layers} == {"sparse"}
        assert network.nbytes < dense.nbytes / 4


def test_outputs_do_not_share_the_callers_memory() -> None:
    network = Network.from_packed(branches(), 1, engine="sparse")
    x = np.ones((1, 6, 32), np.float32)
    again = outputs(network, x)[2]
    np.testing.assert_array_equal(again, x)
    assert not np.may_share_memory(again, x)


def test_as_few_cuts_as_the_graph_allows() -> None:
    assembly = Network.from_packed(branches(), 1, engine="sparse")._assembly
    assert assembly is not None
    kinds = [type(step).__name__ for step in assembly.steps]
    assert kinds == ["SessionStep", *["KernelStep"] * 3, "SessionStep", "KernelStep", "SessionStep"]
    whole = Network.from_packed(perceptron(), 1, engine="sparse")._assembly
    assert whole is not None
    assert [type(step).__name__ for step in whole.steps] == ["ViewStep", *["KernelStep"] * 3, "ViewStep"]


@pytest.mark.parametrize("most", [1, 7, 100])
def test_few_bits_are_exact_where_they_must_be(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone: the float32 one to rounding, the 8-bit ones within the error of 8-bit activations."""
    packed = perceptron(0.3, most)
    x = np.random.default_rng(1).standard_normal((5, 1, 28, 28)).astype(np.float32)
    dense = Network.from_packed(packed, 1, engine="onnxruntime")
    monkeypatch.setattr(choice, "SMALL", 100)
    monkeypatch.setattr(measure, "SECONDS_EACH", 0.0)
    for implementation in implementations_for(packed.tensors[0]):
        _prefer(implementation, monkeypatch)
        network = Network.from_packed(packed, 1, engine="fastest")
        assert network.layers[0].implementation == implementation
        same(network, dense, x, 1e-5 if implementation == "4-bit" else 0.05)
    expected: dict[int, tuple[PackedImplementation, ...]] = {
        1: ("2-bit-int8", "4-bit", "4-bit-int8", "8-bit-int8"),
        7: ("4-bit", "4-bit-int8", "8-bit-int8"),
        100: ("8-bit-int8",),
    }
    assert implementations_for(packed.tensors[0]) == expected[most]


def _prefer(implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements in which one implementation is the fastest wherever it is allowed."""
    monkeypatch.setattr(
        measure,
        "fastest_calls",
        lambda calls: {name: 1e-6 if name == implementation else 1e-3 for name in calls},
    )
    monkeypatch.setattr(measure, "cut_seconds", lambda: 1e-9)
    Path(cache.cache_file()).unlink(missing_ok=True)


@pytest.mark.skipif(native.two_bit_extension() is None, reason="installed without a compiler")
@pytest.mark.parametrize("name", ["perceptron", "branches", "shared"])
def test_layers_run_in_our_own_two_bit_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "SMALL", 100)
    monkeypatch.setattr(measure, "SECONDS_EACH", 0.0)
    packed, shape = NETWORKS[name]
    _prefer("2-bit-kernel", monkeypatch)
    network = Network.from_packed(packed, 1, engine="fastest")
    assert {layer.implementation for layer in network.layers} == {"2-bit-kernel"}
    dense = Network.from_packed(packed, 1, engine="onnxruntime")
    assert network.nbytes < dense.nbytes / 3
    for batch in (1, 5):
        x = np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)
        same(network, dense, x, 0.05)


def test_what_fits_our_own_two_bit_kernel() -> None:
    q = np.array([[0, 1, 2]], np.int32)
    found = few_bits.own_two_bits(IntTensor("w", q, Codebook((-0.5, 0.0, 0.5))))
    assert found is not None
    assert (found.integers.tolist(), found.step, found.lowest) == ([[-1, 0, 1]], 0.5, -1)
    for grid, levels, fits in ((UniformGrid(0.5), [0, 3], True), (UniformGrid(0.5), [-2, 2], False)):
        tensor = IntTensor("w", np.array([levels], np.int32), grid)
        assert (few_bits.own_two_bits(tensor) is not None) == fits
        if not fits:
            with pytest.raises(InputError, match="'w' does not fit in two bits"):
                own_matrix(tensor, "2-bit-kernel", 1, None)
    assert few_bits.own_two_bits(RawTensor("w", np.zeros((1, 3), np.float32))) is None


def test_auto_never_rounds_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "SMALL", 100)
    seen: list[str] = []

    def spy(calls: dict[str, object]) -> dict[str, float]:
        seen.extend(calls)
        return dict.fromkeys(calls, 1e-3)

    monkeypatch.setattr(measure, "fastest_calls", spy)
    monkeypatch.setattr(measure, "cut_seconds", lambda: 1e-9)
    Network.from_packed(perceptron(), 1)
    assert set(seen) <= {"dense", "sparse", "4-bit"}
    seen.clear()
    Network.from_packed(perceptron(), 1, engine="fastest")
    assert {"2-bit-int8", "4-bit-int8", "8-bit-int8"} <= set(seen)


def test_choices_are_measured_once_and_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "SMALL", 100)
    first = Network.from_packed(perceptron(), 1)
    kept = cache.read_choices(own_cache)
    assert len(kept) == 3
    assert all(times["dense"] > 0 and times["cut"] > 0 for times in kept.values())

    def never(calls: object) -> dict[str, float]:
        raise AssertionError("measured again")

    monkeypatch.setattr(measure, "fastest_calls", never)
    assert Network.from_packed(perceptron(), 1).layers == first.layers
    with pytest.raises(AssertionError, match="measured again"):
        Network.from_packed(perceptron(), 1, batch=64)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no line",
        "a\t",
        "a\tdense",
        "a\tdense=x",
        "a\tdense=-1.0",
        "a\tdense=nan",
        "a\tdense=inf",
        "=" * 9999,
    ],
)
def test_a_damaged_cache_is_an_empty_one(text: str, own_cache: Path) -> None:
    own_cache.parent.mkdir()
    own_cache.write_text(text)
    assert cache.read_choices(own_cache) == {}
    cache.keep_choices(own_cache, {"k": {"dense": 0.5}})
    assert cache.read_choices(own_cache) == {"k": {"dense": 0.5}}


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "file"))
    monkeypatch.setattr(choice, "SMALL", 100)
    assert len(Network.from_packed(perceptron(), 1).layers) == 3


def test_the_choice_is_the_fastest_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "SMALL", 2000)
    times = {"dense": 100e-6, "sparse": 20e-6, "4-bit": 60e-6}
    monkeypatch.setattr(measure, "fastest_calls", lambda calls: {name: times[name] for name in calls})
    monkeypatch.setattr(measure, "cut_seconds", lambda: 8e-6)
    first, second, third = Network.from_packed(perceptron(), 1).layers
    assert (first.implementation, second.implementation, third.implementation) == (
        "sparse",
        "sparse",
        "dense",
    )
    assert first.reason == "measured, us: dense 100, sparse 20, 4-bit 60"
    assert first.microseconds == pytest.approx({"dense": 100, "sparse": 20, "4-bit": 60})
    assert third.reason == "small: under 2000 weights"
    assert (
        str(third) == f"fc2.weight 10x40, {100 * third.zeros:.0f} % zeros: dense (small: under 2000 weights)"
    )
    monkeypatch.setattr(measure, "cut_seconds", lambda: 35e-6)
    Path(cache.cache_file()).unlink()
    assert (
        Network.from_packed(perceptron(), 1).layers[0].implementation == "4-bit"
    )  # two sessions more cost too much
    Path(cache.cache_file()).unlink()
    times.update({"sparse": 95e-6, "4-bit": 98e-6})
    monkeypatch.setattr(measure, "cut_seconds", lambda: 1e-9)
    assert Network.from_packed(perceptron(), 1).layers[0].implementation == "dense"  # within noise


def test_below_break_even_it_stays_dense_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "SMALL", 100)
    packed = perceptron(0.0, 100)
    for engine in ("auto", "sparse"):
        network = Network.from_packed(packed, 1, engine=engine)  # type: ignore[arg-type]
        assert {layer.implementation for layer in network.layers} == {"dense"}
        assert "the sparse kernel's break-even is 50 %" in network.describe()


def test_small_networks_are_not_measured(own_cache: Path) -> None:
    network = Network.from_packed(perceptron(), 1)
    assert {layer.implementation for layer in network.layers} == {"dense"}
    assert not own_cache.exists()


@pytest.mark.parametrize("scipy_too", [False, True])
def test_without_the_extension_the_outputs_are_the_same(
    scipy_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "SMALL", 100)
    x = np.random.default_rng(1).standard_normal((4, 1, 28, 28)).astype(np.float32)
    compiled = Network.from_packed(perceptron(), 1, engine="sparse")
    monkeypatch.setattr(native, "extension", lambda: None)
    if not scipy_too:
        monkeypatch.setattr(plain, "scipy_sparse", lambda: None)
    same(Network.from_packed(perceptron(), 1, engine="sparse"), compiled, x)
    assert "kernel is missing" in Network.from_packed(perceptron(), 1, engine="sparse").describe()
    network = Network.from_packed(perceptron(), 1)
    same(network, compiled, x)
    if not scipy_too:
        assert "sparse" not in network.layers[0].microseconds
        assert "the compiled kernel is missing" in network.describe()


def test_codebooks_that_are_ternary_count_as_such() -> None:
    q = np.array([[0, 1, 2]], np.int32)
    assert "2-bit-int8" in implementations_for(IntTensor("w", q, Codebook((-0.5, 0.0, 0.5))))
    assert implementations_for(IntTensor("w", q, Codebook((-0.5, 0.0, 0.25)))) == ()
    assert implementations_for(RawTensor("w", np.zeros((1, 3), np.float32))) == ()
    with pytest.raises(InputError, match="no multiples"):
        few_bits.packed_nodes(RawTensor("w", np.zeros((1, 3), np.float32)), "x", "y", "4-bit", "s")


def test_engines_work_on_files_and_refuse_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack.write(tmp_path / "m.lac", perceptron())
    x = np.ones((2, 1, 28, 28), np.float32)
    same(load(tmp_path / "m.lac", engine="sparse"), load(tmp_path / "m.lac", engine="onnxruntime"), x)
    with pytest.raises(InputError, match="engine must be one of auto, fastest.*got 'tpu'"):
        load(tmp_path / "m.lac", engine="tpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch must be at least 1, got 0"):
        load(tmp_path / "m.lac", batch=0)
    monkeypatch.setattr("laconic.runtime.engines.openvino.installed", lambda: False)
    with pytest.raises(InputError, match="OpenVINO is not installed. Cure: pip install openvino"):
        load(tmp_path / "m.lac", engine="openvino")
    with pytest.raises(InputError, match="input 0 must have shape"):
        load(tmp_path / "m.lac", engine="sparse")(x[0])


def test_the_shortest_of_interleaved_calls() -> None:
    order: list[str] = []
    found = measure.fastest_calls({"a": lambda: order.append("a"), "b": lambda: order.append("b")})
    assert set(found) == {"a", "b"}
    assert order[:6] == ["a", "b", "a", "b", "a", "b"]
    assert len(order) == 2 * (1 + measure.MOST_CALLS)
