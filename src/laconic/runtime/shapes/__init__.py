"""The shape of every value of a graph, from those of its tensors and inputs; nothing is built or run."""

from laconic.runtime.shapes.common import Shape
from laconic.runtime.shapes.follow import RULES, Walk, follow, input_shapes, tried_inputs, walk

__all__ = ["RULES", "Shape", "Walk", "follow", "input_shapes", "tried_inputs", "walk"]
