"""A file's tensors back in a module: all or nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.errors import LimitError, ModelError, RestoreError
from laconic.export import restore, save
from laconic.methods import Target
from laconic.pack import Limits, encode
from laconic.records import IntTensor, PackedModel, UniformGrid
from tests.helpers.parity import Fn

X = torch.randn(3, 4)


def network(width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2))


@pytest.fixture(params=["graph", "weights only"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[nn.Sequential, Path]:
    module = network()
    module(torch.randn(9, 4))  # moves the running moments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(module, {}, tmp_path / "m.lac", X if request.param == "graph" else None)
    return module, tmp_path / "m.lac"


def test_a_module_is_filled_in_place(saved: tuple[nn.Sequential, Path]) -> None:
    module, path = saved
    fresh = network()
    weight = fresh[0].weight
    assert restore(path, fresh) is fresh
    assert fresh[0].weight is weight and weight.requires_grad
    with torch.no_grad():
        assert torch.equal(fresh.eval()(X), module.eval()(X))


def test_wrong_shapes_leave_the_module_untouched(saved: tuple[nn.Sequential, Path]) -> None:
    fresh = network()
    fresh[3] = nn.Linear(6, 5)
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    for strict in (True, False):
        with pytest.raises(RestoreError, match=r"'3\.weight' has shape \(2, 6\) .* \(5, 6\).*Cure"):
            restore(saved[1], fresh, strict=strict)
    assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items())


def test_missing_and_superfluous_names(saved: tuple[nn.Sequential, Path]) -> None:
    longer = network().append(nn.Linear(2, 2))
    with pytest.raises(RestoreError, match=r"file has no tensor '4\.weight' of shape \(2, 2\) \(2 missing"):
        restore(saved[1], longer)
    shorter = nn.Sequential(*network()[:3])
    with pytest.raises(RestoreError, match=r"module has no tensor '3\.bias' \(2 too many"):
        restore(saved[1], shorter)
    assert torch.equal(restore(saved[1], longer, strict=False)[0].weight, saved[0][0].weight)
    assert torch.equal(restore(saved[1], shorter, strict=False)[0].weight, saved[0][0].weight)


def test_shared_weights_go_to_every_name(tmp_path: Path) -> None:
    layer = nn.Linear(4, 4)
    save(nn.Sequential(layer, layer), {}, tmp_path / "s.lac", X)
    again = nn.Linear(4, 4)
    shared = restore(tmp_path / "s.lac", nn.Sequential(again, again))
    apart = restore(tmp_path / "s.lac", nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    for module in (shared, apart):
        assert torch.equal(module[0].weight, layer.weight) and torch.equal(module[1].bias, layer.bias)


def test_a_module_that_shares_what_the_file_keeps_apart(tmp_path: Path) -> None:
    save(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), {}, tmp_path / "s.lac", X)
    layer = nn.Linear(4, 4)
    with pytest.raises(RestoreError, match=r"shares one tensor between '0\.(weight|bias)' and '1\."):
        restore(tmp_path / "s.lac", nn.Sequential(layer, layer))


def test_lifted_constants_stay_in_the_file(tmp_path: Path) -> None:
    module = Fn(lambda layer, x: layer(x) + torch.arange(2), nn.Linear(4, 2))
    save(module, {}, tmp_path / "c.lac", X)
    fresh = Fn(lambda layer, x: layer(x) + torch.arange(2), nn.Linear(4, 2))
    assert torch.equal(restore(tmp_path / "c.lac", fresh)(X), module(X))


def test_a_parameterless_model_has_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no parameters"):
        save(nn.ReLU(), {}, tmp_path / "n.lac", X)
    assert not (tmp_path / "n.lac").exists()


def test_a_file_that_claims_more_than_the_module_holds_is_refused_before_it_is_decoded(
    tmp_path: Path,
) -> None:
    path = tmp_path / "large.lac"
    path.write_bytes(
        encode(PackedModel((IntTensor("weight", np.zeros((3000, 3000), np.int32), UniformGrid(1.0)),)))
    )
    with pytest.raises(LimitError, match="bytes of memory.*limits="):
        restore(path, nn.Linear(2, 2, bias=False))
    with pytest.raises(RestoreError, match=r"\(3000, 3000\) in the file"):
        restore(path, nn.Linear(2, 2, bias=False), limits=Limits.trusted())
    module = nn.Linear(3000, 3000, bias=False)
    assert not restore(path, module).weight.any()


def test_norms_that_were_folded_are_told(tmp_path):
    def build():
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 4)
        )

    net, x = build(), torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    net(x)
    path = tmp_path / "net.lac"
    laconic.save(laconic.compress_trained(net.eval(), [x], Target(max_kl=0.01)), path)
    with pytest.raises(RestoreError, match=r"'1.weight'.*1 normalisation layer.*folds.*fold=False"):
        restore(path, into=build())
    with pytest.warns(UserWarning, match=r"'1' \(1 in all\).*count twice.*Cure: nn.Identity") as told:
        restore(path, into=build(), strict=False)
    assert told[0].filename == __file__
    plain = build()
    plain[1] = nn.Identity()
    restored = restore(path, into=plain).eval()
    far = torch.nn.functional.kl_div(restored(x).log_softmax(1), net(x).softmax(1), reduction="batchmean")
    assert far < 0.03
