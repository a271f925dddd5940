"""A loaded network survives a fork, a pickle and a copy: it gives the same predictions."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laconic import pack
from laconic.errors import ChecksumError
from laconic.records import (
    ActivationRange,
    AnyArray,
    Graph,
    IntTensor,
    Node,
    PackedModel,
    RawTensor,
    UniformGrid,
    ValueSpec,
)
from laconic.records.limits import Limits
from laconic.runtime import Engine, Network, load
from laconic.runtime.engines.openvino import installed
from laconic.runtime.engines.workers import Workers

SIZE = 512
ENGINES: list[Engine] = ["onnxruntime", "auto", "fastest", "sparse"]


@pytest.fixture(scope="module")
def model() -> PackedModel:
    """Two layers of 262,144 weights, 95 % zeros: enough work for two threads of every engine."""
    draws = np.random.default_rng(0)
    w = (draws.integers(-3, 4, (SIZE, SIZE)) * (draws.random((SIZE, SIZE)) > 0.95)).astype(np.int32)
    nodes = (Node("linear", (0, -1)), Node("relu", (1,)), Node("linear", (2, -1)))
    graph = Graph((ValueSpec("float32", (None, SIZE)),), nodes, (3,))
    return PackedModel((IntTensor("w", w, UniformGrid(0.125)),), graph)


@pytest.fixture(scope="module")
def data(model: PackedModel) -> bytes:
    return pack.encode(model)


@pytest.fixture(scope="module")
def x() -> AnyArray:
    return np.random.default_rng(1).standard_normal((64, SIZE)).astype(np.float32)


def _in_a_child(net: Network, x: AnyArray, answers: Connection) -> None:
    """Call twice; then forget the parent's engine, whose clean-up would join threads that are not there."""
    first, second = net(x), net(x)
    old = net.__dict__.copy()
    del net, old
    gc.collect()
    answers.send((first, second))


def forked(net: Network, x: AnyArray) -> tuple[AnyArray, AnyArray]:
    """What a forked child predicts, within a time-out."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_in_a_child, args=(net, x, there))
    child.start()
    there.close()
    try:
        assert here.poll(60), "the child hangs"
        found: tuple[AnyArray, AnyArray] = here.recv()
        child.join(60)
        assert child.exitcode == 0
        return found
    finally:
        child.kill()
        child.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_call_with_two_threads_before_and_after_a_fork(engine: Engine, data: bytes, x: AnyArray) -> None:
    net = load(data, threads=2, engine=engine, batch=64)
    before = net(x)
    for found in forked(net, x):
        np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-3)
    assert np.array_equal(net(x), before)  # the parent's threads are as they were


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forks_too(model: PackedModel, x: AnyArray) -> None:
    """A network that was made from records, and never called before the fork."""
    net = Network.from_packed(model, threads=2, engine="sparse")
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def middle() -> None:
        net(x)
        there.send(forked(net, x)[0])

    child = context.Process(target=middle)
    child.start()
    try:
        assert here.poll(60), "the child hangs"
        assert np.array_equal(here.recv(), net(x))
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_of_a_forked_process_are_its_own() -> None:
    workers = Workers(1)
    assert workers.submit(lambda: None).result(10) is None
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: workers.submit(lambda: None).result(10))
    child.start()
    child.join(60)
    status = child.exitcode
    child.kill()
    assert status == 0


@pytest.mark.parametrize("engine", ["auto", "sparse"])
@pytest.mark.parametrize("way", ["file", "bytes", "records"])
def test_a_pickle_is_the_files_bytes_and_little_more(
    way: str, engine: Engine, model: PackedModel, data: bytes, x: AnyArray, tmp_path: Path
) -> None:
    if way == "file":
        (tmp_path / "model.lac").write_bytes(data)
        net = load(tmp_path / "model.lac", threads=1, engine=engine)
        (tmp_path / "model.lac").unlink()  # the pickle does not need it
    else:
        net = (
            load(data, threads=1, engine=engine)
            if way == "bytes"
            else Network.from_packed(model, 1, engine=engine)
        )
    text = pickle.dumps(net)
    assert len(data) < len(text) < len(data) + 1000
    for twin in (pickle.loads(text), pickle.loads(pickle.dumps(pickle.loads(text))), copy.deepcopy(net)):
        assert twin is not net
        assert (twin.engine, twin.inputs) == (net.engine, net.inputs)
        assert np.array_equal(twin(x), net(x))


def test_options_travel_with_a_pickle() -> None:
    ranges = (ActivationRange(0, 1.0, 0), ActivationRange(1, 2.0, 0))
    graph = Graph((ValueSpec("float32", (None, 2)),), (Node("linear", (0, -1)),), (1,), ranges)
    data = pack.encode(PackedModel((RawTensor("w", np.float32([[1.3, 1], [1, -1]])),), graph))
    x = np.float32([[1.3, 2.6]])
    limits = Limits(elements=100)
    int8, fp32 = (load(data, precision=p, limits=limits) for p in ("int8", "fp32"))  # type: ignore[arg-type]
    assert not np.array_equal(int8(x), fp32(x))
    for net in (int8, fp32):
        twin: Any = pickle.loads(pickle.dumps(net))
        assert np.array_equal(twin(x), net(x))
        assert twin._origin.limits == limits


def test_a_pickle_that_was_changed_is_refused_as_a_file_would_be(data: bytes) -> None:
    text = pickle.dumps(load(data, threads=1))
    with pytest.raises(ChecksumError):
        pickle.loads(text.replace(data, data[:-1] + bytes([data[-1] ^ 1])))


@pytest.mark.skipif(not installed(), reason="OpenVINO is not installed")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_openvino_too(data: bytes, x: AnyArray) -> None:
    net = load(data, threads=2, engine="openvino")
    before = net(x)
    np.testing.assert_allclose(forked(net, x)[0], before, rtol=1e-5, atol=1e-3)
    assert np.array_equal(pickle.loads(pickle.dumps(net))(x), before)
