"""Distillation: the loss by hand, the teacher untouched, a student that learns from it alone."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.errors import DataError, InputError
from laconic.methods import Distillation, MagnitudePruning, SparseVD
from laconic.tasks import (
    BinaryClassification,
    Classification,
    LanguageModelling,
    MultiLabel,
    Segmentation,
    SequenceLabelling,
    as_task,
)
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.job import Stage
from tests.helpers.method_suite import digits


def logits(seed):
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_loss_by_hand():
    student, teacher, labels = logits(0), logits(1), torch.tensor([0, 3, 1, 1, 2])
    distillation = Distillation(temperature=3.0, weight=0.7)
    got = distillation.loss(student, teacher, F.cross_entropy(student, labels))
    p, q = (torch.softmax(z / 3.0, 1) for z in (teacher, student))
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    by_label = -torch.softmax(student, 1)[torch.arange(5), labels].log().mean()
    assert float(got) == pytest.approx(float(0.3 * by_label + 0.7 * 9.0 * divergence), rel=1e-6)


def test_at_a_high_temperature_logits_are_matched():
    """Section 2.1: for large T the gradient is that of half the squared difference of centred logits."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    Distillation(temperature=1e3, weight=1.0).loss(student, teacher, student.sum()).backward()
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
    method = Distillation(teacher=teacher, weight=1.0)
    small = laconic.compress(student, [(x, wrong)], [(x, wrong)], method, fit=FitConfig(60, lr=0.02))
    learnt = small.module(x).argmax(1)
    assert (learnt == teacher.eval()(x).argmax(1)).float().mean() > 0.9
    assert (learnt == wrong).float().mean() < 0.2
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_bad_settings_and_a_teacher_of_other_classes():
    for bad in ({"temperature": 0.0}, {"temperature": float("nan")}, {"weight": 0.0}, {"weight": 1.5}):
        with pytest.raises(InputError, match=r"temperature > 0 and 0 < weight <= 1"):
            Distillation(**bad)
    with pytest.raises(InputError, match=r"teacher returns shape \(5, 3\), the student \(5, 4\).*classes"):
        Distillation().loss(logits(0), logits(1)[:, :3], torch.tensor(0.0))


class Noisy(nn.Module):
    """Dropout: a teacher in training mode would answer otherwise each time."""

    def __init__(self):
        super().__init__()
        self.drop, self.layer = nn.Dropout(0.5), nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(self.drop(x.flatten(1)))


def test_the_teacher_is_the_network_itself_before_training_in_evaluation_mode():
    x, y = digits()
    torch.manual_seed(1)
    model = Noisy()
    said = model.eval()(x).detach()
    model.train()
    net = laconic.prepare(model, Distillation(weight=1.0, temperature=2.0), x[:2], data_size=192)
    assert "teacher" not in "".join(net.state_dict())  # its weights are no part of the student's
    with torch.no_grad():
        net.layer.weight.mul_(0.5)
    got = laconic.objective(net.eval(), (x, y))
    p, q = (torch.softmax(z / 2.0, 1) for z in (said, net(x)))
    assert got.item() == pytest.approx(4 * (p * (p / q).log()).sum(1).mean().item(), rel=1e-4)


def test_another_method_rides_along():
    x, y = digits()
    method = Distillation(MagnitudePruning(0.75, every=1), weight=0.5)
    small = laconic.compress(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), [(x, y)], [(x, y)], method)
    assert small.tensors["1.weight"].nonzeros() <= 160
    assert small.facts["teacher_weight"] == 0.5


def test_its_penalty_stands_beside_the_divergence():
    x, y = digits()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    vd = SparseVD(warm_up=laconic.bayes.objective.WarmUp(0.0, 0.0))
    net = laconic.prepare(model, Distillation(vd), x[:2], data_size=192).eval()
    alone = laconic.prepare(model, vd, x[:2], data_size=192)
    nll = F.cross_entropy(model(x), y)  # in evaluation mode the student still agrees with the teacher
    wanted = 0.1 * nll + laconic.penalty(alone)
    assert laconic.objective(net, (x, y)).item() == pytest.approx(wanted.item(), rel=1e-4)


def test_in_a_later_stage_the_teacher_is_the_jobs_original(tmp_path):
    """The first step of the second stage: from the pruned network to the one before pruning."""
    x, y = digits()
    torch.manual_seed(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    said = model(x).detach()
    pruning = Stage(MagnitudePruning(0.5, every=1), FitConfig(epochs=2))
    learning = Stage(Distillation(weight=1.0, temperature=2.0), FitConfig(epochs=1))
    pruned = laconic.compress(model, [(x, y)], [(x, y)], [pruning]).module
    laconic.compress(model, [(x, y)], [(x, y)], [pruning, learning], out=tmp_path)
    p, q = (torch.softmax(z / 2.0, 1) for z in (said, pruned(x)))
    wanted = 4 * (p * (p / q).log()).sum(1).mean().item()
    (row,) = [r for r in json.loads((tmp_path / "history.json").read_text())["epochs"] if r["stage"] == 2]
    assert wanted > 1e-3 and row["loss"] == pytest.approx(wanted, rel=1e-4)


class Viewing(nn.Module):
    """A teacher that flattens with ``.view``: it takes plain images only."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(108, 10)

    def forward(self, x):
        x = self.conv(x)
        return self.head(x.view(len(x), -1))


def test_a_teacher_need_not_take_the_students_memory_layout():
    x, y = digits()
    student = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(108, 10))
    method = Distillation(teacher=Viewing(), weight=1.0)
    small = laconic.compress(student, [(x, y)], [(x, y)], method, fit=FitConfig(epochs=1))
    assert small.module(x).shape == (192, 10)


# --- which positions count --------------------------------------------------------------------------

# Under T = 2: a student that says (1/2, 1/2) and a teacher that says (3/4, 1/4) of the first token, both the
# same of the second, and of the third (padding) as different as can be.
STUDENT = torch.tensor([[0.0, 0.0], [1.0, -1.0], [40.0, 0.0]])
TEACHER = torch.tensor([[2 * math.log(3), 0.0], [1.0, -1.0], [0.0, 40.0]])
KL_OF_FIRST = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
LABELS = torch.tensor([0, 1, -100])


@pytest.mark.parametrize(
    ("task", "shaped", "target"),
    [
        (Classification(ignore=-100), lambda z: z, LABELS),
        (SequenceLabelling(), lambda z: z[None], LABELS[None]),
        (LanguageModelling(), lambda z: z[:, None], LABELS[:, None]),
        (Segmentation(), lambda z: z.T[None], LABELS[None]),
        (Segmentation(), lambda z: z.T[None, :, None], LABELS[None, None]),
        (MultiLabel(ignore=-1), lambda z: (z[:, :1] - z[:, 1:]).T, torch.tensor([[0, 1, -1]])),
        (MultiLabel(), lambda z: (z[:, :1] - z[:, 1:]).T, torch.tensor([[0.0, 1.0, math.nan]])),
    ],
)
def test_the_teacher_counts_where_the_labels_do(task, shaped, target):
    """By hand: (1 - w) nll + w T^2 (KL + 0) / 2, over the two terms that are not ignored."""
    nll = torch.tensor(math.log(2))
    got = Distillation(temperature=2.0, weight=0.5).loss(shaped(STUDENT), shaped(TEACHER), nll, task, target)
    assert task.terms(target) == 2
    assert float(got) == pytest.approx(0.5 * math.log(2) + 0.5 * 4 * KL_OF_FIRST / 2, rel=1e-5)


def test_without_ignored_labels_each_position_is_a_term():
    method, nll = Distillation(temperature=2.0, weight=1.0), torch.tensor(0.0)
    tokens = method.loss(STUDENT[None, :2], TEACHER[None, :2], nll, SequenceLabelling(), LABELS[None, :2])
    assert float(tokens) == pytest.approx(4 * KL_OF_FIRST / 2, rel=1e-5)
    answers, said = (z[:2, 0] - z[:2, 1] for z in (STUDENT, TEACHER))
    one = method.loss(answers[:, None], said[:, None], nll, BinaryClassification(), torch.tensor([0, 1]))
    assert float(one) == pytest.approx(4 * KL_OF_FIRST / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "logits", "target"),
    [
        (SequenceLabelling(), STUDENT[None], torch.full((1, 3), -100)),
        (Classification(ignore=-1), STUDENT, torch.full((3,), -1)),
        (Classification(), STUDENT[:0], LABELS[:0]),
        (MultiLabel(), torch.zeros(2, 2), torch.full((2, 2), math.nan)),
    ],
    ids=["tokens", "examples", "empty", "answers"],
)
def test_a_batch_without_a_term_is_refused_not_nan(task, logits, target):
    with pytest.raises(DataError, match=r"no likelihood term.*Cure: leave such batches out"):
        Distillation().loss(logits, logits, torch.tensor(0.0), task, target)


def test_in_training_ignored_pixels_say_nothing():
    """Two networks that differ where labels are ignored only: the same objective, and no gradient there."""
    torch.manual_seed(5)
    model = nn.Conv2d(2, 3, 1)
    x, y = torch.randn(2, 2, 4, 4), torch.randint(0, 3, (2, 4, 4))
    y[:, 2:] = 255
    method = Distillation(teacher=nn.Conv2d(2, 3, 1), weight=0.5)
    task = Segmentation(ignore=255)
    net = laconic.prepare(model, method, x, data_size=16, task=task)
    other = torch.where((y == 255)[:, None], 100 * torch.randn(2, 2, 4, 4), x)
    values = []
    for inputs in (x, other):
        inputs.requires_grad_()
        values.append(laconic.objective(net, (inputs, y)))
        values[-1].backward()
        assert inputs.grad is not None and inputs.grad[:, :, :2].abs().min() > 0
        assert not inputs.grad[:, :, 2:].any()
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-6)


def test_a_plain_losss_classes_are_where_its_labels_have_no_axis():
    """``cross_entropy`` takes the classes on axis 1, also of three."""
    z, v = logits(2).reshape(1, 4, 5), logits(3).reshape(1, 4, 5)
    method, task = Distillation(temperature=2.0, weight=1.0), as_task(F.cross_entropy)
    got = method.loss(z, v, torch.tensor(0.0), task, torch.zeros(1, 5, dtype=torch.int64))
    p, q = (torch.softmax(u / 2.0, 1) for u in (v, z))
    assert float(got) == pytest.approx(float(4 * (p * (p / q).log()).sum(1).mean()), rel=1e-6)
    with pytest.raises(InputError, match=r"axis 1 or on axis 2\. Cure: the task Segmentation"):
        method.loss(z[:, :, :4], v[:, :, :4], torch.tensor(0.0), task, torch.zeros(1, 4, dtype=torch.int64))


@dataclass(frozen=True)
class Padded(SequenceLabelling):
    """A task of one's own that counts fewer terms than it says where they are."""

    where: object = None

    def counted(self, target):
        return self.where


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (None, r"Padded counts 2 terms, and the outputs have 3 positions. Cure: a task whose counted\("),
        (torch.ones(2, dtype=torch.bool), r"Padded.counted returned shape \(2,\).*positions \(1, 3\)"),
    ],
)
def test_a_task_that_does_not_say_what_counts_is_refused(where, said):
    with pytest.raises(InputError, match=said):
        Distillation().loss(
            STUDENT[None], TEACHER[None], torch.tensor(0.0), Padded(where=where), LABELS[None]
        )
