"""Which weights, units and inputs go? Decisions as keep-masks and keep plans, and smaller networks."""

from laconic.sparsify.coupling.groups import Coupling, Group, Member
from laconic.sparsify.find import find_groups
from laconic.sparsify.plan import load_plan, save_plan
from laconic.sparsify.shrink import mask, shrink

__all__ = ["Coupling", "Group", "Member", "find_groups", "load_plan", "mask", "save_plan", "shrink"]
