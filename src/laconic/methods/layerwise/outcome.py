"""From what the user asks for to the price that gives it, and what is told of the search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from laconic.export.build import build_packed
from laconic.methods.common.allowances import reachable
from laconic.methods.contract import Judge, Score, Target
from laconic.methods.layerwise.refining import Refine, exchange_rate, refined
from laconic.methods.layerwise.search import Found, Limit, find_price
from laconic.methods.layerwise.trials import Subject, Trial, try_price
from laconic.pack import coded_bytes, encode
from laconic.text import counted

HIGHER = 2.0
"""Where the search with refinement starts, over the price found without it, and its least step."""
FEW = 10
"""Inputs below which a measured divergence says little of others: a note tells it."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a search is for.

    Args:
        target: What the user asks for.
        judge: Scores networks on labelled batches; None where there are none.
        max_kl: Nats per term allowed; None where something else limits.
    """

    target: Target
    judge: Judge | None
    max_kl: float | None

    @classmethod
    def of(cls, judge: Judge | None, usual: float) -> Wanted:
        """From the judge that a method is handed: one without the original's score has no labels."""
        target = Target() if judge is None else judge.target
        scoring = judge if judge is not None and judge.original is not None else None
        return cls(target, scoring, usual if target == Target() else target.max_kl)


@dataclass(eq=False)
class _Scores:
    """What trials are worth, each computed once."""

    subject: Subject
    wanted: Wanted
    example: Any
    beside: int | None = None
    scores: dict[int, Score] = field(default_factory=dict)

    def file_bytes(self, trial: Trial) -> int:
        """Length of the file: what is beside its tensors is the same at every price."""
        if self.beside is None:
            self.beside = _encoded(trial, self.example) - trial.bytes
        return trial.bytes + self.beside

    def score(self, judge: Judge, trial: Trial) -> Score:
        """The trial's on labelled batches."""
        if id(trial) not in self.scores:
            self.scores[id(trial)] = judge.evaluate(trial.module)
        return self.scores[id(trial)]

    def drop(self, trial: Trial) -> float | None:
        """How much worse the metric is than the original's, in its unit; None where no target limits it."""
        judge = self.wanted.judge
        if judge is None or judge.original is None or self.wanted.target.max_drop is None:
            return None
        return judge.metric.drop(judge.original.metric, self.score(judge, trial).metric)

    def loss(self, trial: Trial) -> tuple[float, float, float]:
        """What trials are ordered by where none keeps the limits of what is lost."""
        return _loss(self).excess(trial), self.drop(trial) or 0.0, trial.divergence


def searched(subject: Subject, wanted: Wanted, example: Any, most: int) -> Found[Trial]:
    """Find the price that gives what is wanted.

    Args:
        subject: The network.
        wanted: What is asked for.
        example: The input that the file's graph is captured with.
        most: Trials, at least 1; a target in bytes may take a few more.

    Returns:
        The best trial, and whether it is what was asked for.
    """
    known = _Scores(subject, wanted, example)
    attempt = partial(try_price, subject)
    count = sum(subject.original.get_parameter(name).numel() for name in subject.weights)
    start = 2.0 * (wanted.max_kl or 0.01) / max(1, count)
    limit = wanted.target.max_bytes
    if limit is None:
        return find_price(attempt, start, _loss(known), most, release=_release)
    found = find_price(attempt, start, _size(known, limit), most, release=_release)
    real = _encoded(found.best, example)
    if found.met and real > limit:  # contexts from earlier tensors differ by some bytes from price to price
        known.beside = real - found.best.bytes
        start, most = 1.02 * found.best.price, max(2, most // 2)
        found = find_price(attempt, start, _size(known, limit), most, release=_release)
    return _within(known, limit, found) if found.met else found


def _within(known: _Scores, limit: int, found: Found[Trial]) -> Found[Trial]:
    """A search by bytes held against the other limits: of all trials that are short enough, where the
    chosen one loses too much, the one that loses least. Divergence need not fall with the price.
    """
    excess = _loss(known).excess
    if excess(found.best) <= 0:
        return found
    short = [trial for trial in found.trials if known.file_bytes(trial) <= limit]
    by_loss = sorted(short, key=known.loss)
    best = next((t for t in by_loss if _encoded(t, known.example) <= limit), found.best)
    return replace(found, best=best, met=excess(best) <= 0)


def with_reachable(
    subject: Subject, wanted: Wanted, example: Any, found: Found[Trial], most: int
) -> tuple[Found[Trial], dict[str, Any]]:
    """What can be had where a limit of the length and one of the loss cannot both be kept.

    The search by bytes goes on, by loss: it ends at the shortest file that keeps the loss. Of the files that
    are short enough, the one that loses least is the result.

    Args:
        subject: The network.
        wanted: What is asked for.
        example: The input that the file's graph is captured with.
        found: The search so far.
        most: Trials more, at least 1.

    Returns:
        The search with its new trials, and facts: ``reachable`` where both limits were given and are not
        kept, else none.
    """
    limit = wanted.target.max_bytes
    known = _Scores(subject, wanted, example)
    if found.met or limit is None or (known.drop(found.best) is None and wanted.max_kl is None):
        return found, {}
    excess = _loss(known).excess
    if excess(found.best) <= 0:  # the length alone cannot be reached
        kept = reachable(0, found.best.divergence, known.drop(found.best), keeps=True)
        return found, {"reachable": kept}
    plain = sorted((t for t in found.trials if not t.refined_steps), key=lambda trial: trial.price)
    attempt = partial(try_price, subject)
    more = find_price(attempt, None, _loss(known), most, plain, release=_release)
    new = [trial for trial in more.trials if not any(trial is old for old in found.trials)]
    every = _within(known, limit, replace(found, trials=(*found.trials, *new)))
    if every.met:
        return every, {}
    keeping = [trial for trial in every.trials if excess(trial) <= 0]
    reach = min(keeping, key=lambda t: t.bytes) if keeping else min(every.trials, key=known.loss)
    longer = _encoded(reach, example) - _encoded(every.best, example)
    return every, {"reachable": reachable(longer, reach.divergence, known.drop(reach), keeps=bool(keeping))}


def searched_refined(
    subject: Subject, wanted: Wanted, example: Any, found: Found[Trial], config: Refine, seed: int
) -> Found[Trial]:
    """Go on from a search with networks that are refined after the decision.

    Prices start above the one that was found: at one divergence, refined networks are smaller. What was found
    stays where none of them is better.

    Args:
        subject: The network.
        wanted: What is asked for.
        example: The input that the file's graph is captured with.
        found: The search without refinement.
        config: The refinement's settings.
        seed: Of the refinement.

    Returns:
        The better of ``found`` and the best refined trial, with the trials of both searches.
    """
    known = _Scores(subject, wanted, example)
    decided = {trial.price: trial for trial in found.trials}

    def attempt(price: float) -> Trial:
        trial = decided.get(price) or try_price(subject, price)
        decided[price] = trial
        return refined(subject, trial, config, exchange_rate(tuple(decided.values()), trial), seed)

    limit = wanted.target.max_bytes
    if limit is None:
        start, sought, before = found.best.price * HIGHER, _loss(known), [found.best] if found.met else []
    else:
        start, sought, before = found.best.price, _size(known, limit), []

    def excess(trial: Trial) -> float:
        # Refined, a network at this price loses less than it was seen to: a bound, but no guide.
        return -math.inf if trial is found.best else sought.excess(trial)

    rule = replace(sought, excess=excess)
    other = find_price(attempt, start, rule, config.trials, before, math.log(HIGHER), _release)
    tried = other.trials[len(before) :]
    every = replace(found, trials=(*found.trials, *tried))
    first = [found.best] if found.met else []
    for trial in sorted((*first, *tried), key=partial(_worse, by_bytes=limit is None)):
        fits = limit is None or (found.met and trial is found.best) or _encoded(trial, example) <= limit
        if fits and _loss(known).excess(trial) <= 0:
            return replace(every, best=trial, met=True)
    return every


def _worse(trial: Trial, *, by_bytes: bool) -> float:
    return trial.bytes if by_bytes else trial.divergence


def _size(known: _Scores, limit: int) -> Limit[Trial]:
    return Limit(lambda t: math.log(known.file_bytes(t) / limit), rises=False, slack=0.01)


def _loss(known: _Scores) -> Limit[Trial]:
    """The divergence, the metric, or both; the sign alone tells of a metric, which moves by jumps."""
    wanted, judge = known.wanted, known.wanted.judge
    allowed = wanted.max_kl

    def divergence(trial: Trial) -> float:
        return -math.inf if allowed is None else _log_ratio(trial.divergence, allowed)

    original = None if judge is None else judge.original
    if judge is None or original is None or wanted.target.max_drop is None:
        return Limit(divergence, slack=0.03)

    def excess(trial: Trial) -> float:
        lost = not judge.accepts(known.score(judge, trial), original)
        return max(1.0 if lost else -1.0, divergence(trial))

    return Limit(excess, guided=False)


def _log_ratio(value: float, allowed: float) -> float:
    if allowed == 0 or math.isnan(value):
        return -math.inf if value == 0 else math.inf
    ratio = value / allowed
    return math.log(ratio) if ratio > 0 else -math.inf


def _encoded(trial: Trial, example: Any) -> int:
    return len(encode(build_packed(trial.module, trial.tensors, example)[0]))


def _release(trial: Trial) -> None:
    trial.floors.release()


def _floor_of(trial: Trial, subject: Subject) -> dict[str, Any]:
    """The floors; where a search let them go, since it was not the best by that search's limit, of the same
    decision made again.
    """
    kept = try_price(subject, trial.price).floors if trial.floors.released else trial.floors
    floors = kept.found()
    return {
        "weights": sum(trial.tensors[n].size for n in floors),
        "coded_bits": 8 * sum(coded_bytes(trial.tensors[n]) for n in floors),
        "entropy_bits": sum(floor.entropy for floor in floors.values()),
        "gaussian_bits": sum(floor.gaussian for floor in floors.values()),
    }


def facts_of(
    found: Found[Trial],
    subject: Subject,
    wanted: Wanted,
    measured: int,
    folded: tuple[str, ...],
    *,
    refining: bool = False,
) -> dict[str, Any]:
    """What the record says of a search.

    Args:
        found: The search.
        subject: The network.
        wanted: What was asked for.
        measured: Examples that the divergence was measured on.
        folded: Batch norms that were folded.
        refining: Whether refinement was asked for.

    Returns:
        Plain data.
    """
    best = found.best
    weights = sum(t.size for t in best.tensors.values())
    unreached = [n for n in subject.unread if n not in subject.uses.others]
    notes = []
    if measured < FEW:
        notes.append(
            f"the divergence was measured on {counted(measured, 'input')} only and may be larger on others. "
            "Cure: some hundred inputs"
        )
    if refining and not best.refined_steps:
        notes.append(
            "refinement was no gain here, so the file is what it would be without. "
            "Cure: more calibration inputs, refine.what=scales, or a lower refine.rate"
        )
    if unreached:
        names = ", ".join(repr(n) for n in unreached[:3]) + (", .." if len(unreached) > 3 else "")
        notes.append(
            f"the calibration inputs never reach {counted(len(unreached), 'weight tensor')} ({names}): "
            "decided as if every error in them cost the same. Cure: inputs that use these layers"
        )
    return {
        "price": best.price,
        "divergence": best.divergence,
        "divergence_examples": measured,
        "predicted_divergence": sum(best.distortion.values()),
        "bits_per_weight": 8 * best.bytes / max(1, weights),
        "floor": _floor_of(best, subject),
        "prices_tried": [
            {
                "price": t.price,
                "tensor_bytes": t.bytes,
                "divergence": t.divergence,
                "refined_steps": t.refined_steps,
            }
            for t in found.trials
        ],
        "refined_steps": best.refined_steps,
        "target_met": found.met,
        "folded_norms": list(folded),
        "unreached": unreached,
        "notes": notes,
    }
