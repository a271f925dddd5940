"""The index of a block: its candidates are the decoder's, its draws are near the posterior's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.quantize.random_coding import (
    block_normals,
    candidate_scores,
    check_index_bits,
    choose_index,
    log_ratios,
)
from laconic.records import SharedCode
from laconic.records.shared_codes import block_starts, code_order
from tests.helpers.plain_kinds import quantiles, word


def log_normal(z: float, mean: float, std: float) -> float:
    return -0.5 * ((z - mean) / std) ** 2 - math.log(std)


def test_scores_are_the_log_ratios_of_each_candidate_by_a_loop() -> None:
    rng = np.random.default_rng(1)
    mean, std = rng.normal(size=7).astype(np.float32), rng.uniform(0.3, 1, 7).astype(np.float32)
    scores = candidate_scores(9, 4, 5, mean, std)
    table = quantiles()
    for index in range(32):
        key = word(word(9, 4), index)
        z = [table[word(key, j // 5) >> 52 - 12 * (j % 5) & 4095] for j in range(7)]
        wanted = sum(
            log_normal(x, float(m), float(s)) - log_normal(x, 0.0, 1.0)
            for x, m, s in zip(z, mean, std, strict=True)
        )
        assert scores[index] == pytest.approx(wanted, abs=1e-4)
        assert block_normals(9, 4, index, 7).tolist() == z


def test_pieces_of_many_candidates_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, std = np.float32([0.5, -1.0]), np.float32([0.5, 0.9])
    whole = candidate_scores(3, 1, 10, mean, std)
    monkeypatch.setattr("laconic.quantize.random_coding._PIECE", 100)
    assert np.array_equal(candidate_scores(3, 1, 10, mean, std), whole)


def test_the_decoder_finds_the_chosen_candidates() -> None:
    size, blocks, bits = 37, 5, 6
    starts, order = block_starts(size, blocks), code_order(11, size)
    indices = np.array([0, 63, 5, 17, 40], np.int32)
    normals = SharedCode(11, size, bits, indices).normals
    for b in range(blocks):
        own = order[starts[b] : starts[b + 1]]
        assert np.array_equal(normals[own], block_normals(11, b, int(indices[b]), len(own)))
    assert sorted(order.tolist()) == list(range(size))
    assert set(np.diff(starts)) <= {size // blocks, size // blocks + 1}


def test_the_candidates_are_the_priors() -> None:
    """Moments of 4096 x 10 draws: each bound is five standard deviations (failing by chance: 1e-5)."""
    z = np.stack([block_normals(2, 0, k, 10) for k in range(4096)]).astype(np.float64)
    n = z.size
    assert abs(z.mean()) < 5 / math.sqrt(n) and abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    correlations = np.corrcoef(z.T)[np.triu_indices(10, 1)]
    assert np.abs(correlations).max() < 5.5 / math.sqrt(4096)


@pytest.mark.parametrize("slack", [0.0, 3.0])
def test_draws_are_near_the_posterior_and_nearer_with_slack(slack: float) -> None:
    """Mean and deviation of 300 coded blocks of a posterior of 8 bits minus slack.

    Bounds on the means: 0.15 of the prior's deviation without slack, 0.06 with (sampling error: 0.015, 4
    standard deviations of the mean of 300 draws of 4 equal weights).
    """
    d, bits = 4, 8
    kl = (bits - slack) * math.log(2) / d
    mean = math.sqrt(kl)  # half of the KL in the mean
    left = 2 * kl - mean**2
    std = next(s for s in np.linspace(0.99, 0.01, 9801) if s**2 - 1 - 2 * math.log(s) >= left)
    m, s = np.full(d, mean, np.float32), np.full(d, std, np.float32)
    drawn = []
    for block in range(300):
        scores = candidate_scores(5, block, bits, m, s)
        index = choose_index(scores, "draw", np.random.default_rng((5, block)))
        drawn.append(block_normals(5, block, index, d))
    z = np.array(drawn)
    assert abs(z.mean() - mean) < (0.06 if slack else 0.15)
    assert abs(z.std() / std - 1) < (0.1 if slack else 0.35)


def test_an_index_is_drawn_with_the_importance_weights() -> None:
    """20 000 draws of four weights; each bound is five standard deviations."""
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    rng = np.random.default_rng(0)
    scores = np.log(weights).astype(np.float32) + 50
    drawn = np.bincount([choose_index(scores, "draw", rng) for _ in range(20_000)], minlength=4) / 20_000
    assert (np.abs(drawn - weights) < 5 * np.sqrt(weights * (1 - weights) / 20_000)).all()
    assert choose_index(scores, "best", rng) == 3


def test_narrow_posteriors_and_ones_that_are_the_prior() -> None:
    tables = log_ratios(np.float32([0.0, 3.0]), np.float32([1.0, 1e-20]))
    assert not tables[0].any() and np.isfinite(tables).all()
    flat = candidate_scores(1, 0, 4, np.float32([0.0]), np.float32([1.0]))
    assert 0 <= choose_index(flat, "draw", np.random.default_rng(0)) < 16


@pytest.mark.parametrize("bits", [0, 25, 8.0, True])
def test_bits_that_cannot_be_searched(bits: object) -> None:
    with pytest.raises(InputError, match="block_bits=.*Cure"):
        check_index_bits(bits)  # type: ignore[arg-type]
