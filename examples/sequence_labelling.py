"""A label for each character of a text without spaces, by a GRU: whether a word begins there."""

from __future__ import annotations

import sys

import torch
from parts import CharacterGRU, batches, encoded, text, verify

import laconic
from laconic.methods import SparseVD, Target
from laconic.schedules import WarmUp
from laconic.tasks import SequenceLabelling
from laconic.train.fit import FitConfig, Hooks, fit

torch.manual_seed(0)
torch.set_num_threads(1)
task, target = SequenceLabelling(), Target(max_drop=1.0)  # percentage points of token error
words = text(*sys.argv[1:2]).split()[: None if sys.argv[1:] else 4000]
joined, starts = "".join(words), torch.tensor([i == 0 for word in words for i in range(len(word))]).long()

rows = len(joined) // 32 * 32
x, y = encoded(joined)[:rows].view(-1, 32), starts[:rows].view(-1, 32)
parts = [len(x) - 2 * (len(x) // 10), len(x) // 10, len(x) // 10]
train, validate, test = (batches(a, b, 32) for a, b in zip(x.split(parts), y.split(parts), strict=True))

model = CharacterGRU(32, outputs=2, both_ways=True)
fit(model, train, FitConfig(4, lr=5e-3), Hooks.plain(model, task), task=task)
method = SparseVD(warm_up=WarmUp(0.0, 2.0), hold_from=3.0)
small = laconic.compress(model, train, validate, method, target, task=task, fit=FitConfig(5, lr=5e-3))
size = laconic.save(small, "labeller.lac")
print(f"{size} bytes; test {task.metric.name} {task.metric.show(verify('labeller.lac', test, task))}")
