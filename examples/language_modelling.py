"""The next character of a text, by a GRU; metric: perplexity. A text file may be given."""

from __future__ import annotations

import sys

import torch
from parts import CHARACTERS, CharacterGRU, encoded, text, verify

import laconic
from laconic.methods import SparseVD, Target
from laconic.schedules import WarmUp
from laconic.tasks import LanguageModelling
from laconic.train.fit import FitConfig, Hooks, fit

torch.manual_seed(0)
torch.set_num_threads(1)
task, target = LanguageModelling(), Target(max_drop=0.3)  # in perplexity
corpus, hidden = (text(sys.argv[1]), 128) if sys.argv[1:] else (text()[:15_000], 32)
windows = encoded(corpus).unfold(0, 65, 64)  # (N, 65): one tensor of tokens is inputs and targets
held = len(windows) // 10
train, validate, test = (list(w.split(32)) for w in windows.split([len(windows) - 2 * held, held, held]))

model = CharacterGRU(hidden, outputs=len(CHARACTERS))
fit(model, train, FitConfig(5, lr=5e-3), Hooks.plain(model, task), task=task)
method = SparseVD(warm_up=WarmUp(0.0, 2.0), hold_from=3.0)
small = laconic.compress(model, train, validate, method, target, task=task, fit=FitConfig(5, lr=5e-3))
size = laconic.save(small, "language.lac")
print(f"{size} bytes; test {task.metric.name} {task.metric.show(verify('language.lac', test, task))}")
