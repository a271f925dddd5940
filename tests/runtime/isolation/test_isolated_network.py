"""A network in a child process: the same numbers, its errors, its end, its limits."""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys

import numpy as np
import pytest

from laconic.errors import CorruptFileError, InputError, IsolatedError, LimitError
from laconic.pack import Limits, encode
from laconic.pack.graph.ops import make_node as node
from laconic.records import Graph, PackedModel, ValueSpec
from laconic.runtime import load
from laconic.runtime.isolation import frames
from tests.attacks.files import file_of, raw

F32 = np.float32
W = F32([[1, 2], [3, 4], [5, 6]])
DATA = file_of([(None, 2)], [node("linear", (0, -1)), node("relu", (1,))], [raw("w", W)], outputs=(1, 2))


def test_a_child_computes_the_same_and_takes_many_calls() -> None:
    with load(DATA, isolated=True, threads=1) as network:
        assert (network.inputs, network.outputs) == (load(DATA).inputs, 2)
        assert "in process" in network.describe()
        for rows in (1, 5, 0):
            x = np.random.default_rng(rows).standard_normal((rows, 2)).astype(F32)
            y, positive = network(x)
            np.testing.assert_allclose(y, x @ W.T, rtol=1e-6)
            np.testing.assert_array_equal(positive, np.maximum(y, 0))
        with pytest.raises(InputError, match=r"must be an array of float32, .*, got float64. Cure"):
            network(np.zeros((1, 2)))
        with pytest.raises(InputError, match="must be an array of .*, got list"):
            network([[1.0, 2.0]])  # type: ignore[arg-type]
        assert network(F32([[1, 1]]))[0].tolist() == [[3, 7, 11]]  # it lives on after a refusal
    with pytest.raises(IsolatedError, match="has ended. Cure: load the file again"):
        network(F32([[1, 1]]))


def test_errors_of_the_child_keep_their_class() -> None:
    with pytest.raises(CorruptFileError, match="leave nothing"):
        load(file_of([(1, 4)], [node("pad", (0,), pads=(-9, -9))]), isolated=True)
    with pytest.raises(LimitError, match=r"memory.*Cure"):
        load(DATA, isolated=True, limits=Limits(memory=1000))


def test_the_end_of_the_child_is_an_error() -> None:
    network = load(DATA, isolated=True)
    os.kill(network._child.pid, signal.SIGKILL)
    with pytest.raises(IsolatedError, match=r"ended with status -9 in a call. Cure: do not use this file"):
        network(np.zeros((1, 2), F32))
    with pytest.raises(IsolatedError, match="has ended"):
        network(np.zeros((1, 2), F32))


def test_a_child_that_takes_too_long_is_ended() -> None:
    with load(DATA, isolated=True, limits=Limits(seconds=20.0)) as network:
        network._limits = Limits(seconds=0.3)
        os.kill(network._child.pid, signal.SIGSTOP)  # it answers no more
        with pytest.raises(IsolatedError, match=r"a call took over 0.3 s.*Cure.*seconds="):
            network(np.zeros((1, 2), F32))


@pytest.mark.skipif(sys.platform != "linux", reason="needs an address-space limit")
def test_a_child_may_not_take_more_than_its_limits() -> None:
    """What the estimate lets in runs within the child's own limit; what it does not is refused."""
    big = file_of([(None, 4)], [node("tile", (0,), repeats=(1, 2**20))])
    with load(big, isolated=True, limits=Limits(call_memory=2**26), threads=1) as network:
        assert network(np.ones((1, 4), F32)).shape == (1, 2**22)
        with pytest.raises(LimitError, match=r"call takes up to .* bytes .*call_memory="):
            network(np.ones((10, 4), F32))


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"{}",
        b"not json",
        b'{"arrays": [["float32", [-1]]], "data": 0}',
        b'{"arrays": [["object", [1]]], "data": 0}',
        b'{"arrays": [["float32", [1.5]]], "data": 0}',
        b'{"arrays": [["float32", 3]], "data": 0}',
        b'{"arrays": [["float32", [true]]], "data": 0}',
        b'{"arrays": [["float32", [100000]]], "data": 0}',
        b'{"arrays": [], "data": -1}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_refused(text: bytes) -> None:
    with pytest.raises(IsolatedError):
        frames.get(io.BytesIO(len(text).to_bytes(8, "little") + text), 1000)


def test_a_message_that_ends_early_is_the_end() -> None:
    pipe = io.BytesIO()
    frames.put(pipe, {"a": 1}, [np.arange(3), np.zeros((2, 0), F32), np.float32(7)], b"xyz")
    whole = pipe.getvalue()
    said, arrays, data = frames.get(io.BytesIO(whole), 1000)
    assert (said, [a.tolist() for a in arrays], data) == ({"a": 1}, [[0, 1, 2], [[], []], 7.0], b"xyz")
    for length in range(len(whole)):
        with pytest.raises(EOFError):
            frames.get(io.BytesIO(whole[:length]), 1000)
    with pytest.raises(IsolatedError, match="text of"):
        frames.get(io.BytesIO(b"\xff" * 100), 1000)


def test_names_go_through_the_pipe() -> None:
    """Inputs by name, axes of several names, and a dictionary of outputs."""
    specs = (ValueSpec("float32", (None, None), "left", ("batch", "time")), ValueSpec("float32", (), "right"))
    nodes = (node("add", (0, 1)), node("size", (0,), axis=1))
    graph = Graph(specs, nodes, (2, 3), (), ("total", "length"), True)
    data = encode(PackedModel((), graph))
    with load(data, isolated=True, threads=1) as network:
        assert network.inputs == load(data).inputs and network.output_names == ("total", "length")
        found = network(right=np.asarray(1, F32), left=np.zeros((2, 3), F32))
        assert isinstance(found, dict) and sorted(found) == ["length", "total"]
        assert found["total"].tolist() == [[1] * 3] * 2 and found["length"] == 3
        with pytest.raises(InputError, match="'middle' is no input"):
            network(np.zeros((2, 3), F32), middle=np.zeros((), F32))


def test_it_is_not_pickled() -> None:
    with (
        load(DATA, isolated=True, threads=1) as network,
        pytest.raises(IsolatedError, match="cannot be copied or pickled. Cure: load the file again"),
    ):
        pickle.dumps(network)


def test_an_interrupted_call_ends_the_child_so_that_no_answer_comes_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with load(DATA, isolated=True, threads=1) as network:

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(frames, "get", interrupted)
        with pytest.raises(KeyboardInterrupt):
            network(np.ones((1, 2), F32))
        monkeypatch.undo()
        with pytest.raises(IsolatedError, match="has ended. Cure: load the file again"):
            network(np.zeros((1, 2), F32))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_process_is_refused_and_the_first_goes_on() -> None:
    with load(DATA, isolated=True, threads=1) as network:
        child = os.fork()
        if child == 0:
            try:
                network(np.ones((1, 2), F32))
            except IsolatedError:
                network.close()  # which must not end the first process' child
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert np.array_equal(network(np.ones((1, 2), F32))[0], load(DATA)(np.ones((1, 2), F32))[0])
