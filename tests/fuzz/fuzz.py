"""A coverage-guided fuzzer of the reader: ``make fuzz`` runs it on a sanitizer build of the compiled code.

``decode`` reads a file and follows its graph's shapes (``laconic.pack``, ``laconic.runtime.graph.shapes``),
``load`` also builds and calls the network (ONNX Runtime). Input is the content of a file, what stands between
its length and its checksum: both are written around it, so that mutations reach what lies behind them. Found
is: the end of the process, an exception that is no ``LaconicError``, a sanitizer's report, half a minute, or
4 GiB.

    python tests/fuzz/fuzz.py decode|load CORPUS... [libFuzzer's options]
    python tests/fuzz/fuzz.py seeds FOLDER      writes the attempts of tests/attacks there
"""

from __future__ import annotations

import importlib
import sys
import traceback
import zlib
from contextlib import nullcontext
from pathlib import Path

# pytest collects this file, too, where there is no fuzzer
atheris = importlib.import_module("atheris") if __name__ == "__main__" else None
instrumented = atheris.instrument_imports if atheris else lambda include: nullcontext()

with instrumented(include=["laconic.pack", "laconic.runtime"]):
    from laconic import pack
    from laconic.pack import MAGIC, Limits
    from laconic.pack.file import inspection  # noqa: F401 - instrumented before it is used
    from laconic.pack.wire.varint import Writer
    from laconic.runtime import network, reading
from laconic.errors import LaconicError  # noqa: E402
from tests.attacks.measure import exercise  # noqa: E402

SEED_BYTES = 2000
FEW = Limits(elements=100_000)
"""So that a case takes milliseconds; what larger claims cost is what ``tests/attacks`` measure."""


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
    """Everything up to the point where a library of others would see the graph."""
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
        except Exception:  # written down, since the runtime's own words on standard error are shut off
            Path("trace.txt").write_text(traceback.format_exc())
            raise


def write_seeds(folder: Path) -> None:
    """The attempts' contents as files, unless they are long."""
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
