"""What a user hands in, made plain: wrappers, computed weights, and what cannot be worked on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel

from laconic.errors import ModelError
from laconic.networks.modules import plain_network
from laconic.networks.wrappers import unwrapped


class Symmetric(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w.triu() + w.triu(1).mT


def _symmetric() -> nn.Module:
    return parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())


def _old(function: Callable[..., nn.Module], layer: nn.Module, name: str = "weight") -> nn.Module:
    with pytest.warns(FutureWarning):
        return function(layer, name)


def _pruned() -> nn.Module:
    return prune.l1_unstructured(prune.random_unstructured(nn.Linear(4, 4), "weight", 0.3), "weight", 0.3)


COMPUTED: dict[str, Callable[[], nn.Module]] = {
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "of the user's own": _symmetric,
    "old weight_norm": lambda: _old(nn.utils.weight_norm, nn.Linear(4, 4)),
    "old spectral_norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
    "masks": _pruned,
}


@pytest.mark.parametrize("build", COMPUTED.values(), ids=COMPUTED.keys())
def test_a_computed_weight_is_folded_and_the_users_network_left_as_it_was(build):
    torch.manual_seed(0)
    model, x = nn.Sequential(build(), nn.ReLU(), nn.Linear(4, 2)), torch.randn(3, 4)
    model(x)  # leaves a weight with a history on a layer, which torch refuses to copy
    model.eval()
    before, names = model(x), list(model.state_dict())
    plain, notes = plain_network(model, "save")
    assert sorted(plain.state_dict()) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert type(plain[0]) is nn.Linear
    torch.testing.assert_close(plain(x), before, rtol=0, atol=1e-6)
    assert "'0.weight'" in notes[0] and "became plain" in notes[0]
    with torch.no_grad():
        for p in plain.parameters():
            p.zero_()
    assert torch.equal(model(x), before) and list(model.state_dict()) == names
    model.train()(x)  # goes on training


@pytest.mark.parametrize("old", [False, True])
def test_a_recurrent_layer_reads_its_folded_weight(old):
    layer, x, norm = nn.LSTM(4, 5), torch.randn(2, 3, 4), parametrizations.weight_norm
    model = _old(nn.utils.weight_norm, layer, "weight_hh_l0") if old else norm(layer, "weight_hh_l0")
    plain = plain_network(model, "save").module
    torch.testing.assert_close(plain(x)[0], model(x)[0])
    with torch.no_grad():
        plain.weight_hh_l0.zero_()
    assert not torch.allclose(plain(x)[0], model(x)[0])


def test_a_folded_weight_is_frozen_where_all_that_it_was_computed_from_is():
    model = parametrizations.weight_norm(nn.Linear(4, 4))
    assert plain_network(model, "save").module.weight.requires_grad
    model.requires_grad_(False)
    weight = plain_network(model, "save").module.weight
    assert isinstance(weight, nn.Parameter) and not weight.requires_grad


def test_nothing_is_copied_where_nothing_is_to_be_done():
    model = nn.Linear(4, 2)
    assert plain_network(model, "save") == (model, ())


@pytest.mark.parametrize(
    "wrap", [torch.compile, nn.DataParallel, AveragedModel, lambda m: torch.compile(nn.DataParallel(m))]
)
def test_wrappers_are_taken_off_at_the_root_and_within(wrap):
    inner = nn.Linear(4, 2)
    assert list(unwrapped(wrap(inner)).state_dict()) == ["weight", "bias"]
    whole = nn.Sequential(wrap(inner), nn.ReLU(), nn.Sequential(wrap(nn.Linear(2, 2))))
    view = unwrapped(whole)
    assert list(view.state_dict()) == ["0.weight", "0.bias", "2.0.weight", "2.0.bias"]
    assert view[0].weight is unwrapped(whole[0]).weight
    assert list(whole.state_dict()) != list(view.state_dict())  # the user's own keeps its wrappers
    torch.testing.assert_close(view(torch.ones(1, 4)), whole(torch.ones(1, 4)))


def test_a_layer_in_two_places_stays_one_within_wrappers():
    layer = nn.Linear(4, 4)
    view = unwrapped(nn.Sequential(nn.DataParallel(layer), nn.DataParallel(layer)))
    assert view[0] is view[1] is layer


def _sparse() -> nn.Module:
    model = nn.Linear(2, 2)
    model.weight = nn.Parameter(torch.eye(2).to_sparse())
    return model


def _expanded() -> nn.Module:
    model = nn.Linear(2, 2)
    model.weight = nn.Parameter(torch.ones(1, 2).expand(2, 2))
    return model


def _float8() -> nn.Module:
    model = nn.Linear(2, 2)
    model.register_buffer("scale", torch.ones(2).to(torch.float8_e4m3fn))
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), "network is scripted or traced .*Cure"),
        (
            lambda: nn.Sequential(torch.jit.trace(nn.ReLU(), torch.zeros(1))),
            "layer '0' is scripted or traced",
        ),
        (lambda: {"weight": torch.zeros(1)}, "a PyTorch module, got a dict. Cure: .* load its state dict"),
        (lambda: nn.LazyLinear(3), "'weight' is not initialised yet. Cure: run one batch"),
        (lambda: nn.Linear(2, 2, device="meta"), "'weight' is on the meta device, .*Cure: model.to_empty"),
        (_sparse, r"'weight' is sparse \(sparse_coo\). Cure: tensor.to_dense"),
        (_expanded, r"'weight' of shape \(2, 2\) has several entries in one place .*Cure"),
        (_float8, "buffer 'scale' is float8_e4m3fn.* Cure"),
        (lambda: torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(2, 2))), "quantised .*Cure"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_worked_on_is_refused_by_name(model, words):
    with pytest.raises(ModelError, match=f"prepare.*{words}"):
        plain_network(model(), "prepare")
