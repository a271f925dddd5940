r"""Distillation: a small network learns from what a large one says, not from the labels alone.

.. math:: (1-w)\, L(z, y) + w\, T^2\, \mathrm{KL}\big(p(z^t/T) \,\|\, p(z/T)\big), \quad p = \mathrm{softmax}

in nats per example; T squared keeps the gradient's size whatever the temperature.

G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.errors import InputError


@dataclass(frozen=True, eq=False)
class Distillation:
    """A teacher, put into evaluation mode and never trained; ``weight`` is its share of the loss.

    >>> z = torch.tensor([[2.0, 0.0]])
    >>> float(Distillation(nn.Identity(), weight=1.0).of(z, z, torch.tensor(5.0)))  # agrees with the teacher
    0.0
    """

    teacher: nn.Module
    temperature: float = 4.0
    weight: float = 0.9

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)) or not 0 < self.weight <= 1:
            raise InputError(
                f"need temperature > 0 and 0 < weight <= 1, got {self.temperature} and {self.weight}"
            )

    def logits(self, x: Tensor) -> Tensor:
        """What the teacher says of a batch: (N, classes)."""
        self.teacher.eval()
        with torch.no_grad():
            said: Tensor = self.teacher(x)
        return said

    def of(self, student: Tensor, teacher: Tensor, loss: Tensor) -> Tensor:
        """The loss on the labels and the divergence from the teacher, weighed; both logits (N, classes).

        Raises InputError when the two have different shapes.
        """
        if student.shape != teacher.shape:
            raise InputError(
                f"the teacher returns shape {tuple(teacher.shape)}, the student {tuple(student.shape)}. "
                "Cure: a teacher with the same classes"
            )
        t = self.temperature
        exact = torch.promote_types(student.dtype, torch.float32)  # not in a network's 16 bits
        ours, theirs = (F.log_softmax(z.to(exact) / t, dim=1) for z in (student, teacher))
        divergence = F.kl_div(ours, theirs, log_target=True, reduction="batchmean")
        return (1 - self.weight) * loss + self.weight * t * t * divergence
