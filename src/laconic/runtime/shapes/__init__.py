"""The shape of every value of a graph, from those of its tensors and inputs; nothing is built or run."""

from laconic.runtime.shapes.common import Shape
from laconic.runtime.shapes.follow import RULES, follow, free_sizes, input_shapes

__all__ = ["RULES", "Shape", "follow", "free_sizes", "input_shapes"]
