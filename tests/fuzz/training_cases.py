"""Random and malformed calls of the compiled modules for training, built with sanitizers.

    python -m tests.fuzz.training_cases [--cases 1000000] [--seed 0] [--compiler clang]

A case is one call of ``_noise.draw``, ``_sweep.sweep`` or ``_mixture.sweep``: weights of any size and any
bits, sometimes an array that is too short, too long or not aligned, or an invalid range, level or code path.
A call must raise ValueError, or compute its formula: noise is compared with NumPy; all code paths of a sweep
must give the same bits, write nothing outside their range, and return the sums of what they wrote. A
sanitizer ends the process at the first fault.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from tests.fuzz.sanitized import SOURCE, Rng, again, array, build, options, size

SOURCES = (
    SOURCE / "bayes" / "noise.c",
    SOURCE / "bayes" / "kl" / "sweep.c",
    SOURCE / "bayes" / "kl" / "mixture.c",
)
LEAST = np.float32(1e-16)
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-38, 3.4e38, -3.4e38], np.float32)
F32 = np.float32


def weights(rng: Rng, n: int) -> Any:
    """Weights as in training, sometimes with numbers of any bits among them."""
    values = rng.normal(0, float(rng.choice([1e-3, 0.1, 1.0, 30.0])), n).astype(F32)
    if n and rng.random() < 0.2:
        values[rng.integers(n, size=1 + n // 7)] = rng.choice(SPECIAL)
    if n and rng.random() < 0.05:
        values = np.frombuffer(rng.bytes(4 * n), F32).copy()
    return values


def count(rng: Rng) -> int:
    """How many weights: none, few, and around the size of a block."""
    return int(rng.integers(0, 40) if rng.random() < 0.6 else rng.integers(0, 700))


def draw_case(rng: Rng, module: Any, table: Any) -> bool:
    """One call of ``draw``; whether it was taken."""
    n = count(rng)
    mean, variance = array(rng, weights(rng, n), F32), array(rng, np.abs(weights(rng, n)), F32)
    bits = array(rng, rng.integers(-(2**15), 2**15, n), np.int16)
    given = table if rng.random() > 0.02 else table[: int(rng.integers(0, table.size))]
    before = [np.array(x) for x in (mean, variance)]
    try:
        module.draw(mean, variance, bits, given, float(LEAST))
    except (ValueError, BufferError):
        if any(a.tobytes() != b.tobytes() for a, b in zip((mean, variance), before, strict=True)):
            raise RuntimeError("draw: refused, and something was written") from None
        return False
    if mean.dtype == F32 and variance.dtype == F32 and bits.dtype == np.int16:
        _compare_noise(before, (mean, variance), bits, table)
    return True


def _compare_noise(before: list[Any], after: tuple[Any, Any], bits: Any, table: Any) -> None:
    n = before[0].size
    with np.errstate(all="ignore"):
        v = np.where(before[1] < LEAST, LEAST, before[1]).astype(np.float64)
        noise = table[bits[:n].astype(np.int64) + 2**15].astype(np.float64)
        drawn = before[0] + np.sqrt(v) * noise
        close = np.isclose(after[0], drawn, rtol=1e-5, atol=1e-6 * np.sqrt(v) + 1e-30) | ~np.isfinite(drawn)
        close |= np.abs(drawn) > 1e30
    if not close.all():
        raise RuntimeError("draw: NumPy has another result")


def _log_variances(rng: Rng, n: int) -> Any:
    with np.errstate(all="ignore"):
        return 4 * weights(rng, n) - 8


def sweep_case(rng: Rng, module: Any, variants: int) -> bool:
    """One call of ``sweep`` by all code paths; whether it was taken."""
    n = count(rng)
    mean, log_var = array(rng, weights(rng, n), F32), array(rng, _log_variances(rng, n), F32)
    levels = int(rng.choice([1, 2, 3, 5, 16, 33]))
    code = np.concatenate([np.sort(rng.normal(0, 1, levels)), -rng.random(levels) * 30]).astype(F32)
    zero = bool(rng.random() < 0.5)
    if zero and rng.random() < 0.97:
        code[0] = 0.0
    code = array(rng, code, F32)
    start = int(rng.integers(0, n + 1)) if rng.random() < 0.5 else 0
    end = size(rng, int(rng.integers(start, n + 1)) if rng.random() < 0.5 else n)
    scale = float(
        rng.choice([0.05, 0.2, 1.0, 1e-30, 1e30, -1.0, 0.0, np.nan], p=[0.3, 0.3, 0.3] + 5 * [0.02])
    )
    with_value = rng.random() < 0.7
    outcomes = set()
    for variant in (*range(variants), 7) if rng.random() < 0.02 else range(variants):
        out = [np.full(n, 7.0, F32) for _ in range(3)]
        value = out[2] if with_value else None
        try:
            sums = module.sweep(mean, log_var, out[0], out[1], value, code, zero, scale, start, end, variant)
        except (ValueError, BufferError, OverflowError):
            if any((x != 7.0).any() for x in out):
                raise RuntimeError("sweep: refused, and something was written") from None
            outcomes.add(None if variant < variants else "unknown path")
            continue
        _compare_sums(out, start, end, sums, with_value)
        outcomes.add(
            b"".join(np.where(np.isnan(x), F32(np.nan), x).tobytes() for x in out) + repr(sums).encode()
        )
    outcomes.discard("unknown path")
    if len(outcomes) > 1:
        raise RuntimeError("sweep: two code paths give different bits")
    return outcomes != {None}


def _compare_sums(out: list[Any], start: int, end: int, sums: tuple[float, ...], with_value: bool) -> None:
    for x in out:
        if (x[:start] != 7.0).any() or (x[end:] != 7.0).any():
            raise RuntimeError("sweep: something was written outside the range")
    with np.errstate(all="ignore"):
        pairs = [(sums[2], out[1][start:end])] + ([(sums[0], out[2][start:end])] if with_value else [])
        for told, each in pairs:
            total, size_of = each.astype(np.float64).sum(), np.abs(each.astype(np.float64)).sum()
            if np.isfinite(size_of) and size_of < 1e30 and abs(told - total) > 1e-4 * size_of + 1e-30:
                raise RuntimeError("sweep: the sum is not that of what was written")


def mixture_case(rng: Rng, module: Any, variants: int) -> bool:
    """One call of the mixture's ``sweep`` by all code paths; whether it was taken."""
    n = count(rng)
    mean, given = array(rng, weights(rng, n), F32), array(rng, _log_variances(rng, n), F32)
    log_var = given if rng.random() < 0.7 else None
    weight = array(rng, weights(rng, n), F32) if rng.random() < 0.5 else None
    components = int(rng.choice([1, 2, 17, 33]))
    curves = -np.exp(rng.normal(5, 3, components))
    table = np.concatenate([rng.normal(0, 3, components), curves, rng.normal(0, 1, components)]).astype(F32)
    if rng.random() < 0.1:
        table[rng.integers(table.size)] = rng.choice(SPECIAL)
    table = array(rng, table, F32)
    broad = bool(rng.random() < 0.5)
    start = int(rng.integers(0, n + 1)) if rng.random() < 0.5 else 0
    end = size(rng, int(rng.integers(start, n + 1)) if rng.random() < 0.5 else n)
    rows = components + broad + (int(rng.integers(-1, 2)) if rng.random() < 0.03 else 0)
    with_out = [rng.random() < 0.8 for _ in range(3)]
    outcomes = set()
    for variant in (*range(variants), 7) if rng.random() < 0.02 else range(variants):
        out, sums = [np.full(n, 7.0, F32) for _ in range(3)], np.zeros((rows, 3))
        written = [x if there else None for x, there in zip(out, with_out, strict=True)]
        try:
            total = module.sweep(
                mean, log_var, weight, table, broad, -1.5, *written, sums, start, end, variant
            )
        except (ValueError, BufferError, OverflowError):
            if any((x != 7.0).any() for x in out) or sums.any():
                raise RuntimeError("mixture: refused, and something was written") from None
            outcomes.add(None if variant < variants else "unknown path")
            continue
        for x, there in zip(out, with_out, strict=True):
            if (x[:start] != 7.0).any() or (x[end:] != 7.0).any() or (not there and (x != 7.0).any()):
                raise RuntimeError("mixture: something was written outside the range")
        told = [np.where(np.isnan(x), np.nan, x).tobytes() for x in (*out, sums, np.float64(total))]
        outcomes.add(b"".join(told))
    outcomes.discard("unknown path")
    if len(outcomes) > 1:
        raise RuntimeError("mixture: two code paths give different bits")
    return outcomes != {None}


def run(seed: int, cases: int) -> None:
    """All cases; prints how many calls were taken and how many refused."""
    import _mixture
    import _noise
    import _sweep

    rng, paths = np.random.default_rng(seed), len(_sweep.variants())
    table = np.random.default_rng(1).normal(size=2**16).astype(F32)
    for name, one in (
        ("noise", lambda: draw_case(rng, _noise, table)),
        ("sweep", lambda: sweep_case(rng, _sweep, paths)),
        ("mixture", lambda: mixture_case(rng, _mixture, paths)),
    ):
        taken = sum(one() for _ in range(cases))
        print(
            f"{name}: {cases} cases, seed {seed}: {taken} taken, {cases - taken} refused, none at fault",
            flush=True,
        )


def main() -> int:
    """Build, then run under the sanitizers."""
    asked = options(__doc__).parse_args()
    if asked.built:
        run(asked.seed, asked.cases)
        return 0
    arguments = ["--cases", str(asked.cases), "--seed", str(asked.seed)]
    make = lambda folder: build(folder, asked.compiler, SOURCES)
    return again("tests.fuzz.training_cases", asked.compiler, make, arguments)


if __name__ == "__main__":
    sys.exit(main())
