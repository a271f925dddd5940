"""How much each coupled group can lose: the metric with one group or tied set masked at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from laconic.errors import InputError, NonFiniteError
from laconic.sparsify.scores.common import UnitScores
from laconic.sparsify.selection.ranking import rankings
from laconic.sparsify.selection.share import plan_by_ratio
from laconic.structure.coupling.groups import Coupling
from laconic.structure.shrinking import mask


@dataclass(frozen=True)
class Sensitivity:
    """A metric where less is better: ``metrics[s][r]`` with share ``ratios[r]`` of set ``groups[s]`` masked.

    ``baseline`` is the metric of the whole network. ``str`` gives a table.
    """

    groups: tuple[tuple[str, ...], ...]
    ratios: tuple[float, ...]
    baseline: float
    metrics: tuple[tuple[float, ...], ...]

    def rises(self) -> tuple[tuple[float, ...], ...]:
        """How much worse than the whole network, in the metric's unit."""
        return tuple(tuple(m - self.baseline for m in row) for row in self.metrics)

    def within(self, tolerance: float) -> dict[str, float]:
        """By group, the largest share whose removal alone makes the metric at most this much worse.

        >>> table = Sensitivity((("a:0",), ("b:0",)), (0.25, 0.5), 1.0, ((1.1, 1.9), (1.0, 1.2)))
        >>> table.within(0.3)
        {'a:0': 0.25, 'b:0': 0.5}
        """
        shares: dict[str, float] = {}
        for names, row in zip(self.groups, self.rises(), strict=True):
            share = 0.0
            for ratio, rise in zip(self.ratios, row, strict=True):
                if rise > tolerance:
                    break
                share = ratio
            shares |= dict.fromkeys(names, share)
        return shares

    def ratios_for(self, saving: Callable[[Mapping[str, float]], float], target: float) -> dict[str, float]:
        """Shares by group that save ``target``: those of the smallest tolerance that does.

        ``saving(shares)`` says what they save, in any unit, with
        :func:`laconic.sparsify.selection.share.plan_by_ratio` say. Every group is then equally close to
        harm by itself. Source: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, section 3.2
        (layers there).

        Raises InputError when the largest shares of the table save less.

        >>> table = Sensitivity((("a:0",), ("b:0",)), (0.25, 0.5), 1.0, ((1.1, 1.9), (1.0, 1.2)))
        >>> table.ratios_for(lambda shares: 100 * sum(shares.values()), 60)
        {'a:0': 0.25, 'b:0': 0.5}
        """
        shares = dict.fromkeys((n for names in self.groups for n in names), 0.0)
        saved = saving(shares)
        for tolerance in sorted({rise for row in self.rises() for rise in row}):
            if saved >= target:
                break
            shares = self.within(tolerance)
            saved = saving(shares)
        if saved < target:
            raise InputError(
                f"the largest shares measured save {saved:.6g}, which is less than {target:.6g}. "
                "Cure: measure larger ratios, or ask for less"
            )
        return shares

    def __str__(self) -> str:
        width = max(len(_joined(names)) for names in (*self.groups, ("group",)))
        head = f"{'group':<{width}}" + "".join(f"{f'-{r:.0%}':>11}" for r in self.ratios)
        rows = [
            f"{_joined(names):<{width}}" + "".join(f"{m:>11.5g}" for m in row)
            for names, row in zip(self.groups, self.metrics, strict=True)
        ]
        return "\n".join([f"{'whole network':<{width}} {self.baseline:.5g}", head, *rows])


def _joined(names: Sequence[str]) -> str:
    return " + ".join(names)


def sensitivity(
    module: nn.Module,
    coupling: Coupling,
    evaluate: Callable[[nn.Module], float],
    ratios: Sequence[float],
    scores: Mapping[str, UnitScores],
) -> Sensitivity:
    """Mask the units with the lowest scores of one group (or tied set) at a time, and measure.

    ``evaluate(network)`` gives a number where lower is better: an error or a loss. ``ratios`` rise within
    (0, 1); each group loses ``floor(ratio * size)`` units. Groups without scores are left out.

    Raises InputError for ratios that do not rise, NonFiniteError naming a group whose metric is a NaN.
    """
    given = tuple(float(r) for r in ratios)
    if not given or any(not a < b < 1 for a, b in zip((0.0, *given), given, strict=False)):
        raise InputError(f"ratios must rise within (0, 1), got {given}. Cure: ratios=(0.25, 0.5, 0.75)")
    sets = tuple(r.names for r in rankings(scores, coupling))
    metrics = []
    for names in sets:
        own = {n: scores[n] for n in names}
        row = [evaluate(mask(module, coupling, plan_by_ratio(own, coupling, ratio))) for ratio in given]
        if any(m != m for m in row):
            raise NonFiniteError(
                f"sensitivity of group {_joined(names)!r}: the metric is NaN, got {row}. Cure: smaller "
                "ratios, or a metric that is a number for a poor network too"
            )
        metrics.append(tuple(float(m) for m in row))
    return Sensitivity(sets, given, float(evaluate(module)), tuple(metrics))
