"""Speed of ``encode`` and ``decode`` of whole files, and of the entropy coder alone, in one process.

One tensor of ternary (or 16-level) symbols goes through ``laconic.pack.encode`` and ``decode`` end to end:
extremes, counts, table, coder, checksums, container. The coders alone get int32 symbols and the model:
laconic's coder, and constriction (a package of the ``dev`` extra), which writes the same words. Rounds are
interleaved, so that other load affects all alike; medians are compared. Times are CPU time. The goal at 10^7
ternary symbols with 90 % zeros: 60 million symbols per second each way on one core.

Then whole files of the first source, with the tensor in one piece and in chunks, with one and two threads.
These are wall-clock times, the best of the rounds; other load on the machine lowers these rates.

Then one matrix of a few levels whose rows and columns differ in size, under each codec: bytes,
and CPU time of encoding, once the codec's settings are known, and of decoding.

Then the coder in Python and NumPy, for machines without a compiler, with 1/25 of the symbols.

    python benchmarks/coder.py [--symbols 10000000] [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy is loaded: one core, as the goal says

import numpy as np  # noqa: E402

from laconic.pack import Limits, decode, encode, estimate_bits  # noqa: E402
from laconic.pack.codecs import compiled, order0  # noqa: E402
from laconic.pack.codecs.compiled import Ans  # noqa: E402
from laconic.pack.codecs.integers import decode_integers, encode_integers  # noqa: E402
from laconic.pack.codecs.layouts import Trail  # noqa: E402
from laconic.pack.codecs.mix_search import best_mix  # noqa: E402
from laconic.pack.codecs.search import best_settings  # noqa: E402
from laconic.pack.codecs.symbols import StreamReader, StreamWriter  # noqa: E402
from laconic.pack.file.choose import Plan  # noqa: E402
from laconic.pack.wire.headers import Header  # noqa: E402
from laconic.records import IntArray, IntTensor, PackedModel, UniformGrid  # noqa: E402
from laconic.records.tensors import extremes  # noqa: E402

GOAL = 60.0
SOURCES = ("ternary 90 %", "ternary 95 %", "ternary 99 %", "16 levels")


def draw(source: str, n: int) -> IntArray:
    """Independent symbols of a source, from a fixed seed."""
    rng = np.random.default_rng(0)
    if source == "16 levels":
        return np.clip(np.round(rng.normal(0, 3, n)), -8, 7).astype(np.int32)
    zeros = float(source.split()[1]) / 100
    signs = rng.choice(np.array([-1, 1], np.int32), n)
    return np.where(rng.random(n) < zeros, np.int32(0), signs)


Calls = tuple[Callable[[], object], Callable[[], object]]


def bare(symbols: IntArray, ans: Ans) -> Calls:
    """One of laconic's coders alone: encode and decode of symbols whose model is known."""
    shifted = np.ascontiguousarray(symbols - symbols.min(), dtype=np.int32)
    counts = np.bincount(shifted)

    def write() -> bytes:
        stream = StreamWriter(ans)
        stream.draws(counts, len(shifted), shifted)
        return stream.finish(0)

    data = write()

    def read() -> object:
        return StreamReader(data, None, ans).draws(counts, len(shifted), None)

    return write, read


def peer(symbols: IntArray) -> Calls | None:
    """Constriction alone, or None where it is not installed."""
    try:
        import constriction
    except ImportError:
        return None
    shifted = np.ascontiguousarray(symbols - symbols.min(), dtype=np.int32)
    model = constriction.stream.model.Categorical(np.bincount(shifted).astype(np.float64), perfect=False)

    def write() -> object:
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(shifted, model)
        return coder.get_compressed()

    words = write()

    def read() -> object:
        return constriction.stream.stack.AnsCoder(words).decode(model, len(shifted))

    return write, read


def whole_file(model: PackedModel, threads: int) -> Calls:
    """Encode and decode of a file, as an application calls them."""
    data = encode(model, threads=threads)
    return (
        lambda: encode(model, threads=threads),
        lambda: decode(data, limits=Limits.trusted(), threads=threads),
    )


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """The time of one call; by default CPU time."""
    start = clock()
    call()
    return clock() - start


def chunk_lines(n: int, rounds: int) -> list[str]:
    """The first source in one piece and in chunks, with one and two threads: best wall-clock rates, bytes."""
    symbols = draw(SOURCES[0], n)
    # chunks are made of rows, so a matrix of one row stays in one piece
    forms = {"one piece": symbols.reshape(1, -1), "chunks": symbols}
    models = {k: PackedModel((IntTensor("weight", q, UniformGrid(0.5)),)) for k, q in forms.items()}
    cases = [("one piece", 1), ("chunks", 1), ("chunks", 2)]
    pairs = [whole_file(models[form], threads) for form, threads in cases]
    best = [[float("inf")] * 2 for _ in cases]
    for _ in range(rounds):
        for k, pair in enumerate(pairs):
            best[k] = [
                min(old, seconds(call, time.perf_counter)) for old, call in zip(best[k], pair, strict=True)
            ]
    return [
        f"{form:<10} {threads} thread{'s' * (threads > 1):<2} {n / write / 1e6:>6.0f}{n / read / 1e6:>7.0f}"
        f"  {len(encode(models[form]))} bytes"
        for (form, threads), (write, read) in zip(cases, best, strict=True)
    ]


def by_rows(rows: int = 512, columns: int = 512) -> IntArray:
    """Normal numbers, rounded, whose scale differs by row and by column: about two bits an entry."""
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(0, 0.6, (rows, 1)) + rng.normal(0, 0.6, (1, columns)))
    return np.round(0.8 * scale * rng.normal(0, 1, (rows, columns))).astype(np.int32)


def codec_lines(rounds: int) -> list[str]:
    """A matrix under codecs 1, 2 and 3: bytes, 10^6 weights/s each way."""
    matrix = by_rows()
    fit, levels = order0.fit(matrix, *extremes(matrix)), matrix.astype(np.int64)
    plan = Plan(Header(matrix.shape, UniformGrid(1.0), fit.table), matrix, fit.symbols, 0, *extremes(matrix))
    _, settings, geometry = best_settings(levels, matrix.shape, 0, Trail())
    _, mix, mixed_geometry = best_mix(levels, matrix.shape, 0, Trail())
    headers = {"static": plan.header}
    headers["adaptive"] = plan.header._replace(model=settings, geometry=geometry)
    headers["mixed"] = plan.header._replace(model=mix, geometry=mixed_geometry)
    found = []
    for name, header in headers.items():
        write, read, size = coded(plan._replace(header=header))
        rates = medians([write, read], matrix.size, rounds)
        found.append(f"{name:<10}{rates[0]:>7.1f}{rates[1]:>7.1f}  {size} bytes")
    return found


def coded(plan: Plan) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Encoding and decoding of one tensor's stream, and its bytes."""

    def write() -> bytes:
        stream = StreamWriter(compiled.coder())
        encode_integers(stream, plan, Trail())
        return stream.finish(0)

    data = write()

    def read() -> object:
        stream = StreamReader(data, compiled.extension(), compiled.coder())
        return decode_integers(stream, plan.header, Trail())

    return write, read, len(data)


def medians(calls: list[Callable[[], object]], n: int, rounds: int) -> list[float]:
    """Millions of symbols per second of each call."""
    times = [[seconds(call) for call in calls] for _ in range(rounds)]
    return [n / statistics.median(column) / 1e6 for column in zip(*times, strict=True)]


def line(source: str, n: int, rounds: int) -> str:
    """A source's row: whole files, laconic's coder alone, constriction; bits above the entropy in %."""
    symbols = draw(source, n)
    model = PackedModel((IntTensor("weight", symbols, UniformGrid(0.5)),))
    data, other = encode(model, threads=1), peer(symbols)
    pairs = [whole_file(model, 1), bare(symbols, compiled.coder())]
    pairs += [] if other is None else [other]
    rates = medians([call for pair in pairs for call in pair], n, rounds)
    cells = [f"{rate:>7.0f}" for rate in rates] + ["      -"] * (6 - len(rates))
    over = 100 * (8 * len(data) / estimate_bits(symbols) - 1)
    verdict = "" if source != SOURCES[0] else "  goal met" if min(rates[:2]) >= GOAL else "  goal missed"
    return f"{source:<14}" + "".join(cells) + f"  {over:+.3f} %{verdict}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    n, rounds = options.symbols, options.rounds
    print(f"{n} symbols, one thread, medians of {rounds}, 10^6 symbols/s each way (write, read), H: entropy")
    if peer(np.array([0, 1], np.int32)) is None:
        print("constriction is not installed: no peer in this table. Cure: pip install constriction")
    if compiled.coder() is compiled.plain_coder():
        print("installed without a compiler: files and our coder run in Python and NumPy")
    print(f"{'source':<14}{'file':>14}{'our coder':>14}{'constriction':>14}  above H")
    for source in SOURCES:
        print(line(source, n, rounds), flush=True)
    print(f"{SOURCES[0]}, files, wall clock, best of {rounds} (write, read), {os.cpu_count()} processors:")
    print(*chunk_lines(n, rounds), sep="\n")
    print("512 x 512 weights of rows and columns of different sizes, one thread (write, read):")
    print(*codec_lines(rounds), sep="\n")
    rates = medians(list(bare(draw(SOURCES[0], n // 25), compiled.plain_coder())), n // 25, 3)
    print(f"in Python and NumPy alone, {n // 25} symbols, {SOURCES[0]}: {rates[0]:.1f} and {rates[1]:.1f}")


if __name__ == "__main__":
    main()
