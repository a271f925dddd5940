"""Passes over columns: compiled and by NumPy they are the same numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from laconic.quantize import native
from laconic.quantize.passes import Rates, descent, feedback, lay_out
from laconic.quantize.resolved import Resolved, resolve
from laconic.records import IntArray

needs_compiler = pytest.mark.skipif(native.extension() is None, reason="installed without a compiler")


def _problem(blocks: int, rows: int, k: int) -> Resolved:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(blocks, rows, k, generator=generator)
    inputs = torch.randn(blocks, 3 * k, k, generator=generator).cumsum(2)
    precision = torch.rand(blocks, rows, generator=generator) + 0.1
    return resolve(weight, inputs.transpose(1, 2) @ inputs / (3 * k), 0.02, precision=precision)


def _passes(problem: Resolved, layout: str, price: float) -> list[tuple[IntArray, float]]:
    """A sweep of feedback from the nearest levels, then a pass of descent under its rates."""
    shape = problem.target.shape
    count = {"tensor": 1, "row": shape[0] * shape[2], "column": shape[1]}[layout]
    steps = lay_out(layout, np.linspace(0.2, 0.5, count), 1, shape)  # type: ignore[arg-type]
    nearest = np.rint(problem.target / steps.values(np.ones(shape, np.int32))).astype(np.int32)
    found = feedback(problem, steps, Rates(nearest, price), 16)
    return [found, descent(problem, steps, Rates(found[0], price), found[0], 16)]


@needs_compiler
@pytest.mark.parametrize("layout", ["tensor", "row", "column"])
@pytest.mark.parametrize(
    ("blocks", "rows", "k", "price"), [(1, 5, 50, 0.02), (3, 2, 9, 0.1), (1, 4, 20, 0.0)]
)
def test_compiled_passes_give_the_same_bits(
    layout: str, blocks: int, rows: int, k: int, price: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = _problem(blocks, rows, k)
    compiled = _passes(problem, layout, price)
    monkeypatch.setattr(native, "extension", lambda: None)
    plain = _passes(problem, layout, price)
    for (integers, damage), (others, other_damage) in zip(compiled, plain, strict=True):
        assert len(np.unique(integers)) > 4
        assert np.array_equal(integers, others)
        assert damage == other_damage


def test_a_column_takes_its_best_level_whatever_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all levels, tried one by one, for the first column, which no other column has moved yet."""
    problem, price = _problem(1, 6, 4), 0.3
    steps = lay_out("tensor", np.array([0.4]), 1, problem.target.shape)
    rates = Rates(np.rint(problem.target / 0.4).astype(np.int32), price)
    zero, other, level = rates.tables
    half, u = len(level) // 2, problem.upper[0, 0, 0]
    expected = []
    for r in range(6):
        w, scale = problem.target[0, 0, r], 0.5 * problem.precision[0, r] / u**2
        costs = {
            q: scale * (w - 0.4 * q) ** 2 + (other[0, 0, r] + level[q + half] if q else zero[0, 0, r])
            for q in (0, round(w / 0.4), round(w / 0.4) - int(np.sign(round(w / 0.4))))
        }
        expected.append(min(costs, key=lambda q, costs=costs: costs[q]))  # type: ignore[misc]
    for code in {native.extension(), None}:
        monkeypatch.setattr(native, "extension", lambda code=code: code)
        assert feedback(problem, steps, rates, 64)[0][0, 0].tolist() == expected


@needs_compiler
def test_compiled_passes_check_what_they_are_given() -> None:
    code = native.extension()
    assert code is not None
    shape = (1, 4, 2)
    good = [np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int32), np.zeros((1, 4, 4))]
    good += [np.ones((1, 2)), np.ones(4), np.ones((1, 2)), np.zeros(shape), np.zeros(shape), np.zeros(3)]
    code.feedback(*good, *shape, 0, 4)
    for position, run in itertools.product(range(9), (code.feedback, code.descent)):
        arrays = list(good)
        arrays[position] = arrays[position].ravel()[:-1].copy()
        with pytest.raises(ValueError, match="another length"):
            run(*arrays, *shape, 0, 4)
    for levels in (1, 4):
        with pytest.raises(ValueError, match="levels"):
            code.feedback(*good[:9], np.zeros(levels), *shape, 0, 4)
    with pytest.raises(ValueError, match="columns that there are not"):
        code.feedback(*good, *shape, 0, 5)
    with pytest.raises(ValueError, match="below 0"):
        code.feedback(*good, 1, 4, -2, 0, 4)
    with pytest.raises(ValueError, match="a level without a price"):
        code.descent(*good[:2], np.full(shape, 2, np.int32), *good[3:], *shape, 0, 4)
