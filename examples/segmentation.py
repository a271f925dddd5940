"""A class for each pixel, an ignored label, mean IoU: CamVid, given its path; else whose ink a pixel is."""

from __future__ import annotations

import sys

import torch
from parts import SmallUNet, batches, camvid, digits, ink, verify

import laconic
from laconic.methods import SparseVD, Target
from laconic.tasks import Segmentation
from laconic.train.fit import FitConfig, Hooks, fit

torch.manual_seed(0)
torch.set_num_threads(1)
task, target = Segmentation(ignore=11), Target(max_drop=2.0)  # points of mean IoU
if sys.argv[1:]:
    sets, size, epochs = camvid(sys.argv[1]), 8, 12
else:
    sets, size, epochs = tuple(ink(x, y) for x, y in digits()), 64, 5
train, validate, test = (batches(x, y, size) for x, y in sets)

model = SmallUNet(channels=sets[0][0].shape[1], classes=11)
fit(model, train, FitConfig(epochs, lr=3e-3), Hooks.plain(model, task), task=task)

method = SparseVD(hold_from=0.6 * epochs)  # data_size counts labelled pixels
small = laconic.compress(model, train, validate, method, target, task=task, fit=FitConfig(epochs, lr=3e-3))
length = laconic.save(small, "segmentation.lac")
found = verify("segmentation.lac", test, task)
print(f"{length} bytes; test {task.metric.name} {task.metric.show(found)}")
