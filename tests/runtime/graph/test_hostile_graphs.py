"""Attacks on ``runtime.load``: small files that claim much, and damaged graphs, where memory is short."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from laconic.pack import encode, layout
from laconic.records import Graph, Node, PackedModel, RawTensor, ValueSpec
from tests.pack.test_hostile import DATA
from tests.pack.test_hostile import _content as content
from tests.pack.test_hostile import _forge as forged

LOAD_ATTACK = """
    import resource, sys, time
    import onnxruntime, onnx.shape_inference
    import laconic.runtime
    from laconic.errors import FileFormatError
    room = 512 * 2**20
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))
    for line in sys.stdin:
        start = time.process_time()
        try:
            laconic.runtime.load(bytes.fromhex(line), threads=1)
            name = "loaded"
        except FileFormatError as error:
            name = type(error).__name__
        print(name, time.process_time() - start < 5)
"""


def _loaded(files: list[bytes]) -> list[str]:
    """What ``runtime.load`` says of each, in a process with little memory; nothing may take five seconds."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOAD_ATTACK)],
        input="\n".join(f.hex() for f in files),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    words = done.stdout.split()
    assert words[1::2] == ["True"] * len(files)
    return words[::2]


def _graph_file(*nodes: Node) -> bytes:
    weight = RawTensor("w", np.ones((4, 4), np.float32))
    graph = Graph((ValueSpec("float32", (None, 4)),), nodes, (len(nodes),))
    return encode(PackedModel((weight,), graph))


def _uses(op: str, **attrs: object) -> bytes:
    """A weight blown up, then averaged and added to the input."""
    big = Node(op, (-1,), attrs)  # type: ignore[arg-type]
    return _graph_file(big, Node("mean", (1,), {"dims": ()}), Node("add", (0, 2)))


@pytest.mark.skipif(sys.platform != "linux", reason="needs an address-space limit")
def test_hostile_graphs_are_refused_when_they_are_loaded() -> None:
    hostile = {
        "CorruptFileError": [
            _graph_file(Node("permute", (0,), {"perm": ()})),
            _graph_file(Node("max_pool", (0,), {"kernel": ()})),
            _graph_file(Node("pad", (0,), {"pads": (1,)})),
            _graph_file(Node("conv", (0, -1), {"padding": (2**62,)})),
        ],
        "LimitError": [
            _uses("expand", shape=(2**24, 4, 4)),
            _uses("tile", repeats=(2**12, 2**12)),
            _uses("pad", pads=(2**13,) * 4),
            _graph_file(Node("tile", (0,), {"repeats": (1, 2**30)})),
        ],
    }
    files = [f for some in hostile.values() for f in some]
    assert _loaded(files) == [name for name, some in hostile.items() for _ in some]


@pytest.mark.skipif(sys.platform != "linux", reason="needs an address-space limit")
def test_mutated_files_load_or_are_refused() -> None:
    """Bit flips and random edits anywhere, most of them in the graph, under a right checksum."""
    rng = np.random.default_rng(5)
    files, graph_bytes = [DATA], next(row.bytes for row in layout(DATA) if row.section == "graph")
    for k in range(400):
        body = content()
        for _ in range(1 + k % 3):
            at = int(rng.integers(0, graph_bytes if k % 4 else len(body)))
            body[at] = int(rng.integers(0, 256)) if k % 2 else body[at] ^ (1 << int(rng.integers(0, 8)))
        files.append(forged(bytes(body)))
    seen = _loaded(files)
    assert seen[0] == "loaded"
    assert {"loaded", "CorruptFileError"} <= set(seen)
