"""Any number of labels: whether a digit is even, larger than 4, prime."""

from __future__ import annotations

import torch
from parts import batches, digits, verify
from torch import Tensor, nn

import laconic
from laconic.methods import SparseVD, Target
from laconic.tasks import MultiLabel
from laconic.train.fit import FitConfig, Hooks, fit

torch.manual_seed(0)
torch.set_num_threads(1)
task, target = MultiLabel(), Target(max_drop=1.0)  # percentage points of label error


def labels(digit: Tensor) -> Tensor:
    """(N, 3) of 0 and 1."""
    return torch.stack([digit % 2 == 0, digit > 4, torch.isin(digit, torch.tensor([2, 3, 5, 7]))], 1).float()


train, validate, test = (batches(x, labels(y)) for x, y in digits())
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
fit(model, train, FitConfig(10, lr=3e-3), Hooks.plain(model, task), task=task)

method = SparseVD(kl_weight=1.0, hold_from=10.0)
small = laconic.compress(model, train, validate, method, target, task=task, fit=FitConfig(15, lr=3e-3))
size = laconic.save(small, "digits.lac")
error = verify("digits.lac", test, task)
print(f"{size} bytes; test {task.metric.name} {task.metric.show(error)}")
