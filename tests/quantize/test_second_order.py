from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from laconic.errors import InputError, NonFiniteError
from laconic.quantize import second_order
from laconic.quantize.passes import Rates, beam, descent, feedback, lay_out, refit
from laconic.quantize.rate_model import rate_bits
from laconic.quantize.resolved import resolve
from laconic.quantize.second_order import (
    BITS_OF_CODES,
    BITS_PER_STEP,
    CODE_ABOVE_MANTISSA,
    MOST_LEVELS,
    QuantizedMatrix,
    SecondOrder,
    quantize_matrix,
    step_mantissa,
)
from laconic.quantize.uniform import bfloat16
from laconic.records import UniformGrid

PLAIN = SecondOrder(damping=0.01, layouts=("tensor",))


def _inputs(seed: int, samples: int, k: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Correlated inputs, and the same with noise in them; float64 (samples, k)."""
    torch.manual_seed(seed)
    x = torch.randn(samples, k, dtype=torch.float64) @ (
        torch.eye(k, dtype=torch.float64) + 0.7 * torch.randn(k, k, dtype=torch.float64) / math.sqrt(k)
    )
    return x, x + noise * torch.randn(samples, k, dtype=torch.float64)


def _mean(x: Tensor, y: Tensor) -> Tensor:
    return x.T @ y / len(x)


def _laplace(seed: int, rows: int, k: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.distributions.Laplace(0.0, 0.3).sample((rows, k)).double()


def _damage(weight: Tensor, x: Tensor, values: Tensor, changed: Tensor, precision: Tensor) -> float:
    """Half p E|w x - v x~|^2 by its definition."""
    return float(0.5 * (precision * (x @ weight.T - changed @ values.T).square().mean(0)).sum())


def _objective(found: QuantizedMatrix, moment: Tensor, damping: float, price: float) -> float:
    h = moment + damping * moment.diagonal().mean() * torch.eye(len(moment))
    shift = torch.from_numpy(found.values - found.target)
    return float(0.5 * ((shift @ h) * shift).sum()) + price * math.log(2.0) * found.rate


@pytest.mark.parametrize("block", [1, 3, 64])
def test_at_price_zero_a_sweep_is_gptq(block: int) -> None:
    """Against the algorithm as published: the inverse Hessian eliminated column by column."""
    x, _ = _inputs(0, 60, 7)
    weight, step = _laplace(1, 5, 7), 0.25
    moment = _mean(x, x)
    config = SecondOrder(damping=0.01, descents=0, block=block)
    found = quantize_matrix(weight, moment, 0.0, config, step=step)
    w = weight.clone()
    inverse = torch.linalg.inv(moment + 0.01 * moment.diagonal().mean() * torch.eye(7))
    for j in range(7):
        q = (w[:, j] / step).round() * step
        error = (w[:, j] - q) / inverse[j, j]
        w -= error[:, None] * inverse[j]
        w[:, j] = q
        inverse = inverse - torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]
        inverse[j, j] = 1.0  # the column is done: any number but 0 will do
        expected_column = (q / step).int().numpy()
        assert np.array_equal(found.integers[:, j], expected_column)


def test_at_price_zero_and_white_inputs_it_is_rounding() -> None:
    weight = _laplace(2, 6, 9)
    found = quantize_matrix(weight, torch.eye(9), 0.0, SecondOrder(damping=0.0), step=0.125)
    assert np.array_equal(found.integers, np.rint(weight.numpy() / 0.125))
    assert found.integers.dtype == np.int32


def test_descent_ends_at_a_point_that_no_single_weight_improves() -> None:
    """At price 0: every other level of any weight, by the definition of the distortion."""
    x, _ = _inputs(3, 40, 4)
    weight, moment = _laplace(4, 3, 4), _mean(x, x)
    found = quantize_matrix(weight, moment, 0.0, SecondOrder(damping=0.0, descents=50), step=0.5)
    one = torch.ones(3).double()
    least = _damage(weight, x, torch.from_numpy(found.values), x, one)
    for r, k, move in itertools.product(range(3), range(4), (-2, -1, 1, 2)):
        other = found.values.copy()
        other[r, k] += move * 0.5
        assert _damage(weight, x, torch.from_numpy(other), x, one) >= least - 1e-12


@pytest.mark.parametrize("price", [0.02, 0.05])
def test_small_rows_come_near_the_best_of_all_levels(price: float) -> None:
    """Rows of 4 weights against all 7^4 integers under the rates of the result, by enumeration."""
    x, _ = _inputs(5, 50, 4)
    weight, moment = _laplace(6, 30, 4), _mean(x, x)
    problem = resolve(weight, moment, 0.0)
    step = math.sqrt(12.0 * price)
    steps = lay_out("tensor", np.array([step]), 1, problem.target.shape)
    rates = Rates(np.rint(problem.target / step).astype(np.int32), price)
    swept, damage = feedback(problem, steps, rates, 64)
    assert damage == pytest.approx(problem.damage(steps.values(swept), damped=True))
    found = swept
    for _ in range(10):
        found, damage = descent(problem, steps, rates, found, 3)
        assert damage == pytest.approx(problem.damage(steps.values(found), damped=True))
    levels = np.array(list(itertools.product(range(-3, 4), repeat=4)), np.int32)  # (2401, 4)

    def costs(integers: np.ndarray, r: int) -> np.ndarray:
        shift = integers * step - problem.target[0, :, r]
        place = np.where(integers != 0, rates._other[0, :, r], rates._zero[0, :, r]).sum(-1)
        level = np.where(integers != 0, rates._level.of(integers), 0.0).sum(-1)
        return np.asarray(0.5 * ((shift @ moment.numpy()) * shift).sum(-1) + place + level)

    best = np.array([costs(levels, r).min() for r in range(30)])
    ours = np.array([costs(found[0, :, r], r) for r in range(30)])
    before = np.array([costs(swept[0, :, r], r) for r in range(30)])
    near = (np.abs(found) <= 3).all((0, 1))
    for block in (1, 3, 64):  # a beam of all beginnings is an exhaustive search of what ``choose`` may take
        wide = beam(problem, steps, rates, 81, block)
        kept = np.array([costs(wide[0, :, r], r) for r in range(30)])
        assert (kept <= np.array([costs(swept[0, :, r], r) for r in range(30)]) + 1e-12).all()
        assert kept[near].sum() == pytest.approx(best[near].sum())
    assert np.array_equal(beam(problem, steps, rates, 1, 3), swept)
    assert (ours <= before + 1e-12).all()
    assert (ours[near] >= best[near] - 1e-12).all()
    assert ours[near].sum() <= 1.09 * best[near].sum()
    assert ours.sum() < 0.99 * before.sum()


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_distortion_is_that_of_the_definition(with_bias: bool) -> None:
    """Half p E|w x + b - v x~ - c|^2, less the least that real weights reach."""
    x, changed = _inputs(7, 80, 5, noise=0.3)
    weight, precision = _laplace(8, 4, 5), torch.tensor([1.0, 3.0, 0.2, 2.0]).double()
    bias = torch.tensor([0.3, -0.2, 0.0, 1.0]).double() if with_bias else None
    whole = weight
    if bias is not None:
        one = torch.ones(80, 1).double()
        x, changed = torch.cat([x + 1.0, one], 1), torch.cat([changed + 1.0, one], 1)
        whole = torch.cat([weight, bias[:, None]], 1)
    config = SecondOrder(damping=0.0, layouts=("row",))
    cross, moment = _mean(x, changed), _mean(changed, changed)
    found = quantize_matrix(weight, moment, 0.02, config, cross=cross, row_precision=precision, bias=bias)
    values = torch.from_numpy(found.values)
    assert np.allclose(found.values, found.integers * found.steps[:, None])
    if bias is not None:
        assert found.bias is not None and found.bias_integers is not None and found.bias_step is not None
        assert np.allclose(found.bias, found.bias_integers * found.bias_step)
        values = torch.cat([values, torch.from_numpy(found.bias)[:, None]], 1)
    best = torch.linalg.lstsq(changed, x @ whole.T).solution.T
    least = _damage(whole, x, best, changed, precision)
    expected = _damage(whole, x, values, changed, precision) - least
    assert found.distortion == pytest.approx(expected, rel=1e-8)
    if bias is None:
        assert found.damped_distortion == pytest.approx(found.distortion)
    assert found.damped_distortion <= found.distortion + 1e-12
    assert np.allclose(found.target, best[:, :5].numpy())


def test_a_bias_follows_the_weights() -> None:
    """Inputs of large mean: the bias takes up the mean error, so a coarse grid costs little."""
    torch.manual_seed(9)
    x = torch.cat([torch.randn(200, 6) + 5.0, torch.ones(200, 1)], 1).double()
    weight, moment = _laplace(10, 8, 6), _mean(x, x)
    found = quantize_matrix(weight, moment, 0.01, PLAIN, bias=torch.zeros(8))
    assert found.bias is not None
    fixed = torch.cat([torch.from_numpy(found.values), torch.zeros(8, 1)], 1)
    free = torch.cat([torch.from_numpy(found.values), torch.from_numpy(found.bias)[:, None]], 1)
    whole, one = torch.cat([weight, torch.zeros(8, 1)], 1), torch.ones(8)
    assert _damage(whole, x, free, x, one) < 0.5 * _damage(whole, x, fixed, x, one)


def test_the_asymmetric_target_is_better_on_changed_inputs() -> None:
    x, changed = _inputs(11, 1600, 12, noise=0.6)
    x, held, changed, held_changed = x[:400], x[400:], changed[:400], changed[400:]
    weight, one = _laplace(12, 20, 12), torch.ones(20)
    plain = quantize_matrix(weight, _mean(changed, changed), 0.02, PLAIN)
    asymmetric = quantize_matrix(weight, _mean(changed, changed), 0.02, PLAIN, cross=_mean(x, changed))
    damages = [
        _damage(weight, held, torch.from_numpy(q.values), held_changed, one) for q in (plain, asymmetric)
    ]
    assert damages[1] < 0.9 * damages[0]
    assert asymmetric.rate < 1.05 * plain.rate


def test_a_rising_price_costs_fewer_bits_and_more_distortion() -> None:
    x, _ = _inputs(13, 300, 24)
    weight = _laplace(14, 40, 24)
    found = [quantize_matrix(weight, _mean(x, x), price, PLAIN) for price in (1e-4, 1e-3, 1e-2, 0.1, 1e3)]
    rates, distortions = [f.rate for f in found], [f.distortion for f in found]
    assert rates == sorted(rates, reverse=True)
    assert distortions == sorted(distortions)
    assert not found[-1].integers.any()
    assert rates[-1] == BITS_PER_STEP


def test_a_beam_is_no_loss() -> None:
    x, _ = _inputs(30, 100, 20)
    weight, moment, price = _laplace(31, 50, 20), _mean(x, x), 0.02
    plain = _objective(quantize_matrix(weight, moment, price, PLAIN), moment, 0.01, price)
    wide = SecondOrder(damping=0.01, layouts=("tensor",), beam=8)
    assert _objective(quantize_matrix(weight, moment, price, wide), moment, 0.01, price) < 0.995 * plain


def test_the_result_is_no_worse_than_any_layout_alone() -> None:
    torch.manual_seed(15)
    x, _ = _inputs(16, 300, 16)
    x = x * torch.logspace(-1.5, 0.5, 16)
    weight, moment, price = _laplace(17, 200, 16), _mean(x, x), 1e-4
    alone = {}
    for layout in ("tensor", "row", "column"):
        config = SecondOrder(damping=0.01, layouts=(layout,), descents=0)
        alone[layout] = _objective(quantize_matrix(weight, moment, price, config), moment, 0.01, price)
    all_three = SecondOrder(damping=0.01, layouts=("tensor", "row", "column"), descents=0)
    both = quantize_matrix(weight, moment, price, all_three)
    assert _objective(both, moment, 0.01, price) == pytest.approx(min(alone.values()))
    assert both.layout == min(alone, key=alone.__getitem__) == "column"


def test_rows_that_matter_less_get_coarser_steps() -> None:
    precision = torch.logspace(0, 4, 50)
    found = quantize_matrix(
        _laplace(18, 50, 200), torch.eye(200), 1e-3, SecondOrder(damping=0.0), row_precision=precision
    )
    assert found.layout == "row"
    assert np.all(np.diff(found.steps[1:]) <= 0)
    expected = np.sqrt(12e-3 / precision.numpy())
    assert step_mantissa(200) == 3
    assert found.steps[25:] == pytest.approx(expected[25:], rel=2**-4)  # on fine grids, nothing to refit


def test_many_steps_have_few_bits_of_mantissa_and_one_has_all() -> None:
    """A file codes them by these bits, and the rate says so."""
    precision = torch.logspace(0, 4, 50)
    weight, moment = _laplace(18, 50, 118), torch.eye(118)
    found = quantize_matrix(weight, moment, 1e-3, SecondOrder(layouts=("row",)), row_precision=precision)
    words = found.steps.astype(np.float32).view(np.uint32)
    assert step_mantissa(118) == 2
    assert not (words & (1 << 21) - 1).any()
    assert len(set((words >> 21 & 3).tolist())) == 4
    assert found.rate == rate_bits(np.ascontiguousarray(found.integers)) + BITS_OF_CODES + 50 * (
        2 + CODE_ABOVE_MANTISSA
    )
    one = quantize_matrix(weight, moment, 1e-3, SecondOrder(layouts=("tensor",)))
    assert float(one.steps[0]) == bfloat16(float(one.steps[0]))
    assert float(one.steps[0]) != bfloat16(float(one.steps[0]), 3)


def test_coarse_steps_cost_less_than_they_save() -> None:
    """Five bits less for each of 60 steps; at most three quarters of it go to rate and distortion."""
    precision, price = torch.logspace(0, 4, 60), 1e-3
    weight, moment = _laplace(40, 60, 118), torch.eye(118)
    config = SecondOrder(damping=0.0, layouts=("row",))
    costs = []
    for mantissa in (7, step_mantissa(118)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(second_order, "step_mantissa", lambda weights, m=mantissa: m)
            found = quantize_matrix(weight, moment, price, config, row_precision=precision)
        costs.append(found.distortion / (price * math.log(2)) + found.rate)
    assert costs[1] < costs[0] - 60 * 5 / 4


def test_steps_are_shared_and_fit_a_grid_of_records() -> None:
    weight = _laplace(19, 6, 8)
    torch.manual_seed(0)
    config = SecondOrder(layouts=("column",))
    found = quantize_matrix(weight, torch.eye(8), 1e-3, config, columns_per_step=4)
    assert found.steps.shape == (2,)
    grid = UniformGrid(tuple(found.steps.tolist()), axis=1)
    values = grid.dequantize(found.integers.reshape(6, 2, 4)).reshape(6, 8)
    assert np.allclose(values, found.values, rtol=1e-6)
    rows = quantize_matrix(weight, torch.eye(8), 1e-3, SecondOrder(layouts=("row",)), rows_per_step=3)
    assert rows.steps.shape == (2,)
    assert np.allclose(rows.values, rows.integers * np.repeat(rows.steps, 3)[:, None])


def test_blocks_are_quantised_on_their_own_inputs() -> None:
    """At price 0 two blocks are two matrices; the rate is counted over both."""
    x, y = _inputs(20, 50, 4)[0], _inputs(21, 50, 4)[0]
    weight, moment = _laplace(22, 6, 4).reshape(2, 3, 4), torch.stack([_mean(x, x), _mean(y, y)])
    whole = quantize_matrix(weight, moment, 0.0, step=0.25)
    for block in range(2):
        alone = quantize_matrix(weight[block], moment[block], 0.0, step=0.25)
        assert np.array_equal(whole.integers[block], alone.integers)
    assert whole.rate == rate_bits(whole.integers.reshape(6, 4)) + BITS_PER_STEP


def test_refitted_steps_are_least_squares() -> None:
    x, _ = _inputs(23, 60, 6)
    weight = _laplace(24, 5, 6)
    problem = resolve(weight, _mean(x, x), 0.0)
    integers = np.rint(problem.target / 0.3).astype(np.int32)
    for layout, count in (("tensor", 1), ("row", 5), ("column", 6)):
        steps = lay_out(layout, np.full(count, 0.3), 1, problem.target.shape)  # type: ignore[arg-type]
        best = refit(problem, steps, integers)

        def damage(factors: np.ndarray, layout: str = layout) -> float:
            moved = lay_out(layout, 0.3 * factors, 1, problem.target.shape)  # type: ignore[arg-type]
            return problem.damage(moved.values(integers), damped=True)

        for k in range(count):
            for change in (-1e-3, 1e-3):
                other = best.copy()
                other[k] += change
                assert damage(other) >= damage(best)


@pytest.mark.parametrize("price", [1e-3, 0.1])
@pytest.mark.parametrize(("rows", "k"), [(1, 1), (1, 6), (6, 1), (3, 5)])
def test_degenerate_shapes_and_inputs(rows: int, k: int, price: float) -> None:
    weight = _laplace(25, rows, k)
    constant = torch.full((10, k), 2.0).double()
    dead = torch.randn(10, k).double()
    dead[:, 0] = 0.0
    for x in (constant, dead, torch.zeros(10, k).double()):
        for start in (weight, torch.zeros_like(weight)):
            found = quantize_matrix(start, _mean(x, x), price, cross=_mean(x, x))
            for array in (found.values, found.target, found.steps, found.distortion, found.rate):
                assert np.isfinite(array).all()
            assert (found.steps > 0).all()
            assert found.integers.shape == (rows, k)
    assert not quantize_matrix(torch.zeros(rows, k), torch.eye(k), price).integers.any()


def test_one_huge_weight_takes_no_memory_for_all_levels_below_it() -> None:
    weight, x = _laplace(25, 4, 8), torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).double()
    weight[0, 0] = 1e9
    found = quantize_matrix(weight, _mean(x, x), 1e-6, SecondOrder(layouts=("row",)))
    assert np.abs(found.integers).max() < 1.1 * MOST_LEVELS
    assert found.integers[1:].any()  # other rows have steps of their own


def test_few_samples_add_damping() -> None:
    """With fewer samples than inputs, the error on held-out inputs is what the damping saves."""
    x, _ = _inputs(28, 1040, 60)
    weight, moment, one = _laplace(29, 30, 60), _mean(x[:40], x[:40]), torch.ones(30)
    config = SecondOrder(damping=0.001, damping_by_samples=0.1)
    few, many = (quantize_matrix(weight, moment, 1e-3, config, samples=n) for n in (40, None))
    same = quantize_matrix(weight, moment, 1e-3, SecondOrder(damping=0.001 + 0.1 * 60 / 40))
    assert np.array_equal(few.integers, same.integers)
    damages = [_damage(weight, x[40:], torch.from_numpy(q.values), x[40:], one) for q in (few, many)]
    assert damages[0] + 1e-3 * math.log(2) * few.rate < damages[1] + 1e-3 * math.log(2) * many.rate


def test_float32_gives_what_float64_gives() -> None:
    x, _ = _inputs(26, 50, 6)
    weight, moment = _laplace(27, 5, 6).float(), _mean(x, x).float()
    a, b = (quantize_matrix(w, m, 1e-2) for w, m in ((weight, moment), (weight.double(), moment.double())))
    assert np.array_equal(a.integers, b.integers)


def test_bad_input_is_refused() -> None:
    w, h = torch.ones(2, 3), torch.eye(3)
    cases = (
        (InputError, "3 x 3", lambda: quantize_matrix(w, torch.eye(2), 0.1)),
        (InputError, "cross moment", lambda: quantize_matrix(w, h, 0.1, cross=torch.eye(2))),
        (InputError, "4 x 4", lambda: quantize_matrix(w, h, 0.1, bias=torch.zeros(2))),
        (InputError, "bias has 3", lambda: quantize_matrix(w, torch.eye(4), 0.1, bias=torch.zeros(3))),
        (InputError, "price must be >= 0", lambda: quantize_matrix(w, h, -1.0)),
        (InputError, "step be given at price 0", lambda: quantize_matrix(w, h, 0.0)),
        (InputError, "2 numbers >= 0", lambda: quantize_matrix(w, h, 0.1, row_precision=torch.ones(3))),
        (InputError, "2 numbers >= 0", lambda: quantize_matrix(w, h, 0.1, row_precision=torch.zeros(2))),
        (InputError, "2 rows cannot share", lambda: quantize_matrix(w, h, 0.1, rows_per_step=3)),
        (InputError, "not positive definite", lambda: quantize_matrix(w, -h, 0.1)),
        (InputError, "must be a matrix", lambda: quantize_matrix(w[0], h, 0.1)),
        (NonFiniteError, "weight holds NaN", lambda: quantize_matrix(w * math.nan, h, 0.1)),
        (NonFiniteError, "moment holds NaN", lambda: quantize_matrix(w, h * math.inf, 0.1)),
        (InputError, "damping", lambda: SecondOrder(damping=-1.0)),
        (InputError, "sweeps", lambda: SecondOrder(sweeps=0)),
        (InputError, "beam", lambda: SecondOrder(beam=0)),
        (InputError, "layouts", lambda: SecondOrder(layouts=())),
        (InputError, "multiples", lambda: SecondOrder(multiples=(0.0,))),
    )
    for error, message, call in cases:
        with pytest.raises(error, match=message):
            call()
