"""Jobs of several stages: what one removed stays removed, rewinding, and a kill at any point."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import laconic
from laconic.errors import InputError, RestoreError, RunFolderError
from laconic.methods import (
    VNQ,
    Compressed,
    Context,
    Distillation,
    MagnitudePruning,
    Method,
    SparseVD,
    TaylorPruning,
)
from laconic.methods.contract import Judge
from laconic.methods.distillation import NoCompression
from laconic.schedules import Cubic, WarmUp
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.job import Job, Stage
from laconic.train.progress import SilentProgress
from tests.helpers.method_suite import digits

FIT = FitConfig(epochs=2, lr=0.01)


def _mlp() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def _batches() -> list[tuple[Tensor, Tensor]]:
    x, y = digits()
    return [(x[k : k + 48], y[k : k + 48]) for k in range(0, 192, 48)]


def _compress(stages: Any, **options: Any) -> Compressed:
    torch.set_num_threads(1)
    return laconic.compress(_mlp(), _batches(), _batches(), stages, **{"fit": FIT, **options})


def _zeros(small: Compressed, name: str = "1.weight") -> Any:
    return np.asarray(small.tensors[name].values()) == 0


def _vd(**settings: Any) -> SparseVD:
    return SparseVD(warm_up=WarmUp(0.0, 1.0), **settings)


# --- zeros stay -----------------------------------------------------------------------------------------

LATER: dict[str, Method] = {
    "sparse-vd": _vd(threshold=9.0),
    "sparse-vd, held": _vd(threshold=9.0, hold_from=1.0),
    "vnq": VNQ(warm_up=WarmUp(0.0, 1.0)),
    "magnitude": MagnitudePruning(0.0, every=1),
    "distillation": Distillation(),
    "distillation with sparse-vd": Distillation(_vd(threshold=9.0)),
}


@pytest.mark.parametrize("method", LATER.values(), ids=LATER.keys())
def test_what_a_stage_has_removed_never_grows_back(method: Method) -> None:
    pruning = MagnitudePruning(0.9, every=1, schedule=Cubic(end=0.5))
    alone = _compress(pruning)
    both = _compress([pruning, method])
    removed = _zeros(alone)
    assert removed.mean() > 0.85
    weight = both.module[1].weight.detach().numpy()  # type: ignore[index, union-attr]
    assert not weight[removed].any()
    assert not np.array_equal(weight, alone.module[1].weight.detach().numpy()), "it was trained further"  # type: ignore[index, union-attr]
    assert [s["step_in_sigmas"] for s in both.stages] == [alone.facts["step_in_sigmas"]]


def test_a_codebook_without_zero_after_pruning_is_refused() -> None:
    with pytest.raises(InputError, match=r"removed weights of '1\.weight'.* hold no zero\. Cure: .*ternary"):
        _compress([MagnitudePruning(0.5), VNQ(levels=(-1.0, 1.0))])


def test_a_pruned_weight_that_the_user_keeps_as_it_is_hinders_nobody() -> None:
    small = _compress([MagnitudePruning(0.5), _vd()], keep="3")
    assert "3.weight" not in small.tensors and "1.weight" in small.tensors


def test_units_that_went_stay_away_and_the_original_says_so(tmp_path: Path) -> None:
    small = _compress([TaylorPruning(0.5, every=1, grid=None), _vd()], out=tmp_path)
    assert small.architecture_changed
    hidden = small.module[1].out_features  # type: ignore[index, union-attr]
    assert hidden <= 8
    with pytest.raises(
        RestoreError,
        match=rf"'1\.weight' has shape \({hidden}, 64\) in the file and \(16, 64\) in the module\. "
        r"Cure: .*laconic\.compress.*laconic\.runtime\.load",
    ):
        laconic.restore(tmp_path / "model.lac", into=_mlp())
    x = digits()[0]
    assert torch.equal(laconic.restore(tmp_path / "model.lac", into=small.module)(x), small.module(x))
    ran = laconic.runtime.load(tmp_path / "model.lac")(x.numpy())
    assert np.abs(ran - small.module(x).detach().numpy()).max() < 1e-4


def test_methods_that_remove_weights_leave_the_architecture() -> None:
    assert not _compress(MagnitudePruning(0.5)).architecture_changed


# --- rewinding ------------------------------------------------------------------------------------------


class Look(MagnitudePruning):
    """Shows the weights that a stage starts with."""

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        SEEN.append(model[1].weight.detach().clone())  # type: ignore[index, union-attr, operator]
        return super().prepare(model, example, context)


SEEN: list[Tensor] = []


@pytest.mark.parametrize("folder", [True, False])
def test_a_stage_rewinds_to_the_weights_after_an_epoch(folder: bool, tmp_path: Path) -> None:
    pruning = MagnitudePruning(0.75, every=1, schedule=Cubic(end=0.5))
    stages = [Stage(pruning, FIT), Stage(Look(0.75, every=1), FIT, rewind_to=1)]
    SEEN.clear()
    small = _compress(stages, out=tmp_path / "run" if folder else None)
    (start,) = SEEN

    # The first epoch of the same training, by itself: 8 steps are planned, as in the job.
    net = laconic.prepare(_mlp(), pruning, digits()[0][:2], data_size=192, total_steps=8)
    seen: list[Tensor] = []
    fit(
        net,
        _batches(),
        FIT,
        Hooks.prepared(net),
        on_epoch=lambda epoch, loss: seen.append(net[1].weight.detach().clone()),  # type: ignore[index, union-attr, operator]
    )
    assert torch.equal(start, seen[0]) and not torch.equal(start, seen[1])
    removed = _zeros(small)
    assert removed.mean() >= 0.75 - 1e-3


def test_a_lottery_ticket_starts_from_the_weights_that_the_job_began_with() -> None:
    SEEN.clear()
    pruning = MagnitudePruning(0.75, every=1, schedule=Cubic(end=0.5))
    _compress([pruning, Stage(Look(0.75, every=1), FIT, rewind_to=0)])
    assert torch.equal(SEEN[0], _mlp()[1].weight)


@pytest.mark.parametrize(
    ("stages", "complaint"),
    [
        ([], r"a job needs at least one stage\. Cure: stages=\[Stage\(method, fit\)\]"),
        ([Stage(MagnitudePruning(), rewind_to=0)], r"first stage has nothing to rewind to\. Cure"),
        (
            [Stage(MagnitudePruning(), FIT), Stage(MagnitudePruning(), FIT, rewind_to=3)],
            r"stage 2 rewinds to epoch 3 of the first stage, which has 2\. Cure: 0 to 2",
        ),
        (
            [Distillation(TaylorPruning(0.5)), Stage(MagnitudePruning(), rewind_to=0)],
            r"stage 2 rewinds to weights .*, but Distillation before it removes units.*Cure: rewind_to=None",
        ),
        ([MagnitudePruning(), SparseVD], r"stage: the class SparseVD is no method\. Cure: .* SparseVD\(\)"),
        ("sparse-vd", r"the text 'sparse-vd' is no method\. Cure: an object"),
    ],
)
def test_stages_that_cannot_be_are_refused_at_once(stages: Any, complaint: str) -> None:
    class Never:
        """Training data that nobody may read."""

        def __iter__(self) -> Iterator[Any]:
            raise AssertionError("read")

    with pytest.raises(InputError, match=complaint):
        laconic.compress(_mlp(), Never(), Never(), stages, fit=FIT)


def test_a_stage_that_rewinds_before_the_first_epoch_is_refused() -> None:
    with pytest.raises(InputError, match=r"rewind_to is an epoch of the first stage, 0 or more, got -1"):
        Stage(MagnitudePruning(), rewind_to=-1)
    with pytest.raises(InputError, match="at least one stage"):
        Job(())


# --- a run folder, and a kill at any point ----------------------------------------------------------------


def three_stages() -> list[Method]:
    """Distil, prune units, Sparse VD."""
    return [Distillation(), TaylorPruning(0.5, every=1, grid=None), _vd(hold_from=1.0)]


class Killed(Exception):
    """The process is gone."""


class KillAfter(SilentProgress):
    """Kills at the given tick, counted over all stages, or at a line of text."""

    def __init__(self, tick: int | None = None, text: str | None = None) -> None:
        self._left, self._text = tick, text

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Callable[[str], None]]:
        def tick(text: str) -> None:
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    raise Killed

        yield tick

    def say(self, text: str) -> None:
        if self._text is not None and text.startswith(self._text):
            raise Killed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    _compress(three_stages(), out=out)
    return out


@pytest.mark.parametrize(
    "progress",
    [
        KillAfter(1),
        KillAfter(2),
        KillAfter(3),
        KillAfter(5),
        KillAfter(text="stage 2"),
        KillAfter(text="stage 3"),
    ],
    ids=["in 1", "after 1", "in 2", "in 3", "before 2", "before 3"],
)
def test_a_job_that_was_killed_goes_on_to_the_same_file(
    progress: KillAfter, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Killed):
        _compress(three_stages(), out=out, progress=progress)
    assert not (out / "model.lac").exists()
    _compress(three_stages(), out=out, resume=True)
    assert (out / "model.lac").read_bytes() == (whole / "model.lac").read_bytes()
    rows = [json.loads((folder / "history.json").read_text()) for folder in (out, whole)]
    assert rows[0] == rows[1]
    assert [(r["stage"], r["epoch"]) for r in rows[0]["epochs"]] == [
        (stage, epoch) for stage in (1, 2, 3) for epoch in (1, 2)
    ]


def test_the_record_tells_every_stage(whole: Path) -> None:
    record = json.loads((whole / "record.json").read_text())
    asked = record["settings"]["stages"]
    assert [s["method"] for s in asked] == ["Distillation", "TaylorPruning", "SparseVD"]
    assert [s["fit"]["epochs"] for s in asked] == [2, 2, 2]
    distilled, pruned = record["facts"]["stages"]
    assert (distilled["temperature"], distilled["teacher_weight"]) == (4.0, 0.9)
    assert pruned["macs_after"] <= 0.5 * pruned["macs_before"]
    assert record["facts"]["step_in_sigmas"] > 0
    assert record["bytes_before"] == 4 * (64 * 16 + 16 + 160 + 10)


_CHILD = """
import sys
from tests.train.test_stages import _compress, three_stages
from laconic.train.progress import SilentProgress

class Tell(SilentProgress):
    def say(self, text):
        print(text, flush=True)
        if text.startswith("stage 3"):
            sys.stdin.read()  # wait to be killed

_compress(three_stages(), out=sys.argv[1], progress=Tell())
"""


def test_a_process_killed_for_real_is_resumed(whole: Path, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert any(line.startswith("stage 3") for line in iter(child.stdout.readline, ""))
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    _compress(three_stages(), out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "model.lac").read_bytes() == (whole / "model.lac").read_bytes()


def test_other_stages_are_not_resumed(whole: Path) -> None:
    with pytest.raises(RunFolderError, match=r"holds a run with stages=.*Cure"):
        _compress([*three_stages()[:2], _vd()], out=whole, resume=True)


class Undeclared(Method):
    """No dataclass: nobody knows its settings."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        return NoCompression().prepare(model, example, context)

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        return NoCompression().convert(module, context, judge)


def test_a_method_whose_settings_nobody_knows_is_not_resumed(tmp_path: Path) -> None:
    _compress(Undeclared(0.5), out=tmp_path)
    with pytest.raises(InputError, match=r"resume: Undeclared is no dataclass.*Cure: make it a frozen"):
        _compress(Undeclared(0.9), out=tmp_path, resume=True)
