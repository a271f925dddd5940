"""What a user hands in as an example: every door takes it, or says by the same words what to give instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import laconic
from laconic.errors import InputError
from laconic.methods import MagnitudePruning
from laconic.runtime import load
from laconic.structure import find_groups

X = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
STATE = (torch.zeros(1, 3, 5), torch.ones(1, 3, 5))
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Stateful(nn.Module):
    """A recurrent layer whose states come from outside, and a flag that is seldom given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rnn, self.last = nn.Linear(6, 8), nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 2)

    def forward(
        self, x: Tensor, state: Any = None, scale: float = 1.0, mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        y, state = self.rnn(torch.relu(self.first(x)), state)
        y = scale * self.last(y)
        return (y if mask is None else y * mask), state


class Asking(Stateful):
    """The same, where the states are no option."""

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:  # type: ignore[override]
        return super().forward(x, state)


def _arrays(example: tuple[Any, ...]) -> list[np.ndarray[Any, Any]]:
    parts = [t for part in example for t in (part if isinstance(part, tuple) else (part,))]
    return [t.numpy() for t in parts if isinstance(t, Tensor)]


def _agree(path: Path, model: nn.Module, example: tuple[Any, ...]) -> None:
    with torch.no_grad():
        wanted, (h, c) = model.eval()(*example)
    got = load(path, precision="fp32")(*_arrays(example))
    for a, b in zip(got, (wanted, h, c), strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-5)


PLACES: dict[str, tuple[Any, ...]] = {
    "None": (X, None),
    "a number": (X, STATE, 2.0),
    "None before a tensor": (X, None, 1.0, torch.rand(3, 4, 2)),
}


@pytest.mark.parametrize("example", PLACES.values(), ids=PLACES.keys())
def test_a_place_without_a_tensor_passes_every_door(example: tuple[Any, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Stateful()
    assert [g.name for g in find_groups(model, example).groups][:1] == ["first.weight:0"]
    assert laconic.cost_of(model, example).macs > 0
    net = laconic.prepare(model, MagnitudePruning(0.2), example, data_size=9, total_steps=1)
    net.train()(*example)[0].sum().backward()
    laconic.step(net)
    small = laconic.convert(net)
    laconic.save(small, tmp_path / "a.lac")
    _agree(tmp_path / "a.lac", small.module, example)


@pytest.mark.parametrize("given", [True, False], ids=["example", "batches alone"])
def test_nested_states_are_calibrated(given: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, example = Asking(), (X, STATE)
    laconic.save(model, tmp_path / "a.lac", example=example if given else None, calibrate=[example])
    _agree(tmp_path / "a.lac", model, example)
    assert load(tmp_path / "a.lac", precision="int8")(*_arrays(example))[0].shape == (3, 4, 2)


def test_labels_in_a_dictionary_of_calibration_are_not_looked_at(tmp_path: Path) -> None:
    batch = {"input": torch.eye(4), "label": torch.arange(4)}
    laconic.save(nn.Sequential(nn.Linear(4, 2)), tmp_path / "a.lac", calibrate=[batch])
    assert load(tmp_path / "a.lac", precision="int8")(np.eye(4, dtype=np.float32)).shape == (4, 2)


NESTED: dict[str, Any] = {
    "by name": {"x": {0: "batch", 1: "time"}, "state": ({1: "batch"}, {1: "batch"})},
    "in order": ({0: "batch", 1: "time"}, [{1: "batch"}, {1: "batch"}]),
    "by the tensors' names": {
        "x": {0: "batch", 1: "time"}, "state_0": {1: "batch"}, "state_1": {1: "batch"},
    },
}  # fmt: skip


@pytest.mark.parametrize("dynamic", NESTED.values(), ids=NESTED.keys())
def test_free_axes_of_nested_inputs(dynamic: Any, tmp_path: Path) -> None:
    """The form that ``torch.export`` has for them; another batch and another length then run."""
    torch.manual_seed(0)
    model = Stateful()
    laconic.save(model, tmp_path / "a.lac", example=(X, STATE), dynamic=dynamic)
    for batch, time in ((3, 4), (2, 7), (5, 1)):
        states = (torch.rand(1, batch, 5), torch.rand(1, batch, 5))
        _agree(tmp_path / "a.lac", model, (torch.randn(batch, time, 6), states))


def test_free_axes_of_a_dictionary(tmp_path: Path) -> None:
    class Mapped(nn.Linear):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
            return super().forward(batch["image"])

    dynamic = {"batch": {"image": {0: "n", 1: "places"}}}
    laconic.save(Mapped(6, 2), tmp_path / "a.lac", example=({"image": X},), dynamic=dynamic)
    assert load(tmp_path / "a.lac")(np.zeros((2, 9, 6), np.float32)).shape == (2, 9, 2)


@pytest.mark.parametrize("wrong", [{1: "batch"}, ({1: "batch"},), "batch"])
def test_free_axes_that_are_nested_otherwise(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"of 'state', which is a tuple. Cure: .*: 'state_0', 'state_1'"):
        laconic.save(Stateful(), tmp_path / "a.lac", example=(X, STATE), dynamic={"state": wrong})


def _save(model: nn.Module, example: Any) -> Any:
    return laconic.save(model, "never.lac", example=example)


@pytest.mark.parametrize("door", [_save, find_groups, laconic.cost_of], ids=["save", "groups", "cost"])
@pytest.mark.parametrize(
    ("example", "text"),
    [
        ({"x": X}, "forward has no parameter 'x'. Cure: one of input"),
        (X.numpy(), "must be a tensor, got ndarray. Cure: torch.as_tensor"),
        (
            DataLoader(TensorDataset(X)),
            r"must be a tensor, got DataLoader. Cure: the inputs of one batch, as in x, y = next\(iter",
        ),
    ],
    ids=["name", "array", "loader"],
)
def test_the_doors_refuse_in_the_same_words(
    door: Callable[[nn.Module, Any], Any], example: Any, text: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=text):
        door(nn.Sequential(nn.Linear(6, 3)), example)
    assert not list(tmp_path.iterdir())
