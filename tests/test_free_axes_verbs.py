"""Free axes and names from the user's side: ``save``, ``compress``, ``quantize_activations``, ``inspect``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic import pack
from laconic.cli.main import main
from laconic.errors import InputError
from laconic.methods import MagnitudePruning
from laconic.methods.contract import Compressed
from laconic.runtime import load
from laconic.train.fit import FitConfig
from tests.helpers.parity import worst_error


class Tagger(nn.Module):
    """A convolution over time and a tag for each step, beside the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv, self.tag = nn.Conv1d(3, 6, 3, padding=1), nn.Linear(6, 4)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.4, generator=generator)

    def forward(self, sound: torch.Tensor) -> dict[str, torch.Tensor]:
        x = torch.relu(self.conv(sound)).transpose(1, 2)
        return {"tags": self.tag(x.reshape(-1, 6)).view(x.shape[0], x.shape[1], 4), "mean": x.mean(1)}


FREE = {"sound": {0: "batch", 2: "time"}}


@pytest.fixture(scope="module")
def small() -> Compressed:
    return laconic.convert(
        laconic.prepare(Tagger(), MagnitudePruning(0.5), torch.zeros(2, 3, 8), data_size=8)
    )


def assert_every_length(small: Compressed, path: Path, tolerance: float) -> None:
    network = load(path)
    for batch, time in ((1, 5), (3, 16)):
        x = torch.randn(batch, 3, time, generator=torch.Generator().manual_seed(time))
        with torch.no_grad():
            wanted = small.module.eval()(x)
        got = network(sound=x.numpy())
        assert isinstance(got, dict)
        assert worst_error([got["tags"], got["mean"]], [v.numpy() for v in wanted.values()]) < tolerance


def test_save_with_free_axes(small: Compressed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tagger.lac"
    laconic.save(small, path, dynamic=FREE)
    assert_every_length(small, path, 1e-5)
    assert main(["inspect", str(path)]) == 0
    told = capsys.readouterr().out
    assert "input   sound                        float32 (batch, 3, time)" in told
    assert "output  tags\noutput  mean\nreturns a dictionary" in told


def test_int8_keeps_the_free_axes(small: Compressed, tmp_path: Path) -> None:
    path = tmp_path / "int8.lac"
    batches = [torch.randn(16, 3, 8, generator=torch.Generator().manual_seed(1))]
    laconic.save(small, path, calibrate=batches, dynamic=FREE)
    model = pack.read(path)
    assert model.graph is not None and len(model.graph.ranges) >= 3
    assert_every_length(small, path, 0.1)
    ready = laconic.quantize_activations(small, batches, dynamic=FREE)
    laconic.save(ready, tmp_path / "again.lac")
    assert (tmp_path / "again.lac").read_bytes() == path.read_bytes()
    with pytest.raises(InputError, match="calibrated with.*Cure: quantize_activations"):
        laconic.save(ready, tmp_path / "other.lac", dynamic={"sound": {2: "time"}})


def test_compress_with_free_axes(tmp_path: Path) -> None:
    class Classifier(Tagger):
        def forward(self, sound: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.tag(torch.relu(self.conv(sound)).mean(2))

    x, y = torch.randn(8, 3, 6, generator=torch.Generator().manual_seed(2)), torch.arange(8) % 4
    out = tmp_path / "run"
    small = laconic.compress(
        Classifier(),
        [(x, y)],
        [(x, y)],
        MagnitudePruning(0.5),
        fit=FitConfig(epochs=1),
        out=out,
        dynamic=FREE,
    )
    network = load(out / "model.lac")
    assert network.inputs[0].sizes == ("batch", 3, "time")
    longer = torch.randn(2, 3, 11)
    with torch.no_grad():
        wanted = small.module.eval()(longer).numpy()
    np.testing.assert_allclose(np.asarray(network(longer.numpy())), wanted, rtol=1e-4, atol=1e-5)
