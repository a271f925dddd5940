"""Distillation: the loss by hand, the teacher untouched, a student that learns from it alone."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from laconic.train.distill import Distillation
from torch import nn

from laconic.errors import InputError
from laconic.train.fit import FitConfig, Hooks, fit
from tests.helpers.method_suite import digits


def logits(seed):
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_loss_by_hand():
    student, teacher, labels = logits(0), logits(1), torch.tensor([0, 3, 1, 1, 2])
    got = Distillation(nn.Identity(), temperature=3.0, weight=0.7).of(
        student, teacher, F.cross_entropy(student, labels)
    )
    p, q = (torch.softmax(z / 3.0, 1) for z in (teacher, student))
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    by_label = -torch.softmax(student, 1)[torch.arange(5), labels].log().mean()
    assert float(got) == pytest.approx(float(0.3 * by_label + 0.7 * 9.0 * divergence), rel=1e-6)


def test_at_a_high_temperature_logits_are_matched():
    """Section 2.1: for large T the gradient is that of half the squared difference of centred logits."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    Distillation(nn.Identity(), temperature=1e3, weight=1.0).of(student, teacher, student.sum()).backward()
    z, v = (x.detach() - x.detach().mean(1, keepdim=True) for x in (student, teacher))
    assert student.grad is not None
    assert torch.allclose(student.grad, (z - v) / (4 * 5), rtol=1e-2, atol=2e-4)


def test_a_student_learns_what_the_labels_do_not_say():
    """Labels are all wrong, the teacher is right: with weight 1 only the teacher counts."""
    x, y = digits()
    x = x.flatten(1)
    teacher = nn.Linear(64, 10)
    fit(teacher, [(x, y)], FitConfig(60, lr=0.02), Hooks.plain(teacher))
    teacher.train()  # a teacher must not be seen in training mode, nor be trained
    teacher.zero_grad()
    before = copy.deepcopy(teacher.state_dict())
    torch.manual_seed(3)
    student = nn.Linear(64, 10)
    wrong = (y + 1) % 10
    distil = Distillation(teacher, weight=1.0)
    fit(student, [(x, wrong)], FitConfig(60, lr=0.02), Hooks.plain(student), distil=distil)
    agree = (student(x).argmax(1) == teacher(x).argmax(1)).float().mean()
    assert agree > 0.9 and (student(x).argmax(1) == wrong).float().mean() < 0.2
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert not teacher.training and all(p.grad is None for p in teacher.parameters())


def test_bad_settings_and_a_teacher_of_other_classes():
    for bad in ({"temperature": 0.0}, {"temperature": float("nan")}, {"weight": 0.0}, {"weight": 1.5}):
        with pytest.raises(InputError, match=r"temperature > 0 and 0 < weight <= 1"):
            Distillation(nn.Identity(), **bad)
    with pytest.raises(InputError, match=r"teacher returns shape \(5, 3\), the student \(5, 4\).*classes"):
        Distillation(nn.Identity()).of(logits(0), logits(1)[:, :3], torch.tensor(0.0))
