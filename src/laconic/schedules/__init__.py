"""Schedules: how a share, a factor or a rate changes over training. Frozen settings, without torch.

One vocabulary: ``progress`` is where training stands, a change runs from ``start`` to ``end``.
"""

from laconic.schedules.learning_rate import LinearDecay
from laconic.schedules.sparsity import (
    Cubic,
    Geometric,
    Iterative,
    Linear,
    OneShot,
    Schedule,
    check_schedule,
    of_what_is_left,
    removed_share,
    steps,
)
from laconic.schedules.warm_up import WarmUp

__all__ = [
    "Cubic",
    "Geometric",
    "Iterative",
    "Linear",
    "LinearDecay",
    "OneShot",
    "Schedule",
    "WarmUp",
    "check_schedule",
    "of_what_is_left",
    "removed_share",
    "steps",
]
