"""From posteriors and keep-masks to integers: the grid is chosen on the validation split.

Every candidate is a step (a multiple of each tensor's own posterior standard deviation, so that a layer with
wide posteriors gets fewer levels) and a price of rate against distortion. The candidate with the fewest bytes
whose validation score stays within the allowances is taken; without a judge the finest is.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from laconic.errors import InputError
from laconic.export.build import build_packed
from laconic.methods.contract import Compressed, Divergence, Judge, Score
from laconic.pack import coded_bytes, encode
from laconic.progress import steps
from laconic.quantize.rate_distortion import RateDistortion, quantize
from laconic.quantize.rate_model import rate_bits
from laconic.quantize.uniform import bfloat16, step_for_bits, to_grid
from laconic.records import IntTensor, Tensor, UniformGrid, WeightStats
from laconic.sparsify.dead import alive_parameters

Masks = Mapping[str, npt.NDArray[np.bool_]]

# Weights of a network up to which every candidate's bytes are counted by coding it, which takes some seconds
# for each million. In larger ones candidates are ranked by an estimate.
COUNTED_UP_TO = 2**20


@dataclass(frozen=True)
class GridChoice:
    """Which grids are tried, and how much worse than the pruned network the quantised one may be.

    Of the candidates within the allowances the one with the fewest bytes is taken (:func:`cheapest`).

    ``max_kl`` measures the damage by how far the predictions move from the pruned network's. Where it is set
    it takes the place of the two other allowances. An error changes with the few examples whose answer flips,
    this with all, so it has less noise (see the notes in studies/results/mnist_lenets).

    The other two are compared with means over the validation split, without their standard errors: on n
    examples an error moves by 100 / n percentage points with each of them. One standard error of the paired
    difference as a further allowance was measured, and is too much: on LeNet-5's 5 000 images it is 0.05 to
    0.12 points, and the likelihood alone would decide (2 687 bytes of weights at a test error of 1.15 %, not
    4 695 at 0.80 %).

    Args:
        steps: Grid steps in posterior standard deviations.
        prices: Nats of distortion accepted for one nat of rate (see :class:`RateDistortion`).
        bias_bits: Widths in bits tried for biases, narrowest first.
        max_drop: What the task's metric may lose on the validation split against the pruned network before
            quantising, in the metric's unit (None: what the metric tolerates; a target, if given, takes its
            place).
        max_nll_ratio: The same for the negative log-likelihood, as a factor >= 1.
        max_kl: How far the quantised network's predictions may be from the pruned network's on the validation
            split, in nats per likelihood term (None: this is not measured). A target for the metric or the
            file takes its place.

    Raises:
        InputError: Nothing to try, or a value outside its bounds.

    >>> GridChoice(steps=(0.5, 1.0), max_drop=0.05).max_nll_ratio
    1.15
    """

    steps: tuple[float, ...] = (0.5, 0.7, 1.0, 1.4)
    prices: tuple[float, ...] = (0.0, 0.02, 0.04, 0.06, 0.09)
    bias_bits: tuple[int, ...] = (4, 5, 6, 7, 8, 10)
    max_drop: float | None = None
    max_nll_ratio: float = 1.15
    max_kl: float | None = None

    def __post_init__(self) -> None:
        if not self.steps or not self.prices or not self.bias_bits:
            raise InputError("steps, prices and bias_bits need at least one value each")
        if not all(0 < s < math.inf for s in self.steps) or not all(0 <= p < math.inf for p in self.prices):
            raise InputError(f"steps must be > 0 and prices >= 0, got {self.steps} and {self.prices}")
        if (self.max_drop is not None and not self.max_drop >= 0) or not self.max_nll_ratio >= 1:
            raise InputError(
                f"max_drop must be >= 0 and max_nll_ratio >= 1, got {self.max_drop} and {self.max_nll_ratio}"
            )
        if self.max_kl is not None and not self.max_kl >= 0:
            raise InputError(f"max_kl is in nats per term and must be >= 0, got {self.max_kl}. Cure: 0.001")
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
    ``kl``: nats per term from the pruned network's predictions, where :attr:`GridChoice.max_kl` asks for it.
    """

    step: float
    price: float
    tensors: Mapping[str, IntTensor]
    bytes: int
    score: Score | None
    counted: bool = True
    kl: float | None = None


def choose_grid(
    plain: nn.Module,
    stats: Mapping[str, WeightStats],
    keeps: Masks,
    rest: Mapping[str, torch.Tensor],
    choice: GridChoice,
    judge: Judge | None,
    example: Any = None,
) -> Compressed:
    """Quantise a pruned network on the grid with the fewest bytes that the validation split allows.

    Args:
        plain: A plain network; its parameters are written.
        stats: Means and variances of the weights, by name.
        keeps: By the same names, booleans of the weight's shape: True where a weight stays.
        rest: Biases and other parameters without a posterior, by name (``rest_of(...).beside``).
        choice: What is tried and allowed.
        judge: Scores candidates on the validation split; None: the finest grid is taken.
        example: An input, by which weights on no path to the output are found.

    Returns:
        The compressed network; its facts hold the step, the price and the width of the biases.

    >>> from laconic.methods import point_stats
    >>> net = nn.Linear(4, 2, bias=False)
    >>> stats = {"weight": point_stats("weight", net.weight.detach().numpy())}
    >>> keeps = {"weight": np.tile([True, False], (2, 2))}
    >>> small = choose_grid(net, stats, keeps, {}, GridChoice(), None, torch.zeros(1, 4))
    >>> small.facts["step_in_sigmas"], bool(small.module.weight[:, 1].any())
    (0.5, False)
    """
    plain.eval()  # candidates are scored in the mode in which they will run
    keeps, rest = _without_dead(plain, stats, keeps, rest, example)
    before = judge.evaluate(plain) if judge else None
    candidates = _candidates(plain, stats, keeps, choice, judge)
    beside = 0
    if judge is not None and judge.target.max_bytes is not None:
        beside = bytes_beside(plain, candidates[0], rest, choice, example)
    best = _cheapest_counted(candidates, choice, judge, before, beside)
    facts: dict[str, Any] = {"step_in_sigmas": best.step, "price": best.price}
    if best.kl is not None:
        facts["kl_of_grid"] = best.kl
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
    """All pairs of step and price, or the finest alone without a judge."""
    pairs = list(itertools.product(sorted(choice.steps), sorted(choice.prices)))
    if judge is None:
        step, price = pairs[0]
        tensors = {n: on_grid(s, keeps[n], step, price) for n, s in stats.items()}
        return [Candidate(step, price, tensors, 0, None, counted=False)]
    counted = sum(s.mean.size for s in stats.values()) <= COUNTED_UP_TO
    apart = _divergence_from(plain, choice, judge)
    found: list[Candidate] = []
    with steps("grids", len(pairs)) as advance:
        for step, price in pairs:
            tensors = {n: on_grid(s, keeps[n], step, price) for n, s in stats.items()}
            load_values(plain, {n: torch.from_numpy(t.values()) for n, t in tensors.items()})
            size = _coded_bytes(tensors) if counted else _estimated_bytes(tensors)
            found.append(Candidate(step, price, tensors, size, judge.evaluate(plain), counted, apart(plain)))
            advance()
    return found


def _divergence_from(
    plain: nn.Module, choice: GridChoice, judge: Judge
) -> Callable[[nn.Module], float | None]:
    """How far a network's predictions are from those of ``plain`` as it is now; None where nothing asks."""
    target, measure = judge.target, judge.divergence
    if choice.max_kl is None or measure is None or (target.max_drop, target.max_bytes) != (None, None):
        return lambda module: None
    return partial(_swapped, measure, copy.deepcopy(plain))


def _swapped(measure: Divergence, reference: nn.Module, module: nn.Module) -> float:
    return measure(module, reference)


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
    good_enough = [c for c, s in scored if _allowed(c, s, choice, judge, before)]
    if good_enough:
        return min(good_enough, key=lambda c: c.bytes)
    return min(scored, key=lambda pair: pair[1].nll if pair[0].kl is None else pair[0].kl)[0]


def _allowed(candidate: Candidate, score: Score, choice: GridChoice, judge: Judge, before: Score) -> bool:
    """Whether a candidate is near enough to the pruned network: by its predictions where they are measured,
    else by metric and likelihood.
    """
    if candidate.kl is not None and choice.max_kl is not None:
        return candidate.kl <= choice.max_kl
    near = within(score.nll, before.nll, choice.max_nll_ratio - 1)
    return near and judge.accepts(score, before, choice.max_drop)


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

    One width serves all: the narrowest whose likelihood is within 1 % of that of unquantised biases. It is
    the widest where none is, and without a judge.

    Args:
        plain: A plain network; its parameters are written.
        weights: The quantised weights, by name.
        rest: The other parameters, by name.
        bias_bits: Widths tried, in bits.
        judge: Scores candidates on the validation split.

    Returns:
        The network, all tensors by name, and the chosen width as ``{"bias_bits": width}``.

    >>> net = nn.Linear(2, 3)
    >>> rest = {"bias": torch.tensor([0.5, -1.0, 0.0])}
    >>> _, tensors, facts = quantize_rest(net, {}, rest, (4, 8), None)
    >>> facts, tensors["bias"].integers.tolist()
    ({'bias_bits': 8}, [64, -127, 0])
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
    """Load the decoded values into a plain network, score it once more and bundle the result.

    Args:
        plain: A plain network; its parameters are written, and it ends on the CPU in evaluation mode.
        tensors: What the file will hold, by parameter name.
        facts: What was chosen.
        judge: Scores the result on the validation split.

    Returns:
        The compressed network; with a judge its facts hold ``validation_metric`` and ``validation_nll``.

    >>> weight = IntTensor("weight", np.int32([[1, -2]]), UniformGrid(0.5))
    >>> small = finish(nn.Linear(2, 1, bias=False), {"weight": weight}, {"method": "own"}, None)
    >>> small.module.weight.tolist(), small.facts
    ([[0.5, -1.0]], {'method': 'own'})
    """
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
