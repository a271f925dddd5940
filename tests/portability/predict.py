"""A file made, loaded and run by what is installed, and what the import takes of the processor.

    python tests/portability/predict.py

Needs the package, NumPy, ONNX and ONNX Runtime; fails if anything else of weight comes along.
"""

from __future__ import annotations

import sys
import time


def main() -> int:
    """Time the import first, then make, load and run a file."""
    start = time.process_time()
    import laconic.runtime

    seconds = time.process_time() - start
    import numpy as np

    y = laconic.runtime.load(a_file())(np.ones((1, 3), np.float32))
    heavy = sorted({"torch", "constriction", "lightning_fabric", "scipy"} & set(sys.modules))
    print(f"{y.tolist()}, {laconic.runtime.__file__}, imported in {seconds:.3f} s of the processor")
    if y.tolist() != [[1.5, 0.0]] or heavy:
        print(f"wrong: {y.tolist()}, imported {heavy}", file=sys.stderr)
        return 1
    return 0


def a_file() -> bytes:
    """A linear layer and a relu."""
    import numpy as np

    from laconic import pack
    from laconic.records import Graph, IntTensor, Node, PackedModel, UniformGrid, ValueSpec

    weight = IntTensor("fc.weight", np.array([[1, 0, 2], [0, -1, 0]], np.int32), UniformGrid(0.5))
    nodes = (Node("linear", (0, -1)), Node("relu", (1,)))
    return pack.encode(PackedModel((weight,), Graph((ValueSpec("float32", (None, 3)),), nodes, (2,))))


if __name__ == "__main__":
    sys.exit(main())
