"""Structured pruning by any score: a function of the network and its groups, called at every cut.

Posterior: none (a point), unless the function uses one. Decision: by the user's score. All scores of
:mod:`laconic.sparsify.scores` fit; those that need data or a loss are given a loader by the user; the
schedule, the budget and the shrinking are those of every method that prunes units (Zhu & Gupta 2017 for the
cubic one, Han et al. 2015 for rounds).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from laconic.errors import InputError
from laconic.methods.common.unit_importance import Importance, ScoreUnits
from laconic.methods.common.unit_pruning import PRESETS, UnitPruning
from laconic.methods.registry import MethodEntry


@dataclass(frozen=True)
class ScorePruning(UnitPruning):
    """Pruning by a score of one's own.

    Args:
        macs: Share of the multiply-accumulates that stay, in (0, 1].
        schedule: Which share of the rest is removed by which point of training.
        min_units: Units that every group keeps.
        multiple: What unit counts are multiples of.
        inputs: Whether parts of the network's input may be removed, too.
        epochs: Length of training in epochs, where the context does not know its total steps.
        every: Steps between two cuts.
        grid: How the remaining weights are quantised (None: they stay float32).
        score: ``score(module, coupling)`` returns one number for each unit of each group, at least 0,
            higher = keep. It is handed the prepared network with removed units at zero, and must not change
            it. For the same network it must return the same numbers, or a run that was killed does not go
            on to the same file.

    Raises:
        InputError: A setting outside its bounds, or a score that is no function.

    >>> from laconic.networks import gather_second_moments
    >>> from laconic.sparsify.scores import obs_groups
    >>> from laconic.schedules import Iterative
    >>> calibration = []  # batches of inputs
    >>> method = ScorePruning(0.3, Iterative(5), score=lambda net, groups: obs_groups(
    ...     net, groups, gather_second_moments(net, calibration)))
    """

    score: ScoreUnits = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.score):
            raise InputError(
                f"score must be a function of (network, coupling), got {self.score!r}. "
                "Cure: laconic.sparsify.scores.l1_groups, or one of your own"
            )

    def importance(self) -> Importance:
        """What the function says."""
        return Importance(self.score)


METHOD = MethodEntry("score", ScorePruning, presets=PRESETS, paper="the score's own")
