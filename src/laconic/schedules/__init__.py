"""Schedules: how a setting changes over training."""

from laconic.schedules.sparsity import Cubic, Iterative, OneShot
from laconic.schedules.steps import Schedule

__all__ = ["Cubic", "Iterative", "OneShot", "Schedule"]
