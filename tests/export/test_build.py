"""From a module and its integers to the records of one file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from laconic import pack
from laconic.errors import InputError, ModelError
from laconic.export import build_packed, save
from laconic.records import IntTensor, RawTensor, UniformGrid
from laconic.runtime import load
from tests.helpers.parity import Fn

X = torch.randn(3, 4)
GRID = UniformGrid(0.25)


def ternary() -> tuple[nn.Module, dict[str, IntTensor]]:
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    q = np.random.default_rng(0).integers(-1, 2, (8, 4)).astype(np.int32)
    weight = IntTensor("0.weight", q, GRID)
    with torch.no_grad():
        module[0].weight.copy_(torch.from_numpy(weight.values()))
    return module.train(), {"0.weight": weight}


def test_integers_are_kept_and_the_rest_is_taken_from_the_module() -> None:
    module, tensors = ternary()
    model, notes = build_packed(module, tensors, X)
    assert notes == ()
    kinds = {t.name: type(t) for t in model.tensors}
    assert kinds["0.weight"] is IntTensor and kinds["3.weight"] is RawTensor
    assert "1.num_batches_tracked" not in kinds and "1.running_var" in kinds
    assert module.training


def test_a_file_runs_as_the_module_does(tmp_path: Path) -> None:
    module, tensors = ternary()
    size = save(module, tensors, tmp_path / "m.lac", X)
    assert size == (tmp_path / "m.lac").stat().st_size
    with torch.no_grad():
        wanted = module.eval()(X).numpy()
    np.testing.assert_allclose(load(tmp_path / "m.lac")(X.numpy()), wanted, rtol=1e-5, atol=1e-6)


def test_values_that_are_not_the_modules_own_are_refused() -> None:
    module, tensors = ternary()
    with torch.no_grad():
        module[0].weight[0, 0] += 1e-6
    with pytest.raises(InputError, match=r"'0\.weight' differs.*by up to 1.*e-06.*Cure"):
        build_packed(module, tensors, X)


def test_wrong_names_and_shapes_are_refused() -> None:
    module, tensors = ternary()
    with pytest.raises(InputError, match="'0.wieght' is not in the network's state dict"):
        build_packed(module, {"0.wieght": tensors["0.weight"]}, X)
    small = IntTensor("0.weight", np.zeros((2, 2), np.int32), GRID)
    with pytest.raises(InputError, match=r"shape \(2, 2\), the network's has \(8, 4\)"):
        build_packed(module, {"0.weight": small}, X)


def test_an_alias_may_be_named_instead_of_its_first_name() -> None:
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.fill_(0.25)
    weight = IntTensor("1.weight", np.ones((4, 4), np.int32), GRID)
    model, _ = build_packed(nn.Sequential(layer, layer), {"1.weight": weight}, X)
    assert [(t.name, type(t)) for t in model.tensors] == [("0.weight", IntTensor), ("0.bias", RawTensor)]
    assert model.aliases == {"1.weight": "0.weight", "1.bias": "0.bias"}


def test_nan_weights_and_parameterless_models_are_refused() -> None:
    module, _ = ternary()
    with torch.no_grad():
        module[3].bias[1] = float("nan")
    with pytest.raises(ModelError, match=r"'3\.bias' of shape \(2,\) holds 1 NaN"):
        build_packed(module, {}, X)
    with pytest.raises(ModelError, match="Sequential has no parameters"):
        build_packed(nn.Sequential(nn.ReLU()), {}, X)


def test_what_cannot_be_captured_is_packed_weights_only_and_says_so(tmp_path: Path) -> None:
    module = Fn(lambda layer, x: layer(x).cummax(1)[0], nn.Linear(4, 2))
    with pytest.warns(UserWarning, match=r"aten\.cummax.*laconic\.restore\(path, into=module\)"):
        save(module, {}, tmp_path / "w.lac", X)
    assert pack.read(tmp_path / "w.lac").graph is None
    _, notes = build_packed(module, {}, None)
    assert "no example input" in notes[0]


def test_weights_only_files_hold_the_whole_state() -> None:
    module, tensors = ternary()
    model, _ = build_packed(module, tensors, None)
    assert [t.name for t in model.tensors] == list(module.state_dict())


def test_the_same_module_gives_the_same_bytes() -> None:
    module, tensors = ternary()
    first, second = (pack.encode(build_packed(module, tensors, X)[0]) for _ in range(2))
    assert first == second


def test_a_file_that_needs_more_than_readers_allow_says_so(tmp_path: Path) -> None:
    """Zeros take no bytes in the file and as much memory as any weights."""
    layer = nn.Linear(1600, 1600, bias=False)
    nn.init.zeros_(layer.weight)
    zeros = IntTensor("weight", np.zeros((1600, 1600), np.int32), UniformGrid(1.0))
    with pytest.warns(UserWarning, match=r"takes up to .* bytes of memory.*Limits.trusted\(\).*--trusted"):
        save(layer, {"weight": zeros}, tmp_path / "large.lac", torch.zeros(2, 1600))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(nn.Linear(16, 16), {}, tmp_path / "small.lac", torch.zeros(2, 16))
