"""Random and malformed calls of the kernels' compiled modules, built with sanitizers.

    python -m tests.fuzz.kernel_cases [--module sparse|twobit] [--cases 1000000] [--seed 0] [--pages]

The modules ``_sparse`` and ``_twobit`` are compiled with the sanitizers for addresses and undefined
behaviour, then this script starts itself again on them. A case is one call of ``pack``, ``multiply``,
``quick``, of the function that ``quick`` returns, or of ``nbytes``. Matrices are small; entries and
activations are random, some infinite, NaN, denormal or near the largest float32. One call in four is wrong
in one argument: another type or length, not aligned, not contiguous, read-only, out of range. It must raise
``ValueError``, ``TypeError``, ``BufferError`` or ``OverflowError`` and leave y as it was, or give what NumPy
gives (sparse: within the rounding of float32; two bits: the same numbers). Some matrices are multiplied by
the library's classes, with 1 and 2 threads. A sanitizer ends the process at the first fault.

Each block of weights is allocated by malloc, so that the sanitizer checks its end; with ``--pages`` blocks
are parts of large pages as on Linux (memory.h), and only the arguments of calls are checked.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from laconic.errors import InputError
from laconic.records import Codebook, IntTensor, RawTensor, Tensor, UniformGrid
from laconic.runtime import kernels
from laconic.runtime.kernels import matrix, native, plain
from laconic.runtime.kernels.compact_forms import FORMS, PANEL, Block, compact
from laconic.runtime.kernels.two_bit_forms import GROUP, two_bits
from tests.fuzz.kernel_arguments import read_only, reals, spoiled, strided
from tests.fuzz.sanitized import SOURCE, Rng, again, array, build, options, size

MODULES = tuple(SOURCE / "runtime" / "kernels" / f"{name}.c" for name in ("sparse", "twobit"))
REFUSALS = (ValueError, TypeError, BufferError, OverflowError)
SAFE = 1e38  # below it no float32 sum in any order overflows
Oracle = Callable[["Product"], tuple[Any, Any] | None]


@dataclass(frozen=True, eq=False)
class Product:
    """A call's product: y (batch, rows) before it, and its arguments as float32; ``rows`` of y are filled."""

    x: Any
    y: Any
    bias: Any
    relu: bool
    add: bool
    rows: range


@dataclass(frozen=True, eq=False)
class Case:
    """Arguments of ``pack``, the shape that a good call has, and the product by NumPy, if it has one."""

    packed: list[Any]
    rows: int
    cols: int
    first: int
    oracle: Oracle


# --- matrices -------------------------------------------------------------------------------------


def tensor(rng: Rng) -> Tensor:
    """A matrix of any form; some have several panels, some hold values that no writer produces."""
    cols = int(rng.choice([0, 1, 3, 9, 17, 40, 90, 700], p=[0.02, 0.1, 0.2, 0.2, 0.2, 0.17, 0.1, 0.01]))
    rows = int(rng.integers(0, 14)) if rng.random() < 0.99 else int(rng.integers(PANEL - 2, 2 * PANEL + 3))
    there = rng.random((rows, cols)) < rng.choice([0.02, 0.2, 0.7, 1.0])
    kind = rng.random()
    if kind < 0.3:
        return RawTensor("w", np.where(there, reals(rng, rows, cols), np.float32(0)))
    levels = int(rng.choice([1, 2, 7, 300]))
    q = np.where(there, rng.integers(-levels, levels + 1, there.shape), 0).astype(np.int32)
    if kind < 0.5:
        values = np.arange(2 * levels + 1, dtype=np.float32) - levels
        return IntTensor("w", (q + levels).astype(np.int32), Codebook(tuple(map(float, values))))
    return IntTensor("w", q, UniformGrid(float(np.float32(rng.choice([0.5, 1e-3, 1e-40, 1e36])))))


def sparse_case(rng: Rng) -> Case:
    """Arrays of the compact form, one in five changed in some entries."""
    block = compact(tensor(rng)).blocks[0]
    first = int(rng.choice([0, 0, 0, 1, 5]))
    arrays = [np.array(part) for part in block.arrays]
    if rng.random() < 0.2:
        part = arrays[int(rng.integers(5))].reshape(-1)
        where = rng.integers(0, part.size, int(rng.integers(1, 3))) if part.size else []
        part[where] = rng.choice([0, 1, 2, 511, 512, 65535])
    sizes = [size(rng, n) for n in (block.rows, block.cols, first, FORMS.index(block.form), block.bits)]
    arrays = [array(rng, part, part.dtype) for part in arrays]
    packed = spoiled(rng, [*sizes, *arrays])
    return Case(packed, block.rows, block.cols, first, sparse_oracle(packed))


def sparse_oracle(packed: list[Any]) -> Oracle:
    """Sums in float64, and how far float32 may be from them; none for arrays that contradict themselves."""
    try:
        rows, cols, first, form, bits, panels, runs, row, columns, values = packed
        if not all(isinstance(n, int) for n in packed[:5]):
            return lambda product: None
        block = Block(rows, first, cols, panels, runs, row, columns, values, FORMS[form], bits)
        block.check()
        if min(rows, first) < 0 or not all(part.dtype.isnative for part in block.arrays):
            return lambda product: None
    except (InputError, *REFUSALS, IndexError, AttributeError):
        return lambda product: None
    weights, count = np.zeros((2, rows, cols))
    size_of = np.zeros((rows, cols))
    with np.errstate(all="ignore"):
        for total, part in ((weights, block.values()), (count, 1), (size_of, np.abs(block.values()))):
            np.add.at(total, (block.entry_rows(), block.places()), part)
    alone = size_of if block.form != "grouped" else np.maximum(size_of, count)

    def expected(product: Product) -> tuple[Any, Any] | None:
        x = product.x[:, first : first + cols].astype(np.float64)
        if np.isfinite(x).all() and np.isfinite(weights).all():
            sums = x @ weights.T
        elif count.max(initial=0) > 1:  # infinities of two entries at one position may cancel to NaN
            return None
        else:
            sums = np.where(count > 0, weights * x[:, None, :], 0).sum(axis=2)
        plain_x = np.nan_to_num(np.abs(x), nan=0, posinf=0)
        room = plain_x @ np.nan_to_num(size_of, nan=0, posinf=0).T
        largest = plain_x @ np.nan_to_num(alone, nan=0, posinf=0).T
        sums, more = _finished(sums, product)
        entries = cols + 8
        near = 2.0**-23 * entries * (room + more) + 1.5e-45 * entries
        return sums, np.where(np.maximum(largest, room) + more < SAFE, near, np.inf)

    return expected


def _finished(sums: Any, product: Product) -> tuple[Any, Any]:
    """The output after bias, addition and ReLU, and the magnitude of the added terms."""
    more = np.zeros_like(sums)
    parts = ([product.y] if product.add else []) + ([product.bias[None]] if product.bias is not None else [])
    for part in parts:
        sums = sums + part.astype(np.float64)
        more = more + np.nan_to_num(np.abs(part.astype(np.float64)), nan=0, posinf=0)
    return np.maximum(sums, 0) if product.relu else sums, more


def two_bit_case(rng: Rng) -> Case:
    """Integers of two bits in the order of twobit.c."""
    from laconic.runtime.kernels.two_bit_forms import packed as in_order

    lowest = -int(rng.integers(0, 4))
    rows = int(rng.integers(0, 10))
    cols = int(rng.choice([0, 1, 15, 16, 63, 65, 130, 255, 256, 257, 321, 600]))
    step = float(rng.choice([0.5, 1e-3, 1e-44, 1e38, np.inf, np.nan, 0.0, -2.0], p=[0.4, 0.3, *[0.05] * 6]))
    form = two_bits(rng.integers(lowest, lowest + 4, (rows, cols)).astype(np.int32), step)
    codes = in_order(form)
    packed = spoiled(
        rng, [size(rng, rows), size(rng, cols), size(rng, form.lowest), step, array(rng, codes, np.uint8)]
    )
    same = repr(packed[:4]) == repr([rows, cols, form.lowest, step]) and len(packed) == 5
    same = same and isinstance(packed[4], np.ndarray) and packed[4].tobytes() == codes.tobytes()
    block = plain.PlainTwoBits(form)

    def expected(product: Product) -> tuple[Any, Any]:
        y = product.y.copy()
        block.multiply(product.x[:, :cols], y, product.bias, product.relu, product.add, range(rows))
        return y, 0.0

    return Case(packed, rows, cols, 0, expected if same else lambda product: None)


# --- calls ----------------------------------------------------------------------------------------


def call_arguments(rng: Rng, case: Case, capsule: object, unit: int, variants: int) -> list[Any]:
    """Of ``multiply``: a range of rows of a product."""
    batch = int(rng.choice([0, 1, 2, 3, 9, 17, 33, 66], p=[0.04, 0.4, 0.2, 0.16, 0.1, 0.05, 0.04, 0.01]))
    width = case.first + case.cols + (int(rng.integers(0, 3)) if unit == PANEL else 0)
    width = case.cols if unit == GROUP and rng.random() < 0.5 else width
    row0, row1 = sorted(int(n) * unit for n in rng.integers(0, case.rows // unit + 2, 2))
    row1 = case.rows if row1 > case.rows or rng.random() < 0.6 else row1
    row0 = 0 if row0 > row1 or rng.random() < 0.6 else row0
    x, y = reals(rng, batch, width), reals(rng, batch, case.rows)
    bias = None if rng.random() < 0.5 else reals(rng, case.rows)
    flags = [bool(rng.random() < 0.3), bool(rng.random() < 0.3)]
    variant = int(rng.integers(variants))
    return spoiled(rng, [capsule, x, width, batch, y, bias, *flags, row0, row1, variant])


def floats(buffer: Any, *shape: int) -> Any:
    """A copy of what a buffer holds; a text is one, too."""
    held = buffer.encode() if isinstance(buffer, str) else memoryview(buffer).tobytes()
    return np.frombuffer(held, np.float32).reshape(shape).copy()


def compare(case: Case, product: Product, got: Any) -> None:
    """Raise unless y is NumPy's in the rows that were asked for, and untouched in the others."""
    rest = np.ones(got.shape[-1], bool)
    rest[product.rows] = False
    if got[:, rest].tobytes() != product.y[:, rest].tobytes():
        raise RuntimeError("rows outside the requested range were written")
    with np.errstate(all="ignore"):
        found = case.oracle(product)
        if found is None:
            return
        wanted, room = (np.broadcast_to(part, got.shape)[:, product.rows] for part in found)
        got = got[:, product.rows].astype(np.float64)
        fits = (got == wanted) | (np.isnan(got) & np.isnan(wanted)) | (np.abs(got - wanted) <= room)
        fits |= np.isinf(room)
    if not fits.all():
        raise RuntimeError(f"NumPy gives {wanted[~fits]}, the kernel {got[~fits]} (within {room[~fits]})")


def multiply(module: Any, case: Case, arguments: list[Any]) -> bool:
    """One call; whether it was taken."""
    y = arguments[4] if len(arguments) > 4 else None
    before = y.copy() if isinstance(y, np.ndarray) else None
    try:
        module.multiply(*arguments)
    except REFUSALS:
        if before is not None and before.tobytes() != y.tobytes():
            raise RuntimeError("a refused call has written to y") from None
        return False
    _, x, width, batch, _, bias, relu, add, row0, row1, _ = arguments
    if case.rows == 0 or width == 0:  # nothing is written, or nothing read, for 2^31 rows of x as for one
        return True
    before = floats(before, batch, case.rows)
    bias = None if bias is None else floats(bias, case.rows)
    product = Product(floats(x, batch, width), before, bias, bool(relu), bool(add), range(row0, row1))
    if product.x.shape[1] >= case.first + case.cols:
        compare(case, product, floats(y, batch, case.rows))
    return True


def bad_empties(rng: Rng) -> Callable[..., Any]:
    """``numpy.empty``, or a function that behaves differently."""
    others: list[Callable[..., Any]] = [
        lambda shape, dtype: np.empty(shape, np.float64),
        lambda shape, dtype: np.empty((*shape[:-1], shape[-1] + 1), dtype),
        lambda shape, dtype: read_only(np.zeros(shape, dtype)),
        lambda shape, dtype: strided(np.zeros(shape, dtype)),
        lambda shape, dtype: None,
        lambda shape: shape,
        lambda shape, dtype: bytearray(4 * int(np.prod(shape))),
    ]
    return np.empty if rng.random() < 0.9 else others[int(rng.integers(len(others)))]


def quick_calls(rng: Rng, module: Any, case: Case, capsule: object, variants: int) -> Iterator[bool]:
    """``quick``, and calls of the function that it returns."""
    dtype = np.dtype(np.float32)
    asked = spoiled(
        rng, [capsule, bad_empties(rng), dtype, int(rng.choice([0, 1, 40])), int(rng.integers(variants))]
    )
    try:
        function = module.quick(*asked)
    except REFUSALS:
        yield False
        return
    yield True
    for _ in range(int(rng.integers(1, 8))):
        shape = [(), (1,), (3,), (2, 5), (0,), (41,)][
            int(rng.choice(6, p=[0.3, 0.25, 0.2, 0.15, 0.05, 0.05]))
        ]
        x = reals(rng, *shape, case.cols)
        bias = None if rng.random() < 0.5 else reals(rng, case.rows)
        given = spoiled(rng, [x, bias, bool(rng.random() < 0.5)])
        try:
            y = function(*given)
        except REFUSALS:
            yield False
            continue
        if y is not None and isinstance(given[0], np.ndarray):
            flat = (
                floats(given[0], -1 if case.cols else max(1, given[0].size), case.cols) if case.cols else None
            )
            if flat is not None:
                before = floats(y, len(flat), case.rows)
                bias = None if given[1] is None else floats(given[1], case.rows)
                product = Product(flat, before, bias, bool(given[2]), False, range(case.rows))
                compare(case, product, before)
        yield y is not None


def by_classes(rng: Rng, pool: ThreadPoolExecutor) -> None:
    """A matrix of the library with one and with two threads: the same bits, all variants too."""
    weight = tensor(rng)
    form = compact(weight)
    integers = rng.integers(-1, 3, form.shape).astype(np.int32)
    x = reals(rng, int(rng.choice([1, 2, 40])), form.shape[1])
    bias = reals(rng, form.shape[0])
    for make, what in ((matrix.SparseMatrix, form), (matrix.TwoBitMatrix, two_bits(integers, 0.5))):
        one = make(what)(x, bias, True)  # type: ignore[operator]
        two = make(what, threads=2, pool=pool)(x, bias, True)  # type: ignore[operator]
        if not np.array_equal(one, two, equal_nan=True):
            raise RuntimeError("two threads give another result than one")


def calls(rng: Rng, module: Any, make: Callable[[Rng], Case], unit: int) -> Iterator[bool]:
    """One matrix: each call, whether it was taken."""
    case, variants = make(rng), len(module.variants())
    try:
        capsule = module.pack(*case.packed)
    except REFUSALS:
        yield False
        return
    yield True
    if case.packed[:2] != [
        case.rows,
        case.cols,
    ]:  # a wrong size that fits is no fault, and has other products
        return
    if module.nbytes(capsule) <= 0:
        raise RuntimeError("a matrix takes no memory")
    yield True
    for _ in range(int(rng.integers(1, 24))):
        yield multiply(module, case, call_arguments(rng, case, capsule, unit, variants))
    if rng.random() < 0.5:
        yield from quick_calls(rng, module, case, capsule, variants)


MAKERS = {"sparse": (sparse_case, PANEL), "twobit": (two_bit_case, GROUP)}


def run(seed: int, cases: int, name: str) -> None:
    """All cases of a module; prints how many were taken and how many refused."""
    for stem in MAKERS:
        module = importlib.import_module(f"_{stem}")
        sys.modules[f"{kernels.__name__}._{stem}"] = module
        setattr(kernels, f"_{stem}", module)
    if native.extension() is None or native.two_bit_extension() is None:
        raise RuntimeError("the sanitizers' build is not the one that runs")
    matrix.WORTH_A_THREAD = 1  # so that small products are shared by threads
    rng, counts = np.random.default_rng(seed), Counter[bool]()
    matrices = 0
    with ThreadPoolExecutor(2) as pool:
        while counts.total() < cases:
            counts.update(calls(rng, importlib.import_module(f"_{name}"), *MAKERS[name]))
            matrices += 1
            if matrices % 100 == 0:
                by_classes(rng, pool)
    taken, refused = counts[True], counts[False]
    print(f"{name}: {taken + refused} calls, seed {seed}: {taken} taken, {refused} refused, none at fault")


def main() -> int:
    """Build, then run under the sanitizers."""
    parser = options(__doc__)
    parser.add_argument("--module", choices=list(MAKERS), action="append")
    parser.add_argument("--pages", action="store_true", help="weights in large pages, as Linux runs them")
    asked = parser.parse_args()
    names = asked.module or list(MAKERS)
    if asked.built:
        for name in names:
            run(asked.seed, asked.cases, name)
        return 0
    flags = [] if asked.pages else ["-U__linux__"]
    arguments = ["--cases", str(asked.cases), "--seed", str(asked.seed)]
    arguments += [word for name in names for word in ("--module", name)]
    make = lambda folder: build(folder, asked.compiler, MODULES, flags)
    return again("tests.fuzz.kernel_cases", asked.compiler, make, arguments)


if __name__ == "__main__":
    sys.exit(main())
