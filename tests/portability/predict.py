"""A file made, loaded and run by what is installed, and what the import takes of the processor.

    python tests/portability/predict.py

Needs the package, NumPy, ONNX and ONNX Runtime; fails if anything else of weight comes along.
"""

from __future__ import annotations

import sys
import time

start = time.process_time()
import laconic.runtime  # noqa: E402

seconds = time.process_time() - start

import numpy as np  # noqa: E402

from laconic import pack  # noqa: E402
from laconic.records import Graph, IntTensor, Node, PackedModel, UniformGrid, ValueSpec  # noqa: E402


def a_file() -> bytes:
    """A linear layer and a relu."""
    weight = IntTensor("fc.weight", np.array([[1, 0, 2], [0, -1, 0]], np.int32), UniformGrid(0.5))
    nodes = (Node("linear", (0, -1)), Node("relu", (1,)))
    return pack.encode(PackedModel((weight,), Graph((ValueSpec("float32", (None, 3)),), nodes, (2,))))


y = laconic.runtime.load(a_file())(np.ones((1, 3), np.float32))
heavy = sorted({"torch", "constriction", "lightning_fabric", "scipy"} & set(sys.modules))
print(f"{y.tolist()}, {laconic.runtime.__file__}, imported in {seconds:.3f} s of the processor")
sys.exit(0 if y.tolist() == [[1.5, 0.0]] and not heavy else f"wrong: {y.tolist()}, imported {heavy}")
