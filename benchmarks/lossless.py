"""Lossless packing of checkpoints beside zstd and zipnn: bytes, and speed each way on one thread.

Each safetensors file is packed by ``laconic.pack_checkpoint(..., lossless=True)`` and unpacked again; the
elements must come back bit for bit. zstd (package ``zstandard``, levels 3 and 19) gets the whole file; zipnn
(package ``zipnn``) gets each tensor's elements with their type. With ``--copies``, copies in bfloat16 and
float16 are measured too. Without files, weights are drawn: normal ones, by rows of unlike size.

Then quantised packing at 3.5 bits a weight: speed of one thread, and how decoding of the largest tensor
scales with two threads (wall clock, best of the rounds; other load on the machine lowers it).

    python benchmarks/lossless.py [model.safetensors ...] [--copies] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy is loaded

import numpy as np  # noqa: E402

from laconic import pack  # noqa: E402
from laconic.checkpoints import pack_checkpoint, unpack_checkpoint  # noqa: E402
from laconic.checkpoints.safetensors import SafetensorsFile, write_safetensors  # noqa: E402
from laconic.records.element_types import ByteArray, element_type, rounded_bytes  # noqa: E402
from laconic.records.limits import Limits  # noqa: E402

ZIPNN_TYPES = {"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"}


class Row(NamedTuple):
    """Bytes, and CPU seconds of both ways."""

    name: str
    bytes: int
    write: float
    read: float


def seconds(call: Callable[[], object]) -> float:
    """CPU time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def drawn(folder: Path) -> Path:
    """Four matrices of float32 whose rows have unlike sizes."""
    rng = np.random.default_rng(0)
    rows = [(f"w{k}", (1024, 1024), "float32") for k in range(4)]
    scales = 0.02 * np.exp(0.3 * rng.normal(size=(1024, 1))).astype(np.float32)
    data = {name: (rng.normal(size=shape) * scales).astype(np.float32) for name, shape, _ in rows}
    write_safetensors(folder / "drawn.safetensors", rows, lambda n: data[n].reshape(-1).view(np.uint8), {})
    return folder / "drawn.safetensors"


def copied(path: Path, kind: str, folder: Path) -> Path:
    """A copy whose float32 tensors are rounded to ``kind``."""
    out = folder / f"{path.stem}-{kind}.safetensors"
    with SafetensorsFile(path) as file:
        types = {n: kind if e.type == "float32" else e.type for n, e in file.entries.items()}

        def read(name: str) -> ByteArray:
            data = file.read(name)
            return data if types[name] != kind else rounded_bytes(data.view("<f4"), kind)

        write_safetensors(out, [(n, e.shape, types[n]) for n, e in file.entries.items()], read, file.metadata)
    return out


def ours(path: Path, folder: Path) -> Row:
    """Pack and unpack; raises where an element differs."""
    packed, back = folder / "x.lac", folder / "back.safetensors"
    write = seconds(lambda: pack_checkpoint(path, packed, lossless=True, threads=1))
    read = seconds(lambda: unpack_checkpoint(packed, back, limits=Limits.trusted(), threads=1))
    with SafetensorsFile(path) as one, SafetensorsFile(back) as two:
        if any(not np.array_equal(one.read(name), two.read(name)) for name in one.entries):
            raise SystemExit(f"{path}: an element differs")
    return Row("laconic", packed.stat().st_size, write, read)


def by_zstd(path: Path, level: int) -> Row | None:
    """The whole file; None where zstandard is not installed."""
    try:
        import zstandard
    except ImportError:
        return None
    data, packed = path.read_bytes(), b""

    def write() -> None:
        nonlocal packed
        packed = zstandard.ZstdCompressor(level=level).compress(data)

    took = seconds(write)
    read = seconds(lambda: zstandard.ZstdDecompressor().decompress(packed))
    return Row(f"zstd {level}", len(packed), took, read)


def by_zipnn(path: Path) -> Row | None:
    """Each tensor's elements; None where zipnn is not installed."""
    try:
        from zipnn import ZipNN
    except ImportError:
        return None
    total, write, read = 0, 0.0, 0.0
    with SafetensorsFile(path) as file:
        for name, entry in file.entries.items():
            data = bytes(file.read(name))
            if entry.type not in ZIPNN_TYPES or len(data) < 64:
                total += len(data)
                continue
            packer = ZipNN(bytearray_dtype=ZIPNN_TYPES[entry.type], input_format="byte", threads=1)
            packed: list[bytes] = []
            write += seconds(
                lambda packer=packer, data=data, packed=packed: packed.append(packer.compress(data))
            )
            total += len(packed[0])
            read += seconds(lambda packer=packer, packed=packed: packer.decompress(packed[0]))
    return Row("zipnn", total, write, read)


def report(path: Path, folder: Path, rounds: int) -> None:
    """The rows of one file."""
    size = path.stat().st_size
    print(f"\n{path.name}: {size} bytes")
    calls: tuple[Callable[[], Row | None], ...] = (
        lambda: ours(path, folder),
        lambda: by_zipnn(path),
        lambda: by_zstd(path, 3),
        lambda: by_zstd(path, 19),
    )
    for call in calls:
        rows = [row for _ in range(1 if size > 10_000_000 else rounds) if (row := call()) is not None]
        if rows:
            write, read = (min(getattr(row, way) for row in rows) for way in ("write", "read"))
            rates = f"{size / write / 1e6:>8.0f} {size / read / 1e6:>8.0f}"
            print(
                f"  {rows[0].name:<10} {rows[0].bytes:>10}  {100 * rows[0].bytes / size:6.2f} %  {rates} MB/s"
            )


def quantised(path: Path, folder: Path, rounds: int) -> None:
    """Speed at 3.5 bits a weight, and two threads on the largest tensor."""
    out, best = folder / "q.lac", {}
    write = min(seconds(lambda: pack_checkpoint(path, out, bits=3.5, threads=1)) for _ in range(rounds))
    with SafetensorsFile(path) as file:
        sizes = {n: e.end - e.begin for n, e in file.entries.items()}
        weights = sum(s // element_type(file.entries[n].type).bytes for n, s in sizes.items())
    largest = max(sizes, key=lambda name: sizes[name])
    opened = pack.open(out, limits=Limits.trusted(), threads=1)
    read = min(seconds(lambda: [opened.tensor(name) for name in opened]) for _ in range(rounds))
    for threads in (1, 2):
        file = pack.open(out, limits=Limits.trusted(), threads=threads)
        times = []
        for _ in range(3 * rounds):
            start = time.perf_counter()
            file.tensor(largest)
            times.append(time.perf_counter() - start)
        best[threads] = min(times)
    print(
        f"\n{path.name} at 3.5 bits: {out.stat().st_size} bytes; {weights / write / 1e6:.1f} million weights "
        f"a second packed, {weights / read / 1e6:.1f} decoded, one thread;\n  {largest}: two threads decode "
        f"{best[1] / best[2]:.2f}x faster than one ({os.cpu_count()} processors)"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--copies", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = options.files or [drawn(folder)]
        print("bytes, share of the file, speed of packing and unpacking on one thread (CPU time)")
        for package in ("zstandard", "zipnn"):
            try:
                __import__(package)
            except ImportError:
                print(f"{package} is not installed: no row of it. Cure: pip install {package}")
        for path in files:
            kinds = ("bfloat16", "float16") if options.copies else ()
            for each in (path, *(copied(path, kind, folder) for kind in kinds)):
                report(each, folder, options.rounds)
            quantised(path, folder, options.rounds)


if __name__ == "__main__":
    main()
