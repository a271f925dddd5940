"""The sparse kernel against float64 NumPy: odd shapes, empty rows, hostile forms, and no compiler."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.records import AnyArray, Codebook, FloatArray, IntTensor, RawTensor, Tensor, UniformGrid
from laconic.runtime.kernels import Compact, SparseMatrix, compact, native, plain
from tests.helpers.fresh import run_fresh

compiled = pytest.mark.skipif(native.extension() is None, reason="installed without a compiler")


def ternary(rows: int, cols: int, zeros: float, seed: int = 0) -> IntTensor:
    rng = np.random.default_rng(seed)
    q = rng.choice([-1, 1], (rows, cols)) * (rng.random((rows, cols)) >= zeros)
    return IntTensor("w", q.astype(np.int32), UniformGrid(0.375))


def wanted(tensor: Tensor, x: FloatArray, bias: FloatArray | None = None, relu: bool = False) -> FloatArray:
    """In float64, so that only the kernel rounds."""
    y = x.astype(np.float64) @ tensor.values().T.astype(np.float64)
    y = y if bias is None else y + bias
    return (np.maximum(y, 0) if relu else y).astype(np.float32)


def close(got: FloatArray, right: FloatArray) -> None:
    assert got.shape == right.shape
    assert got.dtype == np.float32
    scale = max(1e-30, float(np.abs(right).max(initial=0)))
    assert float(np.abs(got - right).max(initial=0)) <= 1e-5 * scale


def tensors(rows: int, cols: int, zeros: float) -> list[Tensor]:
    """Ternary, an uneven codebook, many levels (which keep values), and plain floats."""
    rng = np.random.default_rng(rows * 1000 + cols)
    there = rng.random((rows, cols)) >= zeros
    codes = np.where(there, rng.integers(0, 5, (rows, cols)), 2).astype(np.int32)
    fine = (rng.integers(-20_000, 20_000, (rows, cols)) * there).astype(np.int32)
    wide = (rng.integers(-(2**30), 2**30, (rows, cols)) * there).astype(np.int32)
    return [
        ternary(rows, cols, zeros),
        IntTensor("w", codes, Codebook((-2.0, -0.5, 0.0, 0.25, 3.0))),
        IntTensor("w", fine, UniformGrid(0.001953125)),
        IntTensor("w", wide, UniformGrid(2.0**-20)),
        RawTensor("w", (rng.standard_normal((rows, cols)) * there).astype(np.float32)),
    ]


@pytest.fixture(params=["compiled", "scipy", "numpy"])
def code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "compiled":
        monkeypatch.setattr(native, "extension", lambda: None)
    elif native.extension() is None:
        pytest.skip("installed without a compiler")
    if request.param == "scipy":
        pytest.importorskip("scipy.sparse")
    if request.param == "numpy":
        monkeypatch.setattr(plain, "scipy_sparse", lambda: None)
        monkeypatch.setattr(plain, "PRODUCTS_AT_ONCE", 500)
    return str(request.param)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (67, 1), (64, 64), (129, 93), (3, 1025)])
@pytest.mark.parametrize("zeros", [0.0, 0.6, 0.97, 1.0])
def test_products_are_numpys(shape: tuple[int, int], zeros: float, code: str) -> None:
    rng = np.random.default_rng(1)
    for tensor in tensors(*shape, zeros):
        matrix = SparseMatrix(compact(tensor))
        assert matrix.entries == tensor.nonzeros()
        for batch in (0, 1, 2, 7, 8, 9, 16, 17, 31, 33, 40):
            x = rng.standard_normal((batch, shape[1])).astype(np.float32)
            close(matrix(x), wanted(tensor, x))
        bias = rng.standard_normal(shape[0]).astype(np.float32)
        close(matrix(x, bias, relu=True), wanted(tensor, x, bias, relu=True))
        close(matrix(x[0]), wanted(tensor, x[0]))


def test_ranks_strides_and_columns_beyond_sixteen_bits(code: str) -> None:
    x = np.random.default_rng(2).standard_normal((2, 3, 50, 2)).astype(np.float32)
    tensor = ternary(20, 50, 0.8)
    strided = x[..., 0]
    assert not strided.flags.c_contiguous
    close(SparseMatrix(compact(tensor))(strided), wanted(tensor, strided))
    for many in (ternary(9, 70_000, 0.99), RawTensor("w", ternary(9, 70_000, 0.9999).values())):
        form = compact(many)
        assert len(form.blocks) == 3
        wide = np.random.default_rng(3).standard_normal((5, 70_000)).astype(np.float32)
        bias = np.ones(9, np.float32)
        for batch in (1, 5):
            close(SparseMatrix(form)(wide[:batch], bias, True), wanted(many, wide[:batch], bias, True))


def test_empty_rows_and_one_full_row(code: str) -> None:
    q = np.zeros((200, 130), np.int32)
    q[77] = 1
    tensor = IntTensor("w", q, UniformGrid(0.5))
    x = np.random.default_rng(4).standard_normal((12, 130)).astype(np.float32)
    close(SparseMatrix(compact(tensor))(x), wanted(tensor, x))
    close(SparseMatrix(compact(tensor))(x[:1]), wanted(tensor, x[:1]))


@pytest.mark.parametrize("form", ["grouped", "coded", "valued"])
def test_rows_of_every_length_count_each_entry_once(form: str, code: str) -> None:
    """Row r has r entries; all sums are of integers, so they are exact in any order."""
    rng = np.random.default_rng(8)
    size, levels = 200, 1 if form == "grouped" else 15
    q = np.zeros((size, size), np.int32)
    for row in range(size):
        q[row, rng.permutation(size)[:row]] = rng.integers(1, levels, row, endpoint=True)
    stored: Tensor = RawTensor("w", q.astype(np.float32))
    packed = compact(stored if form == "valued" else IntTensor("w", q, UniformGrid(1.0)))
    assert packed.blocks[0].form == form
    x = rng.integers(-999, 999, (3, size)).astype(np.float32)
    for batch in (1, 3):
        np.testing.assert_array_equal(SparseMatrix(packed)(x[:batch]), x[:batch] @ q.T.astype(np.float32))


def test_infinities_and_nans_pass_through(code: str) -> None:
    tensor = IntTensor("w", np.array([[1, 0], [0, 1]], np.int32), UniformGrid(1.0))
    for batch in (1, 3):
        x = np.tile(np.array([[np.nan, np.inf]], np.float32), (batch, 1))
        y = SparseMatrix(compact(tensor))(x, relu=True)
        assert np.isnan(y[:, 0]).all()
        assert (y[:, 1] == np.inf).all()


def test_threads_change_no_bit() -> None:
    tensor = ternary(2100, 700, 0.2)
    alone = SparseMatrix(compact(tensor))
    with ThreadPoolExecutor(3) as pool:
        together = SparseMatrix(compact(tensor), threads=4, pool=pool)
        for batch in (1, 5, 150):
            x = np.random.default_rng(batch).standard_normal((batch, 700)).astype(np.float32)
            assert len(list(together._parts(batch))) > 1
            np.testing.assert_array_equal(together(x), alone(x))


@compiled
def test_all_code_paths_give_the_same_bits() -> None:
    code = native.extension()
    assert code is not None
    names = code.variants()
    assert names[0] == "baseline"
    for tensor in tensors(70, 90, 0.7):
        for batch in (1, 3, 12, 40):
            x = np.random.default_rng(5).standard_normal((batch, 90)).astype(np.float32)
            results = [SparseMatrix(compact(tensor), variant=name)(x) for name in names]
            for result in results[1:]:
                np.testing.assert_array_equal(result, results[0])


@compiled
def test_instructions_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match=r"no avx9; it runs baseline.*Cure"):
        SparseMatrix(compact(ternary(4, 4, 0.5)), variant="avx9")
    with pytest.raises(InputError, match="this processor has no avx512f; it runs baseline"):
        native.pick_variant(["baseline"], "avx512f")
    assert SparseMatrix(compact(ternary(4, 4, 0.5)), variant="baseline").code == "baseline"


def test_it_says_that_the_extension_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "extension", lambda: None)
    matrix = SparseMatrix(compact(ternary(4, 4, 0.5)))
    assert matrix.code in ("scipy", "numpy")
    assert "compiled kernel is missing" in matrix.note


def test_memory_is_about_two_bytes_an_entry_and_six_with_values() -> None:
    few, many = ternary(2048, 2048, 0.95), RawTensor("w", ternary(2048, 2048, 0.95).values())
    assert SparseMatrix(compact(few)).nbytes <= 2.2 * few.nonzeros()
    assert SparseMatrix(compact(many)).nbytes <= 6.2 * many.nonzeros()


def _with(array: AnyArray, place: tuple[int, ...], value: int) -> AnyArray:
    changed = array.copy()
    changed[place] = value
    return changed


def damaged() -> Iterator[tuple[str, Compact]]:
    """Forms that no :func:`compact` makes."""
    form = compact(ternary(600, 100, 0.5))
    (block,) = form.blocks
    assert block.form == "grouped"
    more = int(block.runs[0, 1]) + 1
    changes: dict[str, dict[str, object]] = {
        "panels": {"panels": _with(block.panels, (1,), 0)},
        "more panels": {"panels": _with(block.panels, (1,), 60_000)},
        "longer": {"runs": _with(block.runs, (0, 1), more)},
        "more lists": {"runs": _with(block.runs, (0, 0), 65_535)},
        "level": {"runs": _with(block.runs, (0, 2), 2)},
        "row": {"row": _with(block.row, (-1,), 88)},
        "far row": {"row": _with(block.row, (0,), 512)},
        "outside": {"columns": _with(block.columns, (7,), 100)},
        "short": {"columns": block.columns[:-1]},
        "fewer rows": {"row": block.row[:-1]},
        "levels": {"reals": block.reals[:1]},
        "values": {"form": "valued"},
        "form": {"form": "other"},
        "bits": {"bits": 12},
        "cols": {"cols": 70_000},
        "rows": {"rows": 599},
        "kinds": {"columns": block.columns.astype(np.int32)},
        "rank": {"row": block.row[:, None]},
    }
    for name, change in changes.items():
        yield name, form._replace(blocks=(block._replace(**change),))  # type: ignore[arg-type]
    form = compact(ternary(10, 30, 0.9))
    (block,) = form.blocks
    assert block.form == "coded"
    for name, change in {
        "no level": {"reals": block.reals[:1]},
        "column": {"cols": 20},
        "no bits": {"bits": 0},
    }.items():
        yield name, form._replace(blocks=(block._replace(**change),))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "form"), list(damaged()))
def test_hostile_forms_are_refused(name: str, form: Compact, code: str) -> None:
    with pytest.raises(InputError):
        SparseMatrix(form)


@compiled
@pytest.mark.parametrize(("name", "form"), [pair for pair in damaged() if pair[0] not in ("kinds", "rank")])
def test_the_compiled_code_refuses_them_by_itself(name: str, form: Compact) -> None:
    code = native.extension()
    assert code is not None
    with pytest.raises(InputError, match="contradicts itself"):
        native.sparse_block(form.blocks[0], code, 0)


@compiled
def test_a_call_that_fits_goes_the_quick_way_and_no_other_does() -> None:
    tensor = ternary(30, 20, 0.5)
    matrix = SparseMatrix(compact(tensor))
    x, bias = np.random.default_rng(6).standard_normal((2, 3, 20)).astype(np.float32), np.ones(30, np.float32)
    for given in (x, x[0], x[0, 0], x[:0], x[:1, :1]):
        for arguments in ((given, None, False), (given, bias, True)):
            y = matrix._quick(*arguments)
            assert y is not None
            assert y.flags.owndata
            np.testing.assert_array_equal(y, matrix._long_way(*arguments))
    unaligned = np.frombuffer(b"\0" * 81, np.uint8)[1:].view(np.float32)
    odd: list[Any] = [x.astype(np.float64), x.astype(">f4"), x[..., :19], x[..., ::-1], x[0, 0, 0], unaligned]
    odd += [x.view(np.int32), x.tolist(), None]
    assert all(matrix._quick(wrong, None, False) is None for wrong in odd)
    for wrong_bias in (bias[:29], bias.astype(np.float64), bias[:, None], 1.0):
        assert matrix._quick(x, wrong_bias, False) is None  # type: ignore[arg-type]
    np.testing.assert_array_equal(matrix(unaligned), matrix(unaligned.copy()))
    with pytest.raises(TypeError):
        matrix._quick(x)  # type: ignore[call-arg]


@compiled
def test_weights_share_pages_and_leave_them() -> None:
    rng = np.random.default_rng(7)
    tensor, x = ternary(300, 200, 0.6), rng.standard_normal((1, 200)).astype(np.float32)
    right = SparseMatrix(compact(tensor))(x)
    kept: list[SparseMatrix] = []
    for _ in range(300):
        kept.append(SparseMatrix(compact(tensor)))
        if rng.random() < 0.4:
            del kept[int(rng.integers(len(kept)))]
    for matrix in kept:
        np.testing.assert_array_equal(matrix(x), right)


@compiled
def test_the_compiled_code_checks_each_call() -> None:
    code = native.extension()
    assert code is not None
    (block,) = compact(ternary(10, 30, 0.5)).blocks
    assert block.form == "coded"
    arrays = [a.tobytes() for a in block.arrays]
    matrix = code.pack(10, 30, 5, 1, 5, *arrays)
    x, y, bias = np.ones((2, 35), np.float32), np.zeros((2, 10), np.float32), np.ones(10, np.float32)
    fits: list[Any] = [matrix, x, 35, 2, y, bias, False, False, 0, 10, 0]
    code.multiply(*fits)
    unaligned = np.frombuffer(b"\0" * (x.nbytes + 1), np.uint8)[1:]
    changes = [
        (2, 34),
        (2, -35),
        (2, 2**62),
        (3, 3),
        (3, -1),
        (3, 2**62),
        (4, np.zeros(19, np.float32)),
        (10, 9),
    ]
    changes += [
        (5, bias[:9].copy()),
        (8, 1),
        (8, -64),
        (9, 11),
        (9, -1),
        (10, -1),
        (1, x[:, :34].copy()),
        (1, unaligned),
    ]
    for place, value in changes:
        call = list(fits)
        call[place] = value
        with pytest.raises((ValueError, BufferError)):
            code.multiply(*call)
    with pytest.raises((ValueError, TypeError)):
        code.multiply(object(), *fits[1:])
    with pytest.raises(TypeError):
        code.multiply(matrix, x, 35, 2, y.tobytes(), *fits[5:])
    sizes = [
        (-1, 30, 5, 1, 5),
        (10, 30, -5, 1, 5),
        (2**40, 30, 0, 1, 5),
        (10, 65536, 0, 1, 5),
        (10, 30, 2**40, 1, 5),
    ]
    sizes += [
        (10, 30, 0, 3, 5),
        (10, 30, 0, -1, 5),
        (10, 30, 0, 1, 17),
        (10, 30, 0, 0, 5),
        (600, 30, 0, 1, 5),
    ]
    for wrong in sizes:
        with pytest.raises(ValueError):
            code.pack(*wrong, *arrays)


def test_wrong_arguments_are_named() -> None:
    matrix = SparseMatrix(compact(ternary(4, 6, 0.5)))
    for x in (np.ones((1, 5), np.float32), np.ones((1, 6)), np.float32(1) * np.ones((), np.float32)):
        with pytest.raises(InputError, match=r"a matrix of 4x6 takes float32 \(\.\.\., 6\), got"):
            matrix(x)
    with pytest.raises(InputError, match=r"the bias must be float32 \(4,\)"):
        matrix(np.ones((1, 6), np.float32), np.ones(3, np.float32))
    with pytest.raises(InputError, match="must be a matrix"):
        compact(RawTensor("w", np.ones(3, np.float32)))
    with pytest.raises(InputError, match="must be a matrix"):
        compact(RawTensor("w", np.ones((3, 3), np.int64)))


RESIDENT = """
import numpy as np
from laconic.records import IntTensor, UniformGrid
from laconic.runtime.kernels import SparseMatrix, compact

def resident():
    with open("/proc/self/statm") as file:
        return 4096 * int(file.read().split()[1])

form = compact(IntTensor("w", np.eye(64, dtype=np.int32), UniformGrid(1.0)))
before = resident()
matrix = SparseMatrix(form)
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_small_matrix_takes_no_large_page() -> None:
    """2 MiB of zeros for 64 entries: the system takes up to 4 ms to clear them."""
    assert int(run_fresh(RESIDENT)) < 2**20
