"""``laconic.compress``: one call, and every bad input that a person may hand it."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

import laconic
from laconic.errors import (
    DataError,
    InputError,
    ModelError,
    RunFolderError,
    ScaleError,
)
from laconic.methods import VNQ, Context, MagnitudePruning, Method, SparseVD, TaylorPruning
from laconic.methods.contract import Target
from laconic.networks.noise import NoiseSource
from laconic.schedules import Cubic, WarmUp
from laconic.train.fit import FitConfig
from laconic.train.job import Stage, on_device_of
from laconic.train.progress import LineProgress
from laconic.train.run_folder import open_run
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits


def _mlp() -> nn.Module:
    return DigitsMLP(hidden=12, generator=torch.Generator().manual_seed(3))


class Branching(nn.Module):
    """Control flow that depends on values: no graph can be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.a(x) if bool((x.sum() > 100.0).item()) else self.b(x)


Batches = list[tuple[Tensor, Tensor]]


def _batches() -> tuple[Batches, Batches]:
    x, y = digits()
    return [(x[k : k + 32], y[k : k + 32]) for k in range(0, 128, 32)], [(x[128:], y[128:])]


class TestCompress:
    """``laconic.compress``: the same with our loop."""

    fit = FitConfig(epochs=2)

    def test_a_run_leaves_a_file_a_record_and_a_log(self, tmp_path: Path) -> None:
        train, validate = _batches()
        out = tmp_path / "run"
        small = laconic.compress(_mlp(), train, validate, MagnitudePruning(0.5), fit=self.fit, out=out)
        assert small.facts["data_size"] == 128
        assert {"model.lac", "record.json", "log.txt", "checkpoint.pt"} <= {p.name for p in out.iterdir()}
        assert (out / "log.txt").read_text().count("epoch ") == 2

    def test_without_a_folder_it_is_the_same(self, tmp_path: Path) -> None:
        train, validate = _batches()
        first = laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit)
        second = laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit, out=tmp_path)
        laconic.save(first, tmp_path / "first.lac")
        assert (tmp_path / "first.lac").read_bytes() == (tmp_path / "model.lac").read_bytes()
        assert first.facts == second.facts

    def test_resuming_a_finished_run_gives_the_same_file(self, tmp_path: Path) -> None:
        train, validate = _batches()
        laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit, out=tmp_path)
        before = (tmp_path / "model.lac").read_bytes()
        laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit, out=tmp_path, resume=True)
        assert (tmp_path / "model.lac").read_bytes() == before
        with pytest.raises(RunFolderError, match="stages.1.fit.epochs=2, not 3"):
            laconic.compress(
                _mlp(), train, validate, SparseVD(), fit=FitConfig(epochs=3), out=tmp_path, resume=True
            )

    def test_two_runs_in_one_folder_are_refused(self, tmp_path: Path) -> None:
        train, validate = _batches()
        with open_run(tmp_path, {}), pytest.raises(RunFolderError, match="another run is at work"):
            laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit, out=tmp_path)

    def test_an_empty_loader_is_refused(self) -> None:
        train, validate = _batches()
        with pytest.raises(DataError, match=r"training loader is empty\. Cure"):
            laconic.compress(_mlp(), [], validate, SparseVD(), fit=self.fit)
        with pytest.raises(DataError, match=r"validation split.*gave no batch.*Cure"):
            laconic.compress(_mlp(), train, [], SparseVD(), fit=self.fit)

    def test_batches_that_are_no_pairs_are_refused(self) -> None:
        train, validate = _batches()
        x = train[0][0]
        for bad, kind, told in (
            ([x], DataError, r"a batch is a Tensor, not \(inputs, target\)\. Cure: a tuple whose last"),
            ([{"x": x}], DataError, r"a dictionary of 'x', and which of them is the target.*Cure: .*=KEY"),
            ([(x,)], DataError, r"a batch has 1 entries.*Cure: \(inputs, target\)"),
            ([(x, [1, 2])], InputError, r"the target are a list, not one tensor\. Cure"),
        ):
            with pytest.raises(kind, match=told):
                laconic.compress(_mlp(), bad, validate, SparseVD(), fit=self.fit)

    @pytest.mark.parametrize("label", [10, -1])
    def test_labels_out_of_range_are_refused_wherever_they_are(self, label: int) -> None:
        train, validate = _batches()
        x, y = train[0]
        bad = y.clone()
        bad[5] = label
        for first, second in (([(x, bad)], validate), ([*train, (x, bad)], validate), (train, [(x, bad)])):
            with pytest.raises(DataError, match=rf"label {label} is out of range .* 10 outputs.*Cure"):
                laconic.compress(_mlp(), first, second, SparseVD(), fit=self.fit)

    def test_inputs_of_the_wrong_shape_are_refused_with_the_layer(self) -> None:
        train, validate = _batches()
        wrong = [(F.pad(x, (1, 0)), y) for x, y in train]
        with pytest.raises(
            InputError, match=r"first training batch.*\(2, 1, 8, 9\) does not fit: layer 'fc1'"
        ):
            laconic.compress(_mlp(), wrong, validate, SparseVD(), fit=self.fit)

    def test_nan_weights_and_no_parameters_are_refused_at_once(self) -> None:
        model = _mlp()
        model.fc1.bias.data[0] = float("nan")  # type: ignore[union-attr]
        with pytest.raises(ModelError, match=r"'fc1\.bias'.*1 NaN"):
            laconic.compress(model, *_batches(), SparseVD(), fit=self.fit)
        with pytest.raises(ModelError, match="no parameters"):
            laconic.compress(nn.Flatten(), *_batches(), SparseVD(), fit=self.fit)

    def test_a_network_that_is_no_classifier_is_refused(self) -> None:
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
        with pytest.raises(InputError, match=r"Classification takes .* outputs have 1 axes, not 2\. Cure"):
            laconic.compress(net, *_batches(), SparseVD(), fit=self.fit)

    def test_what_the_user_should_know_is_in_the_record(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            laconic.compress(
                Branching(),
                *_batches(),
                MagnitudePruning(0.5),
                Target(max_bytes=20),
                fit=self.fit,
                out=tmp_path,
            )
        text = (tmp_path / "record.json").read_text()
        assert "the file holds weights only; load them with laconic.restore" in text
        assert "target missed: the file has" in text

    def test_a_data_size_that_is_not_the_loaders_is_refused(self) -> None:
        x, y = digits()
        data = torch.utils.data.TensorDataset(x, y)
        train = torch.utils.data.DataLoader(data, batch_size=50, drop_last=True)  # 192: three whole batches
        validate = [(x, y)]
        for wrong in (3, 128, 1920):
            with pytest.raises(
                ScaleError, match=rf"data_size={wrong}, .* 192 examples\. Cure: data_size=192"
            ):
                laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit, data_size=wrong)
        method, fit = MagnitudePruning(0.5), FitConfig(epochs=1)
        for right in (150, 192):
            small = laconic.compress(_mlp(), train, validate, method, fit=fit, data_size=right)
            assert small.facts["data_size"] == right
        with pytest.raises(ScaleError, match="positive integer"):
            laconic.compress(_mlp(), train, validate, method, fit=fit, data_size=0.5)  # type: ignore[arg-type]

    def test_an_original_without_a_finite_score_is_refused(self) -> None:
        train, [(x, y)] = _batches()
        bad = x.clone()
        bad[7] = float("nan")
        with pytest.raises(
            DataError, match=r"validation split: the network gives NaN for 1 of 64 .*Cure: .*inputs"
        ):
            laconic.compress(_mlp(), train, [(bad, y)], SparseVD(), fit=self.fit)

    def test_resuming_with_another_network_is_refused(self, tmp_path: Path) -> None:
        laconic.compress(_mlp(), *_batches(), SparseVD(), fit=self.fit, out=tmp_path)
        other = DigitsMLP(hidden=13, generator=torch.Generator().manual_seed(3))
        with pytest.raises(RunFolderError, match=r"began with other weights: 910 .*, not 985 .*Cure"):
            laconic.compress(other, *_batches(), SparseVD(), fit=self.fit, out=tmp_path, resume=True)

    def test_resuming_with_other_weights_is_refused(self, tmp_path: Path) -> None:
        laconic.compress(_mlp(), *_batches(), SparseVD(), fit=self.fit, out=tmp_path)
        before = (tmp_path / "model.lac").read_bytes()
        other = _mlp()
        with torch.no_grad():
            other.fc2.bias[3] += 1e-6
        with pytest.raises(
            RunFolderError, match=r"began with other weights: .*Cure: resume with the network"
        ):
            laconic.compress(other, *_batches(), SparseVD(), fit=self.fit, out=tmp_path, resume=True)
        assert (tmp_path / "model.lac").read_bytes() == before
        laconic.compress(_mlp(), *_batches(), SparseVD(), fit=self.fit, out=tmp_path, resume=True)

    def test_a_schedule_beyond_the_last_epoch_and_frozen_parameters_are_told(self, tmp_path: Path) -> None:
        model, stream = _mlp(), io.StringIO()
        model.fc2.requires_grad_(False)  # type: ignore[union-attr]
        small = laconic.compress(
            model,
            *_batches(),
            SparseVD(hold_from=3.0),
            fit=self.fit,
            out=tmp_path,
            progress=LineProgress(stream),
        )
        notes = json.loads((tmp_path / "record.json").read_text())["notes"]
        assert notes == small.facts["notes"]
        assert [line for line in stream.getvalue().splitlines() if "Cure" in line] == notes
        frozen, warm_up, hold = notes
        assert "ends after 2 epochs, before the KL's warm-up does (epoch 5)" in warm_up
        assert "no pruned weight is held (hold_from=3)" in hold
        assert "2 parameters are frozen (requires_grad is False; the first is 'fc2.weight')" in frozen

    def test_labels_may_be_class_probabilities(self) -> None:
        train, validate = ([(x, F.one_hot(y, 10).float()) for x, y in batches] for batches in _batches())
        method = MagnitudePruning(0.5)
        small = laconic.compress(_mlp(), train, validate, method, fit=self.fit)
        hard = laconic.compress(_mlp(), *_batches(), method, fit=self.fit)
        assert small.facts["original_validation_metric"] == hard.facts["original_validation_metric"]
        assert small.facts["original_validation_nll"] == pytest.approx(hard.facts["original_validation_nll"])


class OnAGPU(nn.Linear):
    """Says that its weights lie on a GPU, where none is."""

    def parameters(self, recurse: bool = True):  # type: ignore[no-untyped-def]
        yield type("Weight", (), {"device": torch.device("cuda")})()


def test_a_network_on_a_gpu_is_trained_there() -> None:
    stages = (Stage(SparseVD(), FitConfig(epochs=3)), Stage(VNQ(), FitConfig(epochs=4)))
    there = on_device_of(OnAGPU(2, 2), stages)
    assert [s.fit for s in there] == [FitConfig(epochs=n, accelerator="cuda") for n in (3, 4)]
    assert on_device_of(nn.Linear(2, 2), stages) is stages


@pytest.mark.parametrize(
    ("method", "epochs", "count"),
    [
        (VNQ(), 10, 1),
        (VNQ(), 20, 0),
        (SparseVD(), 5, 0),
        (SparseVD(hold_from=5.0), 5, 1),
        (SparseVD(hold_from=5.0), 6, 0),
        (SparseVD(warm_up=WarmUp(0.0, 9.0), hold_from=8.0), 8, 2),
        (MagnitudePruning(epochs=10.0, schedule=Cubic(end=0.75)), 7, 1),
        (MagnitudePruning(epochs=10.0, schedule=Cubic(end=0.75)), 8, 0),
        (TaylorPruning(epochs=10.0, schedule=Cubic(end=0.75)), 7, 1),
        (TaylorPruning(epochs=10.0, schedule=Cubic(end=0.75)), 8, 0),
    ],
)
def test_a_schedule_is_unfinished_when_training_ends_before_it(
    method: Method, epochs: int, count: int
) -> None:
    where = Context(100, NoiseSource(0), step=10 * epochs, terms=100 * epochs)
    notes = method.unfinished(where)
    assert len(notes) == count
    assert all("Cure: " in note for note in notes)


class Stream(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """Examples that go on where the last reader stopped, or that begin anew."""

    def __init__(self, anew: bool) -> None:
        self.anew = anew
        self.left = self._examples()

    def _examples(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = digits()
        return zip(x[:64], y[:64], strict=True)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._examples() if self.anew else self.left


class Source:
    """No iterator itself, but it hands out the same one each time."""

    def __init__(self, batches: Batches) -> None:
        self.left = iter(batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.left


def test_batches_that_can_be_read_only_once_are_refused_by_name() -> None:
    train, validate = _batches()
    fit = FitConfig(epochs=1)
    stream = DataLoader(Stream(anew=False), batch_size=16)
    for loaders, said in (
        ((stream, validate), "train: the batches come from a DataLoader over a Stream, which gave some"),
        ((Source(train), validate), "train: the batches come from a Source, which gave some and then none"),
        (
            (train, Source(validate)),
            "validate: the batches come from a Source, .*can be read only once.*Cure",
        ),
    ):
        with pytest.raises(DataError, match=said):
            laconic.compress(_mlp(), *loaders, MagnitudePruning(0.5), fit=fit)
    anew = DataLoader(Stream(anew=True), batch_size=16)
    assert laconic.compress(_mlp(), anew, anew, MagnitudePruning(0.5), fit=fit).facts["data_size"] == 64


def test_a_schedule_ends_with_training_where_the_loader_has_no_length() -> None:
    stream = DataLoader(Stream(anew=True), batch_size=16)
    small = laconic.compress(_mlp(), stream, stream, MagnitudePruning(0.5), fit=FitConfig(epochs=2))
    zeros = sum(int((p == 0).sum()) for p in small.module.parameters() if p.ndim == 2)
    assert zeros >= 0.49 * sum(p.numel() for p in small.module.parameters() if p.ndim == 2)
