"""What a network is for: how a batch becomes inputs and targets, its likelihood in nats, and its metric.

One file per task. Nothing here imports torch before a likelihood is computed, so that a file can be scored by a
process that has no torch.
"""

from laconic.tasks.task import Batch, Metric, Score, Task

__all__ = ["Batch", "Metric", "Score", "Task"]
