"""From posteriors and keep-masks to integers: the grid is chosen on the validation split.

Every candidate is a step (a multiple of each tensor's own posterior standard deviation, so that a layer with
wide posteriors gets fewer levels) and a price of rate against distortion. The candidate with the fewest bytes
whose validation score stays within the allowances is taken; without a judge the finest is.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from laconic.export.build import build_packed
from laconic.methods.common.allowances import allowed, outcome, unused
from laconic.methods.common.allowances import within as within
from laconic.methods.common.candidates import (
    Candidate,
    cheapest_counted,
    missed_limits,
    size_coded,
    size_estimated,
)
from laconic.methods.common.codebooks import Book, Books
from laconic.methods.common.grid_settings import GridChoice as GridChoice
from laconic.methods.common.grid_settings import check_bits as check_bits
from laconic.methods.common.norms import better_norms
from laconic.methods.common.spreads import SPREAD, spreads_of
from laconic.methods.contract import Compressed, Context, Divergence, Judge, Score
from laconic.pack import encode
from laconic.progress import steps
from laconic.quantize.rate_distortion import RateDistortion, quantize
from laconic.quantize.uniform import bfloat16, step_for_bits, to_grid
from laconic.records import IntTensor, Tensor, UniformGrid, WeightStats
from laconic.sparsify.dead import alive_parameters
from laconic.structure.narrow import NarrowInput

Masks = Mapping[str, npt.NDArray[np.bool_]]

# Weights of a network up to which every candidate's bytes are counted by coding it, which takes some seconds
# for each million. In larger ones candidates are ranked by an estimate.
COUNTED_UP_TO = 2**20


def choose_grid(
    plain: nn.Module,
    stats: Mapping[str, WeightStats],
    keeps: Masks,
    rest: Mapping[str, torch.Tensor],
    choice: GridChoice,
    judge: Judge | None,
    example: Any = None,
    sampled: Context | None = None,
    books: Books | None = None,
    *,
    spread: bool = True,
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
        sampled: The context of a training that sampled weights or units: batch norm's statistics are then
            taken anew where that is better (:func:`laconic.methods.common.norms.better_norms`), and the
            facts keep the posterior's spread (``spreads_of``; see ``spread``). None: neither.
        books: Further candidates: from keep-masks to weights on codebooks, of which the first is taken
            without a judge. A tensor that they leave out goes on its finest uniform grid.
        spread: Whether the variances are a posterior's of single weights, which the facts keep; noise that
            many weights share, and what stands in for a posterior, are not.

    Returns:
        The compressed network; its facts hold the step and the price of a uniform grid, or what is told of a
        codebook, and the width of the biases.

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
    norms = better_norms(plain, sampled, judge) if sampled is not None else {}
    before = judge.evaluate(plain) if judge else None
    apart = _divergence_from(plain, choice, judge)
    candidates = _candidates(plain, stats, keeps, choice, judge, apart, books(keeps) if books else ())
    beside = 0
    if judge is not None and judge.target.max_bytes is not None:
        beside = bytes_beside(plain, candidates[0], rest, choice, example)
    best = cheapest_counted(candidates, choice, judge, before, beside)
    facts: dict[str, Any] = dict(best.told or {"step_in_sigmas": best.step, "price": best.price})
    facts |= norms | missed_limits(candidates, best, judge, beside)
    if sampled is not None and spread:
        trained = {n for n, p in plain.named_parameters() if p.requires_grad}
        facts[SPREAD] = spreads_of({n: s for n, s in stats.items() if n in trained}, keeps, best.tensors)
    if best.kl is not None:
        facts["kl_of_grid"] = best.kl
    if before is not None:
        facts["pruned_validation_metric"] = before.metric
    tensors = dict(best.tensors)
    near = _within_divergence(choice, best, apart)
    plain, quantized, bias_facts = quantize_rest(plain, tensors, rest, choice.bias_bits, judge, near)
    small = finish(plain, quantized, {**facts, **bias_facts}, judge)
    if judge is None or before is None:
        return small
    return _told(small, choice, judge, before, best, apart(plain), len(candidates))


def _told(
    small: Compressed,
    choice: GridChoice,
    judge: Judge,
    before: Score,
    best: Candidate,
    kl: float | None,
    tried: int,
) -> Compressed:
    """The result, with what became of the allowances in its facts, and a note where they were not kept."""
    near = best.score is not None and allowed(best.score, best.kl, choice, judge, before)
    after = Score(small.facts["validation_metric"], small.facts["validation_nll"], before.terms)
    met, sentence = outcome(choice, judge, before, after, kl, near, tried)
    notes = [note for note in (unused(choice, judge), "" if met else sentence) if note]
    facts = {**small.facts, **({"grid_outcome": sentence} if sentence else {})}
    return replace(small, facts={**facts, "notes": notes} if notes else facts)


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
    plain: nn.Module,
    stats: Mapping[str, WeightStats],
    keeps: Masks,
    choice: GridChoice,
    judge: Judge | None,
    apart: Callable[[nn.Module], float | None],
    books: Sequence[Book] = (),
) -> list[Candidate]:
    """All codebooks and pairs of step and price; without a judge the first codebook or the finest grid."""
    pairs = list(itertools.product(sorted(choice.steps), sorted(choice.prices)))

    def gridded(step: float, price: float, left: Iterable[str]) -> dict[str, IntTensor]:
        return {n: on_grid(stats[n], keeps[n], step, price) for n in left}

    def made(index: int) -> Candidate:
        """The candidate of this number, neither counted nor scored."""
        step, price = pairs[max(0, index - len(books))]
        if index >= len(books):
            return Candidate(step, price, gridded(step, price, stats), 0, None, counted=False)
        book = books[index]
        beside = gridded(step, price, [n for n in stats if n not in book.tensors])
        tensors = {n: {**beside, **book.tensors}[n] for n in stats}
        return Candidate(step, price, tensors, 0, None, counted=False, told=book.facts)

    if judge is None:
        return [made(0)]
    counted = sum(s.mean.size for s in stats.values()) <= COUNTED_UP_TO
    found: list[Candidate] = []
    with steps("grids", len(books) + len(pairs)) as advance:
        for index in range(len(books) + len(pairs)):
            one = made(index)
            load_values(plain, {n: torch.from_numpy(t.values()) for n, t in one.tensors.items()})
            size = size_coded(one.tensors) if counted else size_estimated(one.tensors)
            score = judge.evaluate(plain)
            found.append(replace(one, bytes=size, score=score, counted=counted, kl=apart(plain)))
            advance()
    return found


def _divergence_from(
    plain: nn.Module, choice: GridChoice, judge: Judge | None
) -> Callable[[nn.Module], float | None]:
    """How far a network's predictions are from those of ``plain`` as it is now; None where nothing asks."""
    if judge is None:
        return lambda module: None
    target, measure = judge.target, judge.divergence
    if choice.max_kl is None or measure is None or (target.max_drop, target.max_bytes) != (None, None):
        return lambda module: None
    return partial(_swapped, measure, copy.deepcopy(plain))


def _within_divergence(
    choice: GridChoice, best: Candidate, apart: Callable[[nn.Module], float | None]
) -> Callable[[nn.Module], bool]:
    """Whether a network with quantised biases is still within ``max_kl``, as its weights alone are."""
    most = choice.max_kl
    if most is None or best.kl is None or best.kl > most:
        return lambda module: True
    return lambda module: (apart(module) or 0.0) <= most


def _swapped(measure: Divergence, reference: nn.Module, module: nn.Module) -> float:
    return measure(module, reference)


def on_grid(stats: WeightStats, keep: npt.NDArray[np.bool_], multiple: float, price: float) -> IntTensor:
    """One tensor on the grid whose step is ``multiple`` median posterior deviations of its kept weights."""
    if not keep.any():
        return IntTensor(stats.name, np.zeros(keep.shape, np.int32), UniformGrid(1.0))
    step = bfloat16(multiple * float(np.median(np.sqrt(stats.variance[keep]))))
    return IntTensor(stats.name, quantize(stats, keep, step, RateDistortion(price)), UniformGrid(step))


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
    weights: Mapping[str, Tensor],
    rest: Mapping[str, torch.Tensor],
    bias_bits: tuple[int, ...],
    judge: Judge | None,
    near: Callable[[nn.Module], bool] = lambda module: True,
) -> tuple[nn.Module, dict[str, Tensor], dict[str, Any]]:
    """Put biases and other deterministic parameters on uniform grids, as narrow as validation allows.

    One width serves all: the narrowest whose likelihood is within 1 % of that of unquantised biases, and
    which ``near`` accepts. It is the widest where none is, and without a judge.

    Args:
        plain: A plain network; its parameters are written.
        weights: The weights as they are stored, by name.
        rest: The other parameters, by name.
        bias_bits: Widths tried, in bits.
        judge: Scores candidates on the validation split.
        near: Whether a network with its biases on a grid is near enough to the original.

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
        if before is None or judge is None:
            break
        if within(judge.evaluate(plain).nll, before.nll, 0.01) and near(plain):
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
    tensors = {**tensors, **selections(plain)}
    plain.eval().cpu()
    scored: dict[str, Any] = {}
    if judge is not None:
        score = judge.evaluate(plain)
        scored = {"validation_metric": score.metric, "validation_nll": score.nll}
    return Compressed(plain, tensors, {**facts, **scored})


def selections(module: nn.Module) -> dict[str, IntTensor]:
    """Which parts of its inputs a network reads, as integers on a grid of step 1, by the buffers' names."""
    if not isinstance(module, NarrowInput):
        return {}
    gaps = {name: buffer.cpu().numpy().astype(np.int32) for name, buffer in module.gaps().items()}
    return {name: IntTensor(name, values, UniformGrid(1.0)) for name, values in gaps.items()}


def load_values(module: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Copy ``values`` into parameters of the same name, in place."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
