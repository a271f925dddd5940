"""Ways to quantise a pruned network, and which of them is taken: the cheapest that validation allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from laconic.methods.common.allowances import allowed, reachable
from laconic.methods.common.grid_settings import GridChoice
from laconic.methods.contract import Judge, Score
from laconic.pack import coded_bytes
from laconic.quantize.rate_model import rate_bits
from laconic.records import IntTensor


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to quantise: its settings, tensors, bytes and validation score.

    ``counted``: whether ``bytes`` were counted by coding the tensors, or estimated from their statistics.
    ``told``: what the facts say of it; of a uniform grid its step and price.
    ``kl``: nats per term from the pruned network's predictions, where :attr:`GridChoice.max_kl` asks for it.
    """

    step: float
    price: float
    tensors: Mapping[str, IntTensor]
    bytes: int
    score: Score | None
    counted: bool = True
    kl: float | None = None
    told: Mapping[str, Any] | None = None


def cheapest_counted(
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
        counted = replace(best, bytes=size_coded(best.tensors), counted=True)
        left = [counted if c is best else c for c in left]


def missed_limits(
    candidates: list[Candidate], best: Candidate, judge: Judge | None, beside: int
) -> dict[str, Any]:
    """The fact ``reachable`` where no candidate keeps both the length and the drop; else none."""
    if judge is None or judge.original is None or best.score is None:
        return {}
    original, target = judge.original, judge.target
    if target.max_bytes is None or target.max_drop is None:
        return {}
    if judge.accepts(best.score, original) and best.bytes + beside <= target.max_bytes:
        return {}
    scored = [(c, c.score) for c in candidates if c.score is not None]
    good = [(c, s) for c, s in scored if judge.accepts(s, original)]
    reach, score = min(good, key=lambda pair: pair[0].bytes) if good else min(scored, key=_lost(judge))
    more = size_coded(reach.tensors) - size_coded(best.tensors)
    drop = judge.metric.drop(original.metric, score.metric)
    return {"reachable": reachable(more, None, drop, keeps=bool(good))}


def _lost(judge: Judge) -> Callable[[tuple[Candidate, Score]], tuple[float, float]]:
    """What candidates are ordered by where none keeps a target of the metric: the metric, then likelihood."""

    def lost(pair: tuple[Candidate, Score]) -> tuple[float, float]:
        score = pair[1]
        original = judge.original
        drop = 0.0 if original is None else judge.metric.drop(original.metric, score.metric)
        return (0.0 if judge.target.max_drop is None else drop), score.nll

    return lost


def cheapest(
    candidates: list[Candidate],
    choice: GridChoice,
    judge: Judge | None,
    before: Score | None,
    bytes_beside: int = 0,
) -> Candidate:
    """Fewest bytes within the allowance; if none is within it, the one with the best likelihood.

    Under a target of ``max_bytes`` for the file, ``bytes_beside`` the weights included, it is the best
    likelihood among those that fit and keep ``max_drop``, the smallest drop among those that fit where none
    keeps it, or the smallest of all if none fits.
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
        return min(good, key=lambda pair: pair[1].nll)[0] if good else min(fits, key=_lost(judge))[0]
    good_enough = [c for c, s in scored if allowed(s, c.kl, choice, judge, before)]
    if good_enough:
        return min(good_enough, key=lambda c: c.bytes)
    return min(scored, key=lambda pair: pair[1].nll if pair[0].kl is None else pair[0].kl)[0]


def size_coded(tensors: Mapping[str, IntTensor]) -> int:
    """Bytes of tensors, counted by coding them."""
    return sum(coded_bytes(t) for t in tensors.values())


def size_estimated(tensors: Mapping[str, IntTensor]) -> int:
    """Bytes of tensors, estimated from the statistics of their integers."""
    return math.ceil(sum(rate_bits(t.integers) for t in tensors.values()) / 8)
