from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import laconic
from laconic.data import TensorLoader, load, split
from laconic.errors import DataError, RunFolderError
from laconic.methods import VNQ, MagnitudePruning, Method, SparseVD
from laconic.schedules import WarmUp
from laconic.tasks import Batch, Classification, Regression
from laconic.train.checkpoint import load_checkpoint
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.optimizers import OptimizerFactory, ScheduleFactory
from tests.helpers.method_suite import assert_same_state, digits

EPOCHS = 4


class Stop(Exception):
    """An interruption."""


class Noisy(nn.Module):
    """A convolution, batch norm and dropout: everything that may carry hidden state between epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.bn(self.conv(x))), 2)
        return self.head(self.drop(x.flatten(1)))


def _loader() -> TensorLoader:
    return TensorLoader(split(load("digits"), validation=1300, seed=0).train, 32, seed=4, drop_last=True)


def _torch_loader() -> DataLoader[tuple[Tensor, ...]]:
    x, y = digits()
    return DataLoader(TensorDataset(x[:96], y[:96]), batch_size=32, shuffle=True)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(41)


def _sampled(sampler: Callable[[TensorDataset], Any], *, batched: bool = False) -> Callable[[], Any]:
    """A DataLoader with a sampler of its own, or with a batch sampler around it."""

    def build() -> Any:
        x, y = digits()
        data = TensorDataset(x[:96], y[:96])
        if batched:
            return DataLoader(data, batch_sampler=BatchSampler(sampler(data), 32, drop_last=False))
        return DataLoader(data, batch_size=32, sampler=sampler(data))

    return build


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Draws from NumPy's and Python's global generators, as augmentations do."""

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = digits()
        return x[index] * np.random.uniform(0.5, 1.5) + random.gauss(0.0, 0.1), y[index]  # noqa: NPY002


class Epochs(RandomSampler):
    """A sampler that is told its epoch, like torch's DistributedSampler."""

    def __init__(self, data: TensorDataset) -> None:
        super().__init__(data)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng(self.epoch).permutation(96).tolist())


LOADERS: dict[str, Callable[[], Any]] = {
    "random": _sampled(lambda data: RandomSampler(data, generator=_generator())),
    "weighted": _sampled(lambda data: WeightedRandomSampler([1.0] * 96, 96, generator=_generator())),
    "subset": _sampled(lambda data: SubsetRandomSampler(range(64), generator=_generator())),
    "batch-sampler": _sampled(lambda data: RandomSampler(data, generator=_generator()), batched=True),
    "told-its-epoch": _sampled(Epochs),
    "augmented": lambda: DataLoader(Augmented(), batch_size=32, shuffle=True),
}


def _network(method: Method | None) -> tuple[nn.Module, Hooks]:
    torch.set_num_threads(1)
    torch.manual_seed(11)
    model = Noisy()
    if method is None:
        return model, Hooks.plain(model)
    net = laconic.prepare(model, method, torch.zeros(2, 1, 8, 8), data_size=137, seed=1, total_steps=16)
    return net, Hooks.prepared(net)


METHODS: dict[str, Method | None] = {
    "plain": None,
    "sparse-vd": SparseVD(warm_up=WarmUp(0.0, 2.0), hold_from=2.0, threshold=0.0),
    "vnq": VNQ(warm_up=WarmUp(0.0, 2.0)),
    "magnitude": MagnitudePruning(0.8, every=3),
}


@pytest.mark.parametrize("loader", [_loader, _torch_loader], ids=["ours", "torch"])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_a_run_interrupted_after_any_epoch_ends_in_the_same_bits(
    method: Method | None, loader: Callable[[], TensorLoader], tmp_path: Path
) -> None:
    _check_interrupted(method, loader, tmp_path)


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS.keys())
def test_so_does_one_with_a_sampler_or_an_augmentation(loader: Callable[[], Any], tmp_path: Path) -> None:
    _check_interrupted(None, loader, tmp_path)


def _check_interrupted(
    method: Method | None,
    loader: Callable[[], Any],
    tmp_path: Path,
    config: FitConfig = FitConfig(epochs=EPOCHS, lr=0.01, seed=2),  # noqa: B008 - frozen
) -> None:
    net, hooks = _network(method)
    fit(net, loader(), config, hooks)
    for last in range(EPOCHS):
        path = tmp_path / f"{last}.pt"

        def stop(epoch: int, loss: float, last: int = last) -> None:
            if epoch == last:
                raise Stop

        first, hooks = _network(method)
        with pytest.raises(Stop):
            fit(first, loader(), config, hooks, checkpoint=path, on_epoch=stop)
        torch.rand(7)  # the global generators are elsewhere by now
        np.random.rand(7)  # noqa: NPY002
        random.random()
        second, hooks = _network(method)
        with torch.no_grad():
            for p in second.parameters():
                p.mul_(0.5)  # whatever it starts from, the checkpoint counts
        fit(second, loader(), config, hooks, checkpoint=path)
        assert_same_state(second.state_dict(), net.state_dict(), f"stopped after epoch {last}")


def test_training_draws_nothing_from_the_global_generator() -> None:
    net, hooks = _network(None)
    torch.manual_seed(0)
    before, python = torch.get_rng_state(), random.getstate()
    legacy = np.random.get_state()[1].copy()  # type: ignore[index, union-attr] # noqa: NPY002
    fit(net, LOADERS["augmented"](), FitConfig(epochs=1), hooks)
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], legacy)  # type: ignore[index] # noqa: NPY002


def test_another_seed_is_another_order() -> None:
    nets = []
    for seed in (0, 0, 1):
        net, hooks = _network(None)
        fit(net, _torch_loader(), FitConfig(epochs=1, seed=seed), hooks)
        nets.append(net.state_dict()["head.weight"])
    assert torch.equal(nets[0], nets[1])
    assert not torch.equal(nets[0], nets[2])


def test_a_finished_checkpoint_trains_no_further(tmp_path: Path) -> None:
    net, hooks = _network(None)
    path = tmp_path / "c.pt"
    fit(net, _loader(), FitConfig(epochs=1), hooks, checkpoint=path)
    after = {n: t.clone() for n, t in net.state_dict().items()}
    fit(net, _loader(), FitConfig(epochs=1), hooks, checkpoint=path)
    assert_same_state(net.state_dict(), after, "trained again")
    state = load_checkpoint(path)
    assert state is not None
    assert state["epoch"] == 0


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    path, config = tmp_path / "c.pt", FitConfig(epochs=1)
    net, hooks = _network(None)
    fit(net, _loader(), config, hooks, checkpoint=path)
    other = _tiny()
    with pytest.raises(
        RunFolderError, match=r"c\.pt does not fit this Sequential: .*1\.weight.*Cure: resume with"
    ):
        fit(other, _loader(), config, Hooks.plain(other), checkpoint=path)
    groups = _some_of(net, lambda lr: [{"params": list(net.head.parameters()), "lr": lr}])  # type: ignore[union-attr]
    with pytest.raises(RunFolderError, match=r"c\.pt does not fit this Noisy: .*Cure"):
        fit(net, _loader(), config, groups, checkpoint=path)


def _some_of(net: nn.Module, groups: Callable[[float], list[dict[str, Any]]]) -> Hooks:
    """Plain training of these parameter groups."""
    return Hooks(groups, Hooks.plain(net).objective)


def test_each_group_keeps_its_ratio_along_the_schedule() -> None:
    seen: list[list[float]] = []

    class Watched(torch.optim.Adam):
        def step(self, *args: Any) -> Any:
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(*args)

    net, _ = _network(None)
    groups = [{"params": [net.head.weight], "lr": 0.1}, {"params": [net.head.bias], "lr": 0.2}]  # type: ignore[union-attr]
    x, y = digits()
    batches = [(x[:32], y[:32]), (x[32:64], y[32:64])]
    fit(net, batches, FitConfig(epochs=2, optimizer=Watched), _some_of(net, lambda lr: groups))
    assert [first for first, _ in seen] == pytest.approx([0.1, 0.1, 0.1, 0.05])
    assert [second for _, second in seen] == pytest.approx([0.2, 0.2, 0.2, 0.1])


def test_the_mean_objective_weighs_batches_by_their_terms() -> None:
    x, y = digits()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    losses: list[float] = []

    def objective(batch: Batch, outputs: Any) -> Tensor:
        return F.cross_entropy(outputs, batch.target) + 3.0

    hooks = Hooks(lambda lr: [{"params": list(net.parameters()), "lr": 0.0}], objective)
    fit(
        net,
        [(x[:30], y[:30]), (x[30:40], y[30:40])],
        FitConfig(epochs=1),
        hooks,
        on_epoch=lambda e, v: losses.append(v),
    )
    assert losses[0] == pytest.approx(3.0 + float(F.cross_entropy(net(x[:40]), y[:40]).detach()), rel=1e-5)


def _tiny() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


# --- schedules and optimisers of torch's own kind ---------------------------------------------------


def _one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)


SCHEDULES: dict[str, tuple[OptimizerFactory, ScheduleFactory]] = {
    "one cycle": (torch.optim.Adam, _one_cycle),
    "cosine": (torch.optim.RMSprop, torch.optim.lr_scheduler.CosineAnnealingLR),
    "sequential": (
        torch.optim.NAdam,
        lambda optimizer, steps: torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [
                torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3),
                torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
            ],
            [3],
        ),
    ),
}


@pytest.mark.parametrize("made", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_torchs_own_are_used_as_by_hand(made: tuple[OptimizerFactory, ScheduleFactory]) -> None:
    x, y = digits()
    batches = [(x[k : k + 32].flatten(1), y[k : k + 32]) for k in (0, 32)]
    net, twin = nn.Linear(64, 10), nn.Linear(64, 10)
    twin.load_state_dict(net.state_dict())
    fit(net, batches, FitConfig(3, 0.01, *made), Hooks.plain(net))
    optimizer = made[0]([{"params": list(twin.parameters()), "lr": 0.01}])
    schedule = made[1](optimizer, 6)
    for _ in range(3):
        for inputs, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(twin(inputs), labels).backward()
            optimizer.step()
            schedule.step()
    assert torch.allclose(net.weight, twin.weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("made", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_an_interrupted_run_goes_on_with_torchs_own_to_the_same_bits(
    made: tuple[OptimizerFactory, ScheduleFactory], tmp_path: Path
) -> None:
    _check_interrupted(METHODS["magnitude"], _loader, tmp_path, FitConfig(EPOCHS, 0.01, *made, seed=2))


@pytest.mark.parametrize("how", ["frozen parameters", "evaluation mode"])
@pytest.mark.parametrize("method", [None, METHODS["sparse-vd"]], ids=["plain", "sparse-vd"])
def test_frozen_batch_norm_stays_in_evaluation_mode(how: str, method: Method | None) -> None:
    net, hooks = _network(method)
    if how == "frozen parameters":
        net.bn.requires_grad_(False)  # type: ignore[union-attr]
    else:
        net.bn.eval()  # type: ignore[union-attr]
    before = net.bn.running_mean.clone()  # type: ignore[union-attr, operator]
    fit(net, _loader(), FitConfig(epochs=2), hooks)
    assert torch.equal(net.bn.running_mean, before)  # type: ignore[union-attr, arg-type]
    assert not net.bn.training and net.drop.training  # type: ignore[union-attr]


def test_batch_norm_that_is_trained_follows_the_data() -> None:
    net, hooks = _network(None)
    fit(net, _loader(), FitConfig(epochs=1), hooks)
    assert net.bn.running_mean.any()  # type: ignore[union-attr, operator]


def test_a_batch_whose_labels_are_all_ignored_is_refused() -> None:
    net, (x, y) = _tiny(), digits()
    task = Classification(ignore=-1)
    batches = [(x[:8], y[:8]), (x[8:16], torch.full((8,), -1))]
    with pytest.raises(DataError, match=r"a batch has no likelihood term: all of its labels.*Cure"):
        fit(net, batches, FitConfig(epochs=1), Hooks.plain(net, task), task=task)


def test_plain_training_starts_the_noise_where_prepared_training_does() -> None:
    x, _ = digits()
    flat = x[:64].flatten(1)
    y = 1000.0 * flat[:, :1]
    task, batches = Regression(), [(flat[:32], y[:32]), (flat[32:], y[32:])]
    plain, rate = nn.Linear(64, 1), FitConfig(epochs=1, lr=1e-12)
    net = laconic.prepare(plain, MagnitudePruning(0.0), flat[:2], data_size=64, task=task, batches=batches)
    hooks = Hooks.plain(plain, task)
    objective = hooks.objective(Batch(*batches[0]), plain(batches[0][0]))
    assert objective.item() == pytest.approx(laconic.objective(net, batches[0]).item(), rel=1e-6)
    fit(plain, batches, rate, hooks, task=task)
    noise = hooks.get_state()["log_noise"].exp().item()
    assert noise == pytest.approx(
        float((plain(flat[:32]) - y[:32]).square().mean().sqrt().detach()), rel=1e-4
    )
    again = Hooks.plain(plain, task)  # what a checkpoint holds is not started anew
    again.set_state({"log_noise": torch.tensor(2.5)})
    again.objective(Batch(*batches[0]), plain(batches[0][0]))
    assert again.get_state()["log_noise"].item() == 2.5


def test_without_epochs_nothing_is_trained() -> None:
    net = nn.Linear(2, 2)
    before = net.weight.clone()
    fit(net, [(torch.ones(1, 2), torch.tensor([0]))], FitConfig(epochs=0), Hooks.plain(net, Classification()))
    assert torch.equal(net.weight, before)
