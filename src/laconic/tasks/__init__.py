"""Tasks: how a batch becomes inputs and targets, the likelihood in nats, and the metric.

One file per task. Nothing here imports torch before a likelihood is computed, so that a process without
torch can score a file.
"""

from laconic.tasks.batches import Batch
from laconic.tasks.binary import BinaryClassification
from laconic.tasks.classification import Classification
from laconic.tasks.given import Loss, as_task, length_of, reread
from laconic.tasks.language_modelling import LanguageModelling
from laconic.tasks.multilabel import MultiLabel
from laconic.tasks.plain_loss import PlainLoss, check_scale
from laconic.tasks.predictive import Bernoulli, Categorical, Gaussian, Predictive
from laconic.tasks.registry import TaskEntry, find_task, make_task, task_entries, task_names
from laconic.tasks.regression import Regression
from laconic.tasks.segmentation import Segmentation
from laconic.tasks.sequence_labelling import SequenceLabelling
from laconic.tasks.task import Metric, Score, Task

__all__ = [
    "Batch",
    "Bernoulli",
    "BinaryClassification",
    "Categorical",
    "Classification",
    "Gaussian",
    "LanguageModelling",
    "Loss",
    "Metric",
    "MultiLabel",
    "PlainLoss",
    "Predictive",
    "Regression",
    "Score",
    "Segmentation",
    "SequenceLabelling",
    "Task",
    "TaskEntry",
    "as_task",
    "check_scale",
    "find_task",
    "length_of",
    "make_task",
    "reread",
    "task_entries",
    "task_names",
]
