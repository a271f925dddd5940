"""Mistakes that once went by in silence, or ended in an error of torch's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

import laconic
from laconic.errors import DataError, InputError, RunFolderError
from laconic.methods import Compressed, Context, Distillation, MagnitudePruning, Method, SparseVD
from laconic.methods.contract import Judge
from laconic.methods.distillation import NoCompression
from laconic.tasks import BinaryClassification, Classification, MultiLabel, Regression, Segmentation, Task
from laconic.train import fit as fit_module
from laconic.train.fit import FitConfig
from laconic.train.job import Stage

FIT = FitConfig(epochs=1, lr=0.05)


def _pair(count: int = 64) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 8, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()


def _mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


def test_ignored_examples_are_no_terms_of_the_data_size() -> None:
    x, y = _pair()
    y[::2] = -1
    loader = DataLoader(TensorDataset(x, y), 16)
    task = Classification(ignore=-1)
    small = laconic.compress(_mlp(), loader, loader, SparseVD(), task=task, fit=FIT)
    assert small.facts["data_size"] == 32


def test_a_stage_that_leaves_weights_raw_passes_on_what_was_removed() -> None:
    data = [_pair()]
    stages = [Stage(m, FitConfig(3, lr=0.05)) for m in (MagnitudePruning(0.6, epochs=2), Distillation())]
    two = laconic.compress(_mlp(), data, data, stages)
    last = Stage(MagnitudePruning(0.0), FitConfig(3, lr=0.05))
    three = laconic.compress(_mlp(), data, data, [*stages, last])
    for k in (0, 2):
        zero = two.module[k].weight == 0  # type: ignore[index]
        assert zero.any() and not three.module[k].weight[zero].any()  # type: ignore[index]


def _distilled(task: Task, outputs: Tensor, taught: Tensor) -> float:
    method = Distillation(temperature=2.0, weight=1.0)
    return float(method.loss(outputs, taught, torch.zeros(()), task))


@pytest.mark.parametrize(
    ("task", "shape"),
    [(BinaryClassification(), (5,)), (BinaryClassification(), (5, 1)), (MultiLabel(), (5, 3))],
)
def test_answers_of_yes_or_no_are_distilled_by_hand(task: Task, shape: tuple[int, ...]) -> None:
    made = torch.Generator().manual_seed(1)
    z, v = (torch.randn(shape, generator=made, dtype=torch.float64) for _ in range(2))
    q, p = torch.sigmoid(z / 2), torch.sigmoid(v / 2)
    expected = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert _distilled(task, z, v) == pytest.approx(float(expected), rel=1e-6)


def test_classes_of_a_segmentation_on_a_line_are_on_axis_1() -> None:
    made = torch.Generator().manual_seed(1)
    z, v = (torch.randn(4, 3, 7, generator=made) for _ in range(2))
    flat = [x.transpose(1, 2).reshape(-1, 3) for x in (z, v)]
    expected = _distilled(Classification(), *flat)
    assert _distilled(Segmentation(), z, v) == pytest.approx(expected, rel=1e-5)


def test_distillation_refuses_a_regression() -> None:
    task = Regression()
    with pytest.raises(InputError, match=r"compares classes.*Cure"):
        laconic.prepare(nn.Linear(8, 2), Distillation(), torch.zeros(2, 8), data_size=4, task=task)


def test_an_optimiser_that_asks_for_a_closure_is_refused() -> None:
    data = [_pair()]
    config = FitConfig(1, optimizer=torch.optim.LBFGS)
    with pytest.raises(InputError, match=r"LBFGS asks for 'closure'.*Cure"):
        laconic.compress(_mlp(), data, data, MagnitudePruning(0.5), fit=config)


def test_a_schedule_that_asks_for_a_metric_is_refused() -> None:
    data = [_pair()]

    def plateau(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
        return ReduceLROnPlateau(optimizer)

    with pytest.raises(InputError, match=r"ReduceLROnPlateau asks for 'metrics'.*Cure"):
        laconic.compress(_mlp(), data, data, MagnitudePruning(0.5), fit=FitConfig(1, schedule=plateau))


def test_a_batch_of_one_before_a_batch_norm_says_so() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    loader = DataLoader(TensorDataset(*_pair(33)), 16)
    with pytest.raises(DataError, match=r"batch 2 has one example.*Cure: drop_last"):
        laconic.compress(model, loader, loader, MagnitudePruning(0.5), fit=FIT)


class _Own(Method):
    """Settings that nobody can read."""

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        return NoCompression().prepare(model, example, context)

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        return NoCompression().convert(module, context, judge)


def test_a_rider_without_fields_cannot_be_resumed(tmp_path: Path) -> None:
    data = [_pair()]
    method = Distillation(method=_Own())
    laconic.compress(_mlp(), data, data, method, fit=FIT, out=tmp_path)
    with pytest.raises(InputError, match="_Own is no dataclass"):
        laconic.compress(_mlp(), data, data, method, fit=FIT, out=tmp_path, resume=True)


def test_another_teacher_cannot_go_on(tmp_path: Path) -> None:
    data = [_pair()]
    teacher = _mlp()
    again = partial(laconic.compress, _mlp(), data, data, fit=FIT, out=tmp_path)
    again(Distillation(teacher=teacher))
    again(Distillation(teacher=_mlp()), resume=True)  # the same weights
    with torch.no_grad():
        teacher[0].weight.mul_(2)
    with pytest.raises(RunFolderError):
        again(Distillation(teacher=teacher), resume=True)


def test_adafactor_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its moments are rows and columns of a parameter."""
    data = [_pair()]
    config = FitConfig(2, optimizer=torch.optim.Adafactor)
    run: Callable[..., Any] = partial(laconic.compress, _mlp(), data, data, MagnitudePruning(0.5), fit=config)
    run(out=tmp_path / "a")
    save = fit_module.save_checkpoint

    def killed(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run(out=tmp_path / "b")
    monkeypatch.setattr(fit_module, "save_checkpoint", save)
    run(out=tmp_path / "b", resume=True)
    assert (tmp_path / "a/model.lac").read_bytes() == (tmp_path / "b/model.lac").read_bytes()
