"""All lowering rules: PyTorch operation -> graph nodes. A later table overrides an earlier one."""

from __future__ import annotations

from collections.abc import Mapping

from laconic.export.lowering import Rule
from laconic.export.rules_elementwise import ELEMENTWISE_RULES
from laconic.export.rules_index import INDEX_RULES
from laconic.export.rules_layers import LAYER_RULES
from laconic.export.rules_math import MATH_RULES
from laconic.export.rules_order import ORDER_RULES
from laconic.export.rules_scatter import SCATTER_RULES
from laconic.export.rules_shapes import SHAPE_RULES
from laconic.export.rules_sizes import SIZE_RULES
from laconic.export.rules_windows import WINDOW_RULES

RULES: Mapping[object, Rule] = {
    **LAYER_RULES,
    **MATH_RULES,
    **SHAPE_RULES,
    **SIZE_RULES,
    **INDEX_RULES,
    **ELEMENTWISE_RULES,
    **ORDER_RULES,
    **SCATTER_RULES,
    **WINDOW_RULES,
}
"""``aten`` operation -> rule. Operations without one are decomposed by PyTorch, or else refused."""
