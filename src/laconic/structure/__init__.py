"""Which units of a network must be removed together, and the smaller network without some of them."""

from laconic.structure.coupling.groups import Coupling, Group, Member
from laconic.structure.finding import find_groups
from laconic.structure.plan import load_plan, save_plan
from laconic.structure.shrinking import mask, shrink

__all__ = ["Coupling", "Group", "Member", "find_groups", "load_plan", "mask", "save_plan", "shrink"]
