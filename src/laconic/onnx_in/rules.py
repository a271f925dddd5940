"""The rules of all operators of ONNX that have one."""

from __future__ import annotations

from laconic.onnx_in import rules_elementwise, rules_layers, rules_moves, rules_recurrent
from laconic.onnx_in.conversion import Rule

RULES: dict[str, Rule] = {
    **rules_layers.RULES,
    **rules_recurrent.RULES,
    **rules_elementwise.RULES,
    **rules_moves.RULES,
}
