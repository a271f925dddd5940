"""A coverage-guided fuzzer of the reader: ``make fuzz`` runs it on a sanitizer build of the compiled code.

``decode`` reads a file and follows its graph's shapes (``laconic.pack``, ``laconic.runtime.graph.shapes``),
``load`` also builds and calls the network (ONNX Runtime). The input is the content of a file, the bytes
between its length and its checksum; both are added, so that mutated files pass these checks. A finding is:
the end of the process, an exception that is no ``LaconicError``, a sanitizer's report, a case of half a
minute, or 4 GiB.

    python tests/fuzz/fuzz.py decode|load CORPUS... [libFuzzer's options]
    python tests/fuzz/fuzz.py seeds FOLDER      writes the attacks of tests/attacks there
"""

from __future__ import annotations

import importlib
import sys
import traceback
import zlib
from contextlib import nullcontext
from pathlib import Path

# pytest also collects this file, and atheris may not be installed
atheris = importlib.import_module("atheris") if __name__ == "__main__" else None
instrumented = atheris.instrument_imports if atheris else lambda include: nullcontext()

with instrumented(include=["laconic.pack", "laconic.runtime"]):
    from laconic import pack
    from laconic.pack import MAGIC, Limits
    from laconic.pack.file import inspection  # noqa: F401 - instrumented before it is used
    from laconic.runtime import network, reading
    from laconic.varint import Writer
from laconic.errors import LaconicError  # noqa: E402
from tests.attacks.measure import exercise  # noqa: E402

SEED_BYTES = 2000
FEW = Limits(elements=100_000)
"""Small limits, so that a case takes milliseconds; ``tests/attacks`` measure the cost of larger claims."""


def framed(content: bytes) -> bytes:
    """A file with this content, its length and its checksum."""
    head = Writer()
    head.raw(MAGIC + b"\x01")
    head.varint(len(content) + 4)
    data = bytes(head.data) + content
    return data + zlib.crc32(data).to_bytes(4, "little")


def content_of(data: bytes) -> bytes:
    """What :func:`framed` was given."""
    end = 4
    while data[end] & 0x80:
        end += 1
    return data[end + 1 : -4]


def decode(content: bytes) -> None:
    """All of decoding, up to the point where other libraries get the graph."""
    data = framed(content)
    for read in (reading.read_model, pack.layout):
        try:
            read(data, limits=FEW)
        except LaconicError:
            continue


def load(content: bytes) -> None:
    """Load a file, in int8 where it says so and in float32, and call it on few samples."""
    for precision in ("auto", "fp32"):
        try:
            exercise(network.load(framed(content), threads=1, precision=precision))  # type: ignore[arg-type]
        except LaconicError:
            return
        except Exception:  # printed, since the runtime's messages on standard error are suppressed
            Path("trace.txt").write_text(traceback.format_exc())
            raise


def write_seeds(folder: Path) -> None:
    """Write the contents of the attacks as files, except long ones."""
    from tests.attacks.test_attacks import ATTEMPTS

    folder.mkdir(parents=True, exist_ok=True)
    for name, make in ATTEMPTS.items():
        content = content_of(make())
        if len(content) < SEED_BYTES:
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    what = sys.argv.pop(1)
    if what == "seeds":
        write_seeds(Path(sys.argv[1]))
    else:
        atheris.Setup(sys.argv, {"decode": decode, "load": load}[what])
        atheris.Fuzz()
