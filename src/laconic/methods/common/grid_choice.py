"""From posteriors and keep-masks to integers: the grid is chosen on the validation split.

Every candidate is a step (a multiple of each tensor's own posterior standard deviation, so that a layer
we are unsure of gets fewer levels) and a price of rate against distortion. The candidate with the
fewest bytes whose validation score stays within the allowance wins; without a judge the finest does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from laconic.errors import InputError
from laconic.export.build import build_packed
from laconic.methods.contract import Compressed, Judge, Score
from laconic.pack import coded_bytes, encode
from laconic.progress import steps
from laconic.quantize.rate_distortion import RateDistortion, quantize, rate_bits
from laconic.quantize.uniform import bfloat16, step_for_bits, to_grid
from laconic.records import IntTensor, Tensor, UniformGrid, WeightStats
from laconic.sparsify.dead import alive_parameters

Masks = Mapping[str, npt.NDArray[np.bool_]]

# Weights of a network up to which every candidate's bytes are counted by coding it, which takes some seconds
# for each million. In larger ones candidates are ranked by an estimate.
COUNTED_UP_TO = 2**20


@dataclass(frozen=True)
class GridChoice:
    """What is tried and what is allowed.

    ``steps``: grid steps in posterior standard deviations. ``prices``: nats of distortion paid per nat of
    rate. ``bias_bits``: widths tried for biases, narrowest first. ``max_drop``: what the
    task's metric may lose on the validation split against the pruned network before quantising, in the
    metric's unit (None: what the metric tolerates; a target, if given, takes its place);
    ``max_nll_ratio``: the same for the negative log-likelihood, as a factor.
    """

    steps: tuple[float, ...] = (0.5, 0.7, 1.0, 1.4)
    prices: tuple[float, ...] = (0.0, 0.02, 0.04, 0.06, 0.09)
    bias_bits: tuple[int, ...] = (4, 5, 6, 7, 8, 10)
    max_drop: float | None = None
    max_nll_ratio: float = 1.15

    def __post_init__(self) -> None:
        if not self.steps or not self.prices or not self.bias_bits:
            raise InputError("steps, prices and bias_bits need at least one value each")
        if not all(0 < s < math.inf for s in self.steps) or not all(0 <= p < math.inf for p in self.prices):
            raise InputError(f"steps must be > 0 and prices >= 0, got {self.steps} and {self.prices}")
        if (self.max_drop is not None and not self.max_drop >= 0) or not self.max_nll_ratio >= 1:
            raise InputError(
                f"max_drop must be >= 0 and max_nll_ratio >= 1, got {self.max_drop} and {self.max_nll_ratio}"
            )
        check_bits(self.bias_bits)


def check_bits(widths: tuple[int, ...]) -> None:
    """Raises InputError unless all widths of a signed grid lie in 2..24: float32 holds no wider integer."""
    if not widths or not all(2 <= w <= 24 for w in widths):
        raise InputError(f"bias_bits must be widths from 2 to 24 bits, got {widths}")


def within(nll: float, before: float, share: float) -> bool:
    """Whether a likelihood is at most ``share`` of its own size worse than before; it may be negative."""
    return nll <= before + share * abs(before)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to quantise: its settings, tensors, bytes and validation score.

    ``counted``: whether ``bytes`` were counted by coding the tensors, or estimated from their statistics.
    """

    step: float
    price: float
    tensors: Mapping[str, IntTensor]
    bytes: int
    score: Score | None
    counted: bool = True


def choose_grid(
    plain: nn.Module,
    stats: Mapping[str, WeightStats],
    keeps: Masks,
    rest: Mapping[str, torch.Tensor],
    choice: GridChoice,
    judge: Judge | None,
    example: Any = None,
) -> Compressed:
    """Quantise ``stats`` under ``keeps`` and the parameters of ``rest``; returns the finished network."""
    plain.eval()  # whoever judges should see what will run
    keeps, rest = _without_dead(plain, stats, keeps, rest, example)
    before = judge.evaluate(plain) if judge else None
    candidates = _candidates(plain, stats, keeps, choice, judge)
    beside = 0
    if judge is not None and judge.target.max_bytes is not None:
        beside = bytes_beside(plain, candidates[0], rest, choice, example)
    best = _cheapest_counted(candidates, choice, judge, before, beside)
    facts: dict[str, Any] = {"step_in_sigmas": best.step, "price": best.price}
    if before is not None:
        facts["pruned_validation_metric"] = before.metric
    tensors = dict(best.tensors)
    plain, quantized, bias_facts = quantize_rest(plain, tensors, rest, choice.bias_bits, judge)
    return finish(plain, quantized, {**facts, **bias_facts}, judge)


def _without_dead(
    plain: nn.Module,
    stats: Mapping[str, WeightStats],
    keeps: Masks,
    rest: Mapping[str, torch.Tensor],
    example: Any,
) -> tuple[Masks, Mapping[str, torch.Tensor]]:
    """Drop what lies on no path from input to output; ``plain`` ends up holding the pruned means."""
    load_values(plain, {n: torch.from_numpy(s.mean * keeps[n]) for n, s in stats.items()})
    load_values(plain, rest)
    alive = alive_parameters(plain, example)
    if alive is None:
        return keeps, rest
    keeps = {n: keep & alive.get(n, True) for n, keep in keeps.items()}
    rest = {n: p * torch.from_numpy(alive[n]).to(p) if n in alive else p for n, p in rest.items()}
    load_values(plain, {n: torch.from_numpy(s.mean * keeps[n]) for n, s in stats.items()})
    load_values(plain, rest)
    return keeps, rest


def _candidates(
    plain: nn.Module, stats: Mapping[str, WeightStats], keeps: Masks, choice: GridChoice, judge: Judge | None
) -> list[Candidate]:
    """All pairs of step and price, or the finest alone (whose bytes nobody asks for) without a judge."""
    pairs = list(itertools.product(sorted(choice.steps), sorted(choice.prices)))
    if judge is None:
        step, price = pairs[0]
        tensors = {n: on_grid(s, keeps[n], step, price) for n, s in stats.items()}
        return [Candidate(step, price, tensors, 0, None, counted=False)]
    counted = sum(s.mean.size for s in stats.values()) <= COUNTED_UP_TO
    found: list[Candidate] = []
    with steps("grids", len(pairs)) as advance:
        for step, price in pairs:
            tensors = {n: on_grid(s, keeps[n], step, price) for n, s in stats.items()}
            load_values(plain, {n: torch.from_numpy(t.values()) for n, t in tensors.items()})
            size = _coded_bytes(tensors) if counted else _estimated_bytes(tensors)
            found.append(Candidate(step, price, tensors, size, judge.evaluate(plain), counted))
            advance()
    return found


def _coded_bytes(tensors: Mapping[str, IntTensor]) -> int:
    return sum(coded_bytes(t) for t in tensors.values())


def _estimated_bytes(tensors: Mapping[str, IntTensor]) -> int:
    return math.ceil(sum(rate_bits(t.integers) for t in tensors.values()) / 8)


def _cheapest_counted(
    candidates: list[Candidate],
    choice: GridChoice,
    judge: Judge | None,
    before: Score | None,
    bytes_beside: int,
) -> Candidate:
    """The cheapest (see :func:`cheapest`); under a target in bytes, its own are counted, not estimated."""
    left = list(candidates)
    while True:
        best = cheapest(left, choice, judge, before, bytes_beside)
        if best.counted or judge is None or judge.target.max_bytes is None:
            return best
        counted = replace(best, bytes=_coded_bytes(best.tensors), counted=True)
        left = [counted if c is best else c for c in left]


def on_grid(stats: WeightStats, keep: npt.NDArray[np.bool_], multiple: float, price: float) -> IntTensor:
    """One tensor on the grid whose step is ``multiple`` median posterior deviations of its kept weights."""
    if not keep.any():
        return IntTensor(stats.name, np.zeros(keep.shape, np.int32), UniformGrid(1.0))
    step = bfloat16(multiple * float(np.median(np.sqrt(stats.variance[keep]))))
    return IntTensor(stats.name, quantize(stats, keep, step, RateDistortion(price)), UniformGrid(step))


def cheapest(
    candidates: list[Candidate],
    choice: GridChoice,
    judge: Judge | None,
    before: Score | None,
    bytes_beside: int = 0,
) -> Candidate:
    """Fewest bytes within the allowance; if none is within it, the one with the best likelihood.

    Under a target of ``max_bytes`` for the file, ``bytes_beside`` the weights included, it is the best
    likelihood among those that fit, or the smallest of all if none does.
    """
    if judge is None or before is None:
        return candidates[0]
    target = judge.target
    scored = [(c, c.score) for c in candidates if c.score is not None]
    if target.max_bytes is not None:
        fits = [(c, s) for c, s in scored if c.bytes + bytes_beside <= target.max_bytes]
        if not fits:
            return min(candidates, key=lambda c: c.bytes)
        good = [(c, s) for c, s in fits if target.max_drop is None or judge.accepts(s, before)]
        return min(good or fits, key=lambda pair: pair[1].nll)[0]
    share = choice.max_nll_ratio - 1
    good_enough = [
        c for c, s in scored if judge.accepts(s, before, choice.max_drop) and within(s.nll, before.nll, share)
    ]
    if good_enough:
        return min(good_enough, key=lambda c: c.bytes)
    return min(scored, key=lambda pair: pair[1].nll)[0]


def bytes_beside(
    plain: nn.Module,
    candidate: Candidate,
    rest: Mapping[str, torch.Tensor],
    choice: GridChoice,
    example: Any,
) -> int:
    """Bytes of a file that are not its weights': graph, names, checksums, and biases at their widest."""
    load_values(plain, {n: torch.from_numpy(t.values()) for n, t in candidate.tensors.items()})
    _, tensors, _ = quantize_rest(plain, candidate.tensors, rest, choice.bias_bits, None)
    return len(encode(build_packed(plain, tensors, example)[0])) - candidate.bytes


def quantize_rest(
    plain: nn.Module,
    weights: Mapping[str, IntTensor],
    rest: Mapping[str, torch.Tensor],
    bias_bits: tuple[int, ...],
    judge: Judge | None,
) -> tuple[nn.Module, dict[str, Tensor], dict[str, Any]]:
    """Put biases and other deterministic parameters on uniform grids, as narrow as validation allows.

    One width serves all; the narrowest whose likelihood is within 1 % of unquantised biases wins, the
    widest if none is (or nobody judges).
    """
    plain.eval()
    load_values(plain, {n: torch.from_numpy(t.values()) for n, t in weights.items()})
    load_values(plain, rest)
    before = judge.evaluate(plain) if judge and rest else None
    arrays = {n: np.asarray(p.detach().cpu(), dtype=np.float32) for n, p in rest.items()}
    tensors: dict[str, IntTensor] = {}
    width = max(bias_bits)
    for width in sorted(bias_bits) if before else [max(bias_bits)]:
        tensors = {n: to_grid(n, a, step_for_bits(a, width)) for n, a in arrays.items()}
        load_values(plain, {n: torch.from_numpy(t.values()) for n, t in tensors.items()})
        if before is None or judge is None or within(judge.evaluate(plain).nll, before.nll, 0.01):
            break
    return plain, {**weights, **tensors}, {"bias_bits": width}


def finish(
    plain: nn.Module, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], judge: Judge | None
) -> Compressed:
    """Load the decoded values into ``plain``, score it once more and bundle the result."""
    load_values(plain, {n: torch.from_numpy(np.asarray(t.values())) for n, t in tensors.items()})
    plain.eval().cpu()
    scored: dict[str, Any] = {}
    if judge is not None:
        score = judge.evaluate(plain)
        scored = {"validation_metric": score.metric, "validation_nll": score.nll}
    return Compressed(plain, tensors, {**facts, **scored})


def load_values(module: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Copy ``values`` into parameters of the same name, in place."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
