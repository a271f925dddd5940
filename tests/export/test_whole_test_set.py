"""The decoded file computes what the converted module computes, on every image of a test set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from laconic.data import load, split
from laconic.export.build import save
from laconic.records import AnyArray, IntTensor, UniformGrid
from laconic.runtime import load as load_runtime
from laconic.zoo import DigitsCNN, LeNet5

SPARSE = Path(__file__).parents[1] / "pack" / "golden" / "lenet5_sparse.npz"


def largest_gap(module: nn.Module, tensors: dict[str, IntTensor], images: torch.Tensor, path: Path) -> float:
    """Over all images: the largest difference of an image's outputs, over its largest output."""
    with torch.no_grad():
        for name, tensor in tensors.items():
            module.get_parameter(name).copy_(torch.from_numpy(tensor.values()))
        save(module.eval(), tensors, path, images[:2])
        wanted: AnyArray = torch.cat([module(x) for x in images.split(500)]).numpy()
    network = load_runtime(path, threads=1)
    got = np.concatenate([np.asarray(network(x.numpy())) for x in images.split(500)])
    return float((np.abs(got - wanted).max(1) / np.abs(wanted).max(1)).max())


def test_all_digits(tmp_path: Path) -> None:
    model = DigitsCNN(generator=torch.Generator().manual_seed(2))
    grids = {
        name: IntTensor(name, np.rint(p.detach().numpy() / 0.02).astype(np.int32), UniformGrid(0.02001953125))
        for name, p in model.named_parameters()
    }
    parts = split(load("digits"), validation=200, seed=0)
    images = torch.cat([part.inputs for part in (parts.train, parts.validation, parts.test)])
    assert len(images) == 1797
    assert largest_gap(model, grids, images, tmp_path / "model.lac") < 1e-5


@pytest.mark.network
def test_all_of_mnists_test_set(tmp_path: Path) -> None:
    """LeNet-5 with the integers of a real run of Sparse VD."""
    with np.load(SPARSE) as arrays:
        tensors = {n: IntTensor(n, arrays[n].astype(np.int32), UniformGrid(0.125)) for n in arrays.files}
    images = split(load("mnist"), validation=5000, seed=0).test.inputs
    assert len(images) == 10_000
    assert largest_gap(LeNet5(), tensors, images, tmp_path / "model.lac") < 1e-5
