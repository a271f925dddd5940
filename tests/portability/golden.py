"""What every golden file says on this machine, by each coder that is here.

    python tests/portability/golden.py

One line per coder, file and tensor: CRC-32 of the integers and of the values. One line per coder and file:
the CRC-32 when it is written anew. Two machines agree when they print the same lines; ``make portability``
compares them. Needs the package and NumPy.
"""

from __future__ import annotations

import ast
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from laconic.pack import decode, encode
from laconic.pack.codecs import compiled
from laconic.records import IntTensor
from laconic.records.children import ChildTensor
from laconic.records.typed import elements_of

TESTS = Path(__file__).resolve().parent.parent
PACK = TESTS / "pack"
COMPILED = ("_coder", "_adaptive", "_mixed")


def golden_files() -> Iterator[tuple[str, bytes]]:
    """The golden files, and the one that stands as text in the tests."""
    for path in sorted(TESTS.rglob("golden/*.lac")):
        yield path.name, path.read_bytes()
    for node in ast.parse((PACK / "test_golden.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("_HEX"):
            yield ast.unparse(node.targets[0]), bytes.fromhex(ast.literal_eval(node.value))


def lines(coder: str) -> Iterator[str]:
    """All that is said by the coder that is in force."""
    for name, data in golden_files():
        model = decode(data)
        for tensor in model.tensors:
            if isinstance(tensor, ChildTensor):  # its values need the parent
                continue
            values = elements_of(tensor)
            array = tensor.integers if isinstance(tensor, IntTensor) else values
            sums = [zlib.crc32(np.ascontiguousarray(a).tobytes()) for a in (array, values)]
            yield f"{coder} {name} {tensor.name} {tensor.dtype} {tensor.shape} {sums[0]:08x} {sums[1]:08x}"
        yield f"{coder} {name} written anew {zlib.crc32(encode(model)):08x}"


def main() -> None:
    """Compiled code first, then Python alone; a machine without the former says so and fails."""
    if compiled.extension() is None or compiled.coder() is compiled.plain_coder():
        sys.exit("the compiled coder is not here: nothing to compare")
    print(*lines("compiled"), sep="\n")
    for name in COMPILED:
        sys.modules[f"laconic.pack.codecs.{name}"] = None  # type: ignore[assignment]  # importing it raises
        delattr(sys.modules["laconic.pack.codecs"], name)
    if compiled.extension() is not None or compiled.coder() is not compiled.plain_coder():
        sys.exit("the compiled coder is still here")
    print(*lines("python"), sep="\n")


if __name__ == "__main__":
    main()
