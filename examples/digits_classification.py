"""One of ten classes, in a loop of your own: prepare, train, convert, save, verify."""

from __future__ import annotations

from functools import partial

import torch
from parts import batches, digits, verify
from torch import nn

import laconic
from laconic.methods import Judge, SparseVD, Target
from laconic.tasks import Classification
from laconic.train.evaluate import evaluate
from laconic.train.fit import FitConfig, Hooks, fit

torch.manual_seed(0)
torch.set_num_threads(1)
task, target = Classification(), Target(max_drop=1.0)  # percentage points of error on the validation split
train, validate, test = (batches(*part) for part in digits())

model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
fit(model, train, FitConfig(8, lr=3e-3), Hooks.plain(model, task), task=task)

method = SparseVD(kl_weight=1.0, hold_from=10.0)
net = laconic.prepare(model, method, train[0][0], data_size=1200, task=task, total_steps=15 * len(train))
optimizer = torch.optim.Adam(laconic.param_groups(net, lr=3e-3))
for _epoch in range(15):
    for batch in train:
        loss = laconic.objective(net, batch)  # nats per image: likelihood and KL
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        laconic.step(net)
score = partial(evaluate, batches=validate, task=task)
small = laconic.convert(net, Judge(score, score(model), target, task.metric))
size = laconic.save(small, "digits.lac")
error = verify("digits.lac", test, task)
print(f"{size} bytes; test {task.metric.name} {task.metric.show(error)}")
