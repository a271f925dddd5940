"""What loading takes is told before it is taken, and may be allowed."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from laconic.errors import CorruptFileError, InputError, LimitError, WeightsOnlyError
from laconic.pack import DEFAULT, Limits, decode, encode
from laconic.pack.graph.ops import make_node as node
from laconic.records import Graph, IntTensor, PackedModel, RawTensor, UniformGrid, ValueSpec
from laconic.runtime import emulate, export_onnx, load, to_onnx
from laconic.runtime.reading import loading_note, needs
from tests.attacks import integers, names, sizes, work
from tests.attacks.files import constant, file_of
from tests.pack.chunked import chunked_file

LARGE = file_of([(None, 2000)], [node("linear", (0, -1))], [constant("w", 2000, 2000)])
SMALL = file_of([(None, 20)], [node("linear", (0, -1))], [constant("w", 20, 20)])


def test_a_large_network_in_a_small_file_is_loaded_when_it_is_allowed(tmp_path: Path) -> None:
    memory, work_ = needs(LARGE)
    assert memory > DEFAULT.allowed_memory(len(LARGE))
    with pytest.raises(LimitError, match=rf"to {memory} bytes.*\(memory={memory}\).*trusted.*--trusted"):
        load(LARGE)
    for limits in (Limits(memory=memory), Limits.trusted()):
        assert load(LARGE, limits=limits, engine="onnxruntime").outputs == 1
    with pytest.raises(LimitError, match="memory"):
        load(LARGE, limits=Limits(memory=memory - 1 - 16 * len(LARGE)))
    with pytest.raises(LimitError, match=rf"{work_} steps.*Limits\(work={work_}\)"):
        load(LARGE, limits=Limits(memory=2**40, work=work_ - 1))
    path = tmp_path / "net.lac"
    path.write_bytes(LARGE)
    assert f"takes up to {memory} bytes" in (loading_note(path) or "")
    assert "limits=laconic.pack.Limits.trusted()" in (loading_note(path) or "")
    path.write_bytes(SMALL)
    assert loading_note(path) is None


def test_the_threads_of_load_decode_the_chunks_of_large_tensors(tmp_path: Path) -> None:
    """One thread: nothing is started beside the caller's; more: as many as were asked for, at most."""
    graph = Graph((ValueSpec("float32", (None, 64)),), (node("linear", (0, -1)),), (1,))
    weight = IntTensor("w", np.arange(512 * 64, dtype=np.int32).reshape(512, 64) % 7, UniformGrid(0.5))
    data = chunked_file([(weight, 64)], graph)
    path = tmp_path / "net.lac"
    path.write_bytes(data)
    for source in (data, path):
        networks = {}
        for threads in (1, 3):
            with threads_started() as started:
                networks[threads] = load(source, threads=threads, engine="onnxruntime")
            assert (len(started) == 0) if threads == 1 else (1 <= len(started) <= 3), started
        x = np.eye(64, dtype=np.float32)
        for network in networks.values():
            np.testing.assert_array_equal(network(x), weight.values().T)
        with threads_started() as started:
            pickle.loads(pickle.dumps(networks[1]))
        assert not started


@contextmanager
def threads_started() -> Iterator[set[int]]:
    """The threads that Python code starts meanwhile."""
    found: set[int] = set()
    threading.setprofile(lambda frame, event, argument: found.add(threading.get_ident()))
    try:
        yield found
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]


def test_a_file_of_weights_alone_is_refused_before_it_is_decoded() -> None:
    """2^31 bytes of zeros would be allowed to be decoded, and could not be run."""
    data = encode(PackedModel((constant("w", 2**12, 2**12),)))
    with pytest.raises(WeightsOnlyError, match=r"restore\(path, into=module\)"):
        load(data, limits=Limits(memory=1))
    assert needs(data) == (0, 0)


@pytest.mark.parametrize(
    "make",
    [
        sizes.expand_to_a_negative_size,
        sizes.pad_by_less_than_nothing,
        integers.range_at_a_convolution_whose_weight_is_a_vector,
        integers.range_at_a_convolution_without_weight,
        integers.range_at_a_convolution_of_no_channels,
    ],
)
def test_other_doors_refuse_what_load_refuses(make: object, tmp_path: Path) -> None:
    """Exports and the emulation build the same graph."""
    data: bytes = make()  # type: ignore[operator]
    (tmp_path / "net.lac").write_bytes(data)
    with pytest.raises(CorruptFileError, match="operation"):
        export_onnx(tmp_path / "net.lac", tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()
    model = decode(data)
    if model.graph is not None and model.graph.ranges:
        with pytest.raises(CorruptFileError, match="operation"):
            to_onnx(model, "int8")
        with pytest.raises(CorruptFileError, match="operation"):
            emulate(data)


def test_exported_models_keep_names_that_people_read() -> None:
    model = to_onnx(decode(names.long_name_read_often()))
    assert len(model.SerializeToString()) < 16 * 2**20  # 0.96 GB with the name as it is
    (tensor,) = model.graph.initializer
    assert tensor.name == "n" * 256 + ".0"
    weight = RawTensor("layer.weight", np.ones((2, 2), np.float32))
    graph = decode(file_of([(None, 2)], [node("linear", (0, -1))], [weight])).graph
    exported = to_onnx(PackedModel((weight,), graph))
    assert [t.name for t in exported.graph.initializer] == ["layer.weight"]


def test_the_phases_of_a_wide_transposed_convolution_take_no_time() -> None:
    """4 s for a million taps, put in place one by one; the numbers are those of the plain loop."""
    import time

    from laconic.records import Node
    from laconic.runtime.int8.transposed import as_phases, as_rows
    from laconic.runtime.ops.windows import window_of

    wide = Node("conv_transpose", (0, -1), {"stride": (1024,)})
    start = time.process_time()
    found = as_phases(window_of(wide, 2), np.ones((1, 1, 1024, 1024), np.int8))
    assert time.process_time() - start < 2
    assert found is not None and found.weight.shape == (1024**2, 1, 1, 1)
    rng = np.random.default_rng(0)
    narrow = Node("conv_transpose", (0, -1), {"stride": (2,), "padding": (1,)})
    weight = rng.integers(-9, 9, (3, 2, 4, 4)).astype(np.int8)
    phases = as_phases(window_of(narrow, 2), as_rows(weight, 1))
    assert phases is not None
    x = rng.integers(-9, 9, (3, 5, 5))
    np.testing.assert_array_equal(_shuffled(x, phases.weight, phases.pads, 2), _transposed(x, weight, 2, 1))


def _transposed(x: np.ndarray, weight: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """Each input pixel adds the kernel, times itself, to the output."""
    inputs, outputs, k, _ = weight.shape
    n = x.shape[1]
    y = np.zeros((outputs, stride * (n - 1) + k, stride * (n - 1) + k), int)
    for i in range(inputs):
        for r in range(n):
            for c in range(n):
                y[:, stride * r : stride * r + k, stride * c : stride * c + k] += x[i, r, c] * weight[
                    i
                ].astype(int)
    return y[:, padding : y.shape[1] - padding, padding : y.shape[2] - padding]


def _shuffled(x: np.ndarray, weight: np.ndarray, pads: tuple[int, ...], stride: int) -> np.ndarray:
    """A plain convolution whose channels (o, row, column) are put in their places."""
    padded = np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    k = weight.shape[2]
    n = padded.shape[1] - k + 1
    sums = np.array(
        [[[(padded[:, r : r + k, c : c + k] * w).sum() for c in range(n)] for r in range(n)] for w in weight]
    )
    split = sums.reshape(-1, stride, stride, n, n)
    return split.transpose(0, 3, 1, 4, 2).reshape(-1, n * stride, n * stride)


def test_shared_weights_are_derived_once() -> None:
    """Layers of a recurrent network that read the same tensors, linear layers on one matrix."""
    from laconic.runtime.onnx_model.model import emit_graph

    tensors = [constant("w", 8, 2), constant("r", 8, 2), constant("b", 8), constant("c", 8)]
    layers = node("lstm", (0, None, None, *(-1, -2, -3, -4) * 3), layers=3)
    builder = emit_graph(decode(file_of([(1, 2, 2)], [layers], tensors, outputs=(1,))))[0].builder
    lstms = [n for n in builder.nodes if n.kind == "LSTM"]
    assert len(lstms) == 3
    assert len({n.inputs[1:4] for n in lstms}) == 1
    twice = file_of([(None, 2)], [node("linear", (0, -1)), node("linear", (1, -1))], [constant("w", 2, 2)])
    builder = emit_graph(decode(twice))[0].builder
    assert [n.kind for n in builder.nodes].count("Transpose") == 1


def test_work_is_told_apart_from_memory() -> None:
    with pytest.raises(LimitError, match="steps of about a nanosecond"):
        load(work.convolution_of_two_small_constants())
    with pytest.raises(InputError):
        load(SMALL, batch=0)
