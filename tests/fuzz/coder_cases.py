"""Random and malformed calls of the compiled modules of ``laconic.pack``, built with sanitizers.

    python -m tests.fuzz.coder_cases [--cases 1000000] [--seed 0] [--compiler clang]

The modules ``_coder``, ``_adaptive`` and ``_mixed`` are compiled into a temporary folder with sanitizers for
addresses and undefined behaviour, then this script starts itself again with their library loaded first. A
case is one call: sizes, words, states, tables and symbols are random, mostly such as a reader or writer
might meet, some wrong in any way (out of range, too long, not aligned, one array twice). It must return two
integers in range or raise ValueError; what was written must be read back, and one case in 64 is compared
with the coder in Python. A sanitizer ends the process at the first fault. Needs clang, or gcc with its
sanitizers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.fuzz.sanitized import SOURCE, Rng, again, array, build, options, size

MODULES = tuple(SOURCE / "pack" / "codecs" / f"{name}.c" for name in ("coder", "adaptive", "mixed"))
ONE = 1 << 15
Case = tuple[str, list[Any]]

# --- arguments ------------------------------------------------------------------------------------


def state(rng: Rng) -> int:
    """A state of up to 64 bits; sometimes 0."""
    if rng.random() < 0.01:
        return int(rng.choice([-1, -(2**60)])) if rng.random() < 0.5 else 2**64
    return int.from_bytes(rng.bytes(8)) >> int(rng.integers(64))


def probabilities(rng: Rng, n: int) -> Any:
    q = rng.integers(1, ONE, n) if rng.random() < 0.9 else rng.choice([1, 2, ONE - 1, ONE // 2], n)
    if n and rng.random() < 0.03:
        q[rng.integers(n)] = rng.choice([0, -1, ONE, 2**40, -(2**63)])
    return array(rng, q, np.int64)


def counts(rng: Rng) -> Any:
    classes = int(rng.choice([2, 3, 5, 17, 64, 300, 4096], p=[0.4, 0.2, 0.2, 0.1, 0.07, 0.02, 0.01]))
    q = rng.integers(0, int(rng.choice([2, 50, 2**17, 2**40])), classes)
    q[rng.integers(classes)] += 1
    if rng.random() < 0.03:
        q[rng.integers(classes)] = rng.choice([-1, 2**53, 2**62, -(2**63)])
    return array(rng, q if rng.random() > 0.01 else q[: rng.integers(0, 2)], np.int64)


def head(rng: Rng) -> list[Any]:
    words = rng.integers(0, 2**32, int(rng.integers(0, 20)), np.uint32)
    return [array(rng, words, np.uint32), size(rng, int(rng.integers(0, len(words) + 1))), state(rng)]


def few(rng: Rng) -> int:
    """Number of symbols; sometimes above the limit at which draws use a look-up table."""
    return int(rng.integers(0, 40)) if rng.random() < 0.95 else int(rng.integers(200, 600))


# --- cases ----------------------------------------------------------------------------------------


def reading(rng: Rng) -> Case:
    n, kind = few(rng), str(rng.choice(["flags", "draws", "bits"]))
    model = (
        probabilities(rng, n)
        if kind == "flags"
        else counts(rng)
        if kind == "draws"
        else size(rng, int(rng.integers(0, 32)))
    )
    return kind, [*head(rng), model, array(rng, np.zeros(n), np.int32)]


def writing(rng: Rng) -> Case:
    n, kind = few(rng), str(rng.choice(["flags", "draws", "bits"]))
    model: Any = size(rng, int(rng.integers(0, 32)))
    top = 1 << model if kind == "bits" and 0 <= model < 32 else 2
    if kind == "flags":
        model = probabilities(rng, n)
    elif kind == "draws":
        model = counts(rng)
        top = max(1, model.size)
    symbols = rng.integers(0, top, n)
    if n and rng.random() < 0.03:
        symbols[rng.integers(n)] = rng.choice([-1, top, 2**31 - 1, -(2**31)])
    symbols = array(rng, symbols.astype(np.int32), np.int32)
    room = symbols if rng.random() < 0.01 else array(rng, np.zeros(2 * n), np.uint32)
    return f"put_{kind}", [room, state(rng), model, symbols]


def lines(rng: Rng) -> Case:
    n = few(rng)
    hints = None if rng.random() < 0.5 else array(rng, rng.random(n) < 0.5, np.bool_)
    return "lines", [
        *head(rng),
        hints,
        size(rng, int(rng.integers(0, n + 3))),
        array(rng, np.zeros(n), np.bool_),
    ]


def signs(rng: Rng) -> Case:
    return "signs", [*head(rng), array(rng, np.zeros(few(rng)), np.uint8)]


def sizes(rng: Rng) -> Case:
    groups = rng.integers(0, 12, int(rng.integers(0, 6)))
    out = array(rng, np.zeros(int(groups.sum())), np.int32)
    if len(groups) and rng.random() < 0.02:
        groups[rng.integers(len(groups))] = rng.choice([-1, 2**22, 2**40, 2**62, -(2**63)])
    groups = array(rng, groups, np.int64)
    out = groups if rng.random() < 0.01 else out
    return "sizes", [
        *head(rng),
        size(rng, int(rng.choice([2, 3, 40, 4096], p=[0.5, 0.3, 0.19, 0.01]))),
        groups,
        out,
    ]


def cells(rng: Rng) -> Case:
    rows, columns = (int(k) for k in rng.integers(2, 12, 2))
    if rng.random() < 0.002:
        rows, columns = (2, 1100) if rng.random() < 0.5 else (1100, 2)
    at = np.sort(rng.choice(3 * columns, columns, replace=False))
    tables = np.concatenate([at, rng.integers(0, columns + 2, 4 * columns)])
    if rng.random() < 0.03:
        tables[rng.integers(tables.size)] = rng.choice([-1, columns + 2, 2**16, 2**62, -(2**63)])
    strengths = rng.choice([0, 4, 10, 12, 150], 5)
    if rng.random() < 0.02:
        strengths[rng.integers(5)] = rng.choice([-1, 1001, 2**62])
    states = array(rng, np.zeros(rows * (columns + 2)), np.int8)
    tables = array(rng, tables, np.int64)
    own = [
        size(rng, rows),
        size(rng, columns),
        size(rng, int(rng.integers(1, 9))),
        size(rng, int(rng.integers(1, ONE))),
    ]
    return "cells", [
        *head(rng),
        *own,
        array(rng, strengths, np.int64),
        tables,
        tables if rng.random() < 0.01 else states,
    ]


def mixed(rng: Rng) -> Case:
    """Reading or writing under the mixing model; some tables, values and rooms do not fit."""
    rows, columns = (int(k) for k in rng.integers(1, 12, 2))
    at = np.sort(rng.choice(3 * columns, columns, replace=False))
    tables = np.concatenate([at, rng.integers(0, columns + 2, 4 * columns)])
    if rng.random() < 0.03:
        tables[rng.integers(tables.size)] = rng.choice([-1, columns + 2, 2**16, 2**62, -(2**63)])
    tables = array(rng, tables, np.int64)
    own = [
        size(rng, rows),
        size(rng, columns),
        size(rng, int(rng.integers(1, 9))),
        bool(rng.integers(2)),
        tables,
    ]
    if rng.random() < 0.5:
        out = array(rng, np.zeros(rows * (columns + 2)), np.int32)
        return "cells", [*head(rng), *own, tables if rng.random() < 0.01 else out]
    top = int(rng.choice([2, 9, 2**12, 2**21, 2**31]))
    part = array(rng, rng.integers(-top, top, rows * columns), np.int32)
    room = 42 * rows * columns if rng.random() < 0.95 else int(rng.integers(0, 9))
    probabilities, flags = array(rng, np.zeros(room), np.int64), array(rng, np.zeros(room), np.int32)
    return "put_cells", [part, *own, probabilities, flags]


MAKERS: tuple[tuple[str, Callable[[Rng], Case]], ...] = (
    ("_coder", reading), ("_coder", writing), ("_coder", writing), ("_adaptive", lines),
    ("_adaptive", signs), ("_adaptive", sizes), ("_adaptive", cells), ("_adaptive", cells),
    ("_mixed", mixed), ("_mixed", mixed),
)  # fmt: skip


def made(seed: int, n: int) -> Iterator[tuple[str, str, list[Any]]]:
    """Module, function and arguments of each case."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        module, make = MAKERS[int(rng.integers(len(MAKERS)))]
        yield module, *make(rng)


def outcome(function: Callable[..., tuple[int, int]], arguments: list[Any]) -> Any:
    """The result of a call or its expected exception; any other exception is a fault and is not caught."""
    try:
        words, end = function(*arguments)
    except ValueError:
        return ValueError
    if (
        not 0 <= words <= max(len(memoryview(a).cast("B")) // 4 for a in (arguments[0], arguments[-1]))
        or not 0 <= end < 2**64
    ):
        raise RuntimeError(f"impossible result {words}, {end}")
    return words, end


def check(coder: Any, plain: Any, name: str, arguments: list[Any], compare: bool) -> bool:
    """Run one case; whether it was taken (and not refused)."""
    function = getattr(coder, name)
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    said = outcome(function, arguments)
    if name.startswith("put_") and name != "put_cells" and isinstance(said, tuple):
        found = np.zeros(len(memoryview(arguments[3]).cast("B")) // 4, np.int32)
        read = getattr(coder, name.removeprefix("put_"))
        model = arguments[2]
        back = read(arguments[0], said[0], said[1], model, found)
        if (back[0], back[1]) != (0, arguments[1]) and arguments[1] >= 1 << 32:
            raise RuntimeError(f"{name}: reading does not end at the start of writing")
        if found.tobytes() != arguments[3].tobytes():
            raise RuntimeError(f"{name}: the symbols read differ from those written")
    if (
        compare
        and isinstance(said, tuple)
        and hasattr(plain, name)
        and outcome(getattr(plain, name), copies) != said
    ):
        raise RuntimeError(f"{name}: the coder in Python has another result")
    return isinstance(said, tuple)


def run(seed: int, n: int) -> None:
    """All cases; prints how many were taken and how many refused."""
    import _adaptive
    import _coder
    import _mixed

    from laconic.pack.codecs import ans

    modules = {"_coder": _coder, "_adaptive": _adaptive, "_mixed": _mixed}
    taken = dict.fromkeys(("taken", "refused"), 0)
    for k, (module, name, arguments) in enumerate(made(seed, n)):
        aligned = all(not isinstance(a, np.ndarray) or a.dtype != np.uint8 for a in arguments)
        done = check(modules[module], ans, name, arguments, aligned and k % 64 == 0)
        taken["taken" if done else "refused"] += 1
    print(f"{n} cases, seed {seed}: {taken['taken']} taken, {taken['refused']} refused, none at fault")


def main() -> int:
    """Build, then run under the sanitizers."""
    asked = options(__doc__).parse_args()
    if asked.built:
        run(asked.seed, asked.cases)
        return 0
    arguments = ["--cases", str(asked.cases), "--seed", str(asked.seed)]
    make = lambda folder: build(folder, asked.compiler, MODULES)
    return again("tests.fuzz.coder_cases", asked.compiler, make, arguments)


if __name__ == "__main__":
    sys.exit(main())
