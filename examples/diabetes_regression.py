"""A quantity, its noise learnt: how far diabetes went in the year after ten measurements (Efron 2004)."""

from __future__ import annotations

import torch
from parts import batches, verify
from sklearn.datasets import load_diabetes
from torch import nn

import laconic
from laconic.methods import SparseVD, Target
from laconic.tasks import Regression
from laconic.train.fit import FitConfig, Hooks, fit

torch.manual_seed(0)
torch.set_num_threads(1)
task, target = Regression(unit="points"), Target(max_drop=2.0)  # points of root mean squared error
x, y = (torch.tensor(a, dtype=torch.float32) for a in load_diabetes(return_X_y=True))
x, y = x * len(x) ** 0.5, y[:, None]  # each column has variance 1
order = torch.randperm(len(x))
train, validate, test = (batches(x[rows], y[rows]) for rows in order.split([282, 80, 80]))


model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
with torch.no_grad():
    model[2].weight.mul_(y.std())  # outputs in the target's unit
    model[2].bias.fill_(y[order[:282]].mean())
fit(model, train, FitConfig(30, lr=3e-3), Hooks.plain(model, task), task=task)
method = SparseVD(hold_from=40.0)
small = laconic.compress(model, train, validate, method, target, task=task, fit=FitConfig(60, lr=3e-3))
size = laconic.save(small, "diabetes.lac")
error = verify("diabetes.lac", test, task)
print(f"{size} bytes; test {task.metric.name} {task.metric.show(error)}")
