"""int8 from the user's side: ``quantize_activations``, ``save(calibrate=...)``, ``runtime.load``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import laconic
from laconic import pack
from laconic.cli import main
from laconic.errors import CaptureError, DataError, InputError, ModelError
from laconic.methods import MagnitudePruning
from laconic.methods.contract import Compressed
from laconic.runtime import Percentile, emulate, load
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits

X, LABELS = digits()


@pytest.fixture(scope="module")
def small() -> Compressed:
    torch.set_num_threads(1)
    model = DigitsMLP(hidden=12, generator=torch.Generator().manual_seed(3))
    return laconic.convert(laconic.prepare(model, MagnitudePruning(0.5), X[:2], data_size=192))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(X[i : i + 64], LABELS[i : i + 64]) for i in range(0, 192, 64)]


def test_save_with_batches_writes_a_file_that_runs_in_int8(small: Compressed, tmp_path: Path) -> None:
    plain = laconic.save(small, tmp_path / "plain.lac")
    length = laconic.save(small, tmp_path / "int8.lac", calibrate=batches())
    assert plain < length <= plain + 20
    with torch.no_grad():
        wanted = small.module(X).numpy()
    got = np.asarray(load(tmp_path / "int8.lac", threads=1, precision="int8")(X.numpy()))
    assert 0 < np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()
    assert np.allclose(load(tmp_path / "int8.lac", precision="fp32")(X.numpy()), wanted, atol=1e-5)
    assert (
        np.abs(np.asarray(emulate(tmp_path / "int8.lac")(X.numpy())) - got).max()
        < 0.05 * np.abs(wanted).max()
    )


def test_the_verb_returns_a_new_record_and_save_writes_it(small: Compressed, tmp_path: Path) -> None:
    ready = laconic.quantize_activations(small, batches())
    assert small.ranges == ()
    assert [r.value for r in ready.ranges] == sorted({r.value for r in ready.ranges})
    laconic.save(ready, tmp_path / "m.lac")
    graph = pack.read(tmp_path / "m.lac").graph
    assert graph is not None
    assert graph.ranges == ready.ranges
    other = laconic.quantize_activations(small, batches(), choice=Percentile(90.0))
    assert other.ranges != ready.ranges


def test_examples_bounds_what_is_looked_at(small: Compressed) -> None:
    first = laconic.quantize_activations(small, [X[:10]])
    assert laconic.quantize_activations(small, [X], examples=10).ranges == first.ranges
    assert laconic.quantize_activations(small, [X[:6], X[6:10], X[10:]], examples=10).ranges == first.ranges


def test_a_plain_module_and_a_generator_of_batches(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)).eval()

    def stream() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from batches()

    ready = laconic.quantize_activations(net, stream())
    assert ready.ranges == laconic.quantize_activations(net, batches()).ranges
    laconic.save(ready, tmp_path / "m.lac")
    wanted = net(X).detach().numpy()
    assert (
        np.abs(np.asarray(load(tmp_path / "m.lac")(X.numpy())) - wanted).max() < 0.05 * np.abs(wanted).max()
    )


class TwoInputs(nn.Module):
    """A sum of two layers; ``factor`` is not needed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
        return torch.relu(self.a(x) + self.b(y)) if factor else x


def test_two_inputs_with_labels_behind_them() -> None:
    torch.manual_seed(0)
    pairs = [(torch.rand(8, 3), torch.rand(8, 2), torch.zeros(8))]
    ready = laconic.quantize_activations(TwoInputs().eval(), pairs)
    assert len(ready.ranges) == 5  # two inputs, two layers, their sum
    with pytest.raises(DataError, match="takes 2 inputs, a calibration batch has 1"):
        laconic.quantize_activations(ready, [torch.rand(8, 3)])


def test_bad_requests(small: Compressed) -> None:
    with pytest.raises(DataError, match=r"loader gave no batch. Cure: calibrate on some training batches"):
        laconic.quantize_activations(small, [])
    with pytest.raises(DataError, match="come as a Tensor. Cure: a list of batches"):
        laconic.quantize_activations(small, X)
    with pytest.raises(DataError, match="gave no batch"):
        laconic.quantize_activations(nn.Linear(2, 2), [])
    with pytest.raises(InputError, match="examples must be a positive whole number"):
        laconic.quantize_activations(small, batches(), examples=0)
    with pytest.raises(InputError, match="calibrating for int8: input 0 must have shape"):
        laconic.quantize_activations(small, [torch.zeros(4, 1, 9, 9)])
    net = laconic.prepare(nn.Linear(64, 2), MagnitudePruning(0.5), X[:2].flatten(1), data_size=192)
    with pytest.raises(ModelError, match="still prepared. Cure"):
        laconic.quantize_activations(net, batches())


class Random(nn.Module):
    """What cannot be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) if float(x.sum()) > 0 else x


def test_a_network_without_a_graph_cannot_be_calibrated() -> None:
    with pytest.raises(CaptureError, match="int8 needs the network's graph"):
        laconic.quantize_activations(Random().eval(), [torch.rand(4, 2)])


class Reader(nn.Module):
    """A recurrent layer, attention, and a linear layer: the last alone is for int8."""

    def __init__(self, cells: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cells, self.fc = cells(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.cells(x)[0]
        y = torch.softmax(y @ y.transpose(1, 2), -1) @ y
        return self.fc(y)


@pytest.mark.parametrize(
    ("cells", "why"), [(nn.LSTM, "takes its ranges from each batch"), (nn.GRU, "has no int8 kernel")]
)
def test_what_stays_in_float32_is_said(
    cells: type[nn.RNNBase], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model, x = Reader(cells), torch.randn(4, 5, 6)
    notes = laconic.quantize_activations(model, [x]).facts["notes"]
    assert notes[0].startswith("int8: 2 of the network's matrices stay in float32, 'cells.weight_ih_l0', ")
    assert why in notes[0] and notes[1].startswith("int8: 2 products of two computed values")
    with pytest.warns(UserWarning) as told:
        laconic.save(model, tmp_path / "a.lac", calibrate=[x])
    assert [str(w.message) for w in told if str(w.message).startswith("int8")] == notes
    assert main(["inspect", str(tmp_path / "a.lac")]) == 0
    said = capsys.readouterr().out.splitlines()
    lines = said[said.index("int8    calibrated, but for") + 1 :][:2]
    assert [line.split()[0] for line in lines] == ["cells.weight_ih_l0", "cells.weight_hh_l0"]
    assert all(why in line for line in lines)


def test_a_network_all_in_int8_says_nothing_more(
    small: Compressed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = laconic.quantize_activations(small, batches()).facts.get("notes")
    assert notes == small.facts.get("notes")
    laconic.save(small, tmp_path / "a.lac", calibrate=batches())
    assert main(["inspect", str(tmp_path / "a.lac")]) == 0
    assert "int8    calibrated\n" in capsys.readouterr().out


def test_warnings_of_save_point_at_the_line_that_calls_it(tmp_path: Path) -> None:
    layer, x = nn.Linear(4, 2), torch.ones(2, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        laconic.save(layer, tmp_path / "weights.lac")  # without an example there is no graph
        laconic.save(spectral_norm(layer), tmp_path / "folded.lac", example=x, calibrate=[x])
    told = [str(w.message) for w in caught]
    assert any("no example input" in text for text in told) and any("weight" in text for text in told)
    assert {w.filename for w in caught} == {__file__}
