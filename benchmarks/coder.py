"""How fast are whole files written and read? ``encode`` and ``decode`` beside the bare coder, in one process.

One tensor of ternary (or 16-level) symbols goes through ``laconic.pack.encode`` and ``decode`` end to end:
extremes, counts, table, coder, checksums, container. The bare coder is constriction alone on int32 symbols
with the model given. Rounds are interleaved, so that other load falls on both alike; medians are compared.
The goal at 10^7 ternary symbols with 90 % zeros: 60 million symbols per second each way on one core.

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

import constriction  # noqa: E402
import numpy as np  # noqa: E402

from laconic.pack import decode, encode, estimate_bits  # noqa: E402
from laconic.records import IntArray, IntTensor, PackedModel, UniformGrid  # noqa: E402

GOAL = 60.0
SOURCES = ("ternary 90 %", "ternary 95 %", "ternary 99 %", "16 levels")


def draw(source: str, n: int) -> IntArray:
    """Independent symbols of a source, always the same."""
    rng = np.random.default_rng(0)
    if source == "16 levels":
        return np.clip(np.round(rng.normal(0, 3, n)), -8, 7).astype(np.int32)
    zeros = float(source.split()[1]) / 100
    signs = rng.choice(np.array([-1, 1], np.int32), n)
    return np.where(rng.random(n) < zeros, np.int32(0), signs)


def bare_coder(symbols: IntArray) -> tuple[Callable[[], object], Callable[[], object]]:
    """Bare constriction: encode and decode of symbols whose model is known."""
    shifted = np.ascontiguousarray(symbols - symbols.min(), dtype=np.int32)
    counts = np.bincount(shifted).astype(np.float64)
    model = constriction.stream.model.Categorical(counts, perfect=False)

    def write() -> object:
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(shifted, model)
        return coder.get_compressed()

    words = write()

    def read() -> object:
        return constriction.stream.stack.AnsCoder(words).decode(model, len(shifted))

    return write, read


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(source: str, n: int, rounds: int) -> tuple[list[float], float]:
    """Median millions of symbols per second (encode, bare, decode, bare), and bits over entropy in %."""
    symbols = draw(source, n)
    model = PackedModel((IntTensor("weight", symbols, UniformGrid(0.5)),))
    data = encode(model)
    write, read = bare_coder(symbols)
    calls: list[Callable[[], object]] = [lambda: encode(model), write, lambda: decode(data), read]
    times = [[seconds(call) for call in calls] for _ in range(rounds)]
    rates = [n / statistics.median(column) / 1e6 for column in zip(*times, strict=True)]
    return rates, 100 * (8 * len(data) / estimate_bits(symbols) - 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(f"{options.symbols} symbols, one thread, medians of {options.rounds}, 10^6 symbols/s, H: entropy")
    print(f"{'source':<14}{'encode':>8}{'bare':>8}{'ratio':>7}{'decode':>9}{'bare':>8}{'ratio':>7}  above H")
    for source in SOURCES:
        (ours, bare, back, bare_back), over = measure(source, options.symbols, options.rounds)
        line = f"{source:<14}{ours:>8.0f}{bare:>8.0f}{ours / bare:>7.2f}{back:>9.0f}{bare_back:>8.0f}"
        verdict = "" if source != SOURCES[0] else "  goal met" if min(ours, back) >= GOAL else "  goal missed"
        print(f"{line}{back / bare_back:>7.2f}  {over:+.3f} %{verdict}", flush=True)


if __name__ == "__main__":
    main()
