"""Every door takes what the one before it takes: prepare, convert, save, restore, cost_of, find_groups."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

import laconic
from laconic import pack
from laconic.errors import ModelError, RestoreError
from laconic.methods import MagnitudePruning, SparseVD, TaylorPruning
from laconic.runtime import load
from laconic.structure import find_groups

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def _plain() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def _compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def _inner(model: nn.Module) -> nn.Module:
    model[0] = _compiled(model[0])
    return model


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "compiled": _compiled,
    "data parallel": nn.DataParallel,
    "average": AveragedModel,
    "both": lambda model: AveragedModel(nn.DataParallel(model)),
    "within": _inner,
}


def _train(net: Any, example: Any = X) -> None:
    net.train()(example)
    laconic.step(net, terms=1)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_a_wrapped_network_goes_through_every_door(wrap: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    net = laconic.prepare(wrap(_plain()), MagnitudePruning(0.5), X, data_size=100, total_steps=1)
    _train(net)
    small = laconic.convert(net)
    assert set(small.tensors) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    laconic.save(small, tmp_path / "a.lac")
    for into in (wrap(_plain()), _plain()):
        assert laconic.restore(tmp_path / "a.lac", into=into) is into
        torch.testing.assert_close(into.eval()(X), small.module(X), rtol=0, atol=0)
    assert laconic.cost_of(wrap(_plain()), X).macs == 4 * (6 * 8 + 8 * 3)
    groups = [find_groups(model, X).groups for model in (wrap(_plain()), _plain())]
    assert [g.name for g in groups[0]] == [g.name for g in groups[1]] != []
    original = wrap(_plain()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        laconic.save(original, tmp_path / "plain.lac", example=X)
    torch.testing.assert_close(torch.from_numpy(load(tmp_path / "plain.lac")(X.numpy())), original(X))
    assert torch.equal(laconic.restore(tmp_path / "plain.lac", into=_plain())(X), original(X))


@pytest.mark.parametrize(
    ("wrap", "method"), [(_compiled, MagnitudePruning(0.5)), (nn.DataParallel, SparseVD())]
)
def test_a_prepared_network_may_be_wrapped_for_training(
    wrap: Callable[[nn.Module], Any], method: Any
) -> None:
    net = laconic.prepare(_plain(), method, X, data_size=100, total_steps=1)
    wrapped = wrap(net)
    assert torch.equal(laconic.penalty(wrapped), laconic.penalty(net))
    batch = (X, torch.zeros(len(X), dtype=torch.int64))
    assert torch.equal(laconic.objective(wrapped.eval(), batch), laconic.objective(net.eval(), batch))
    assert len(laconic.param_groups(wrapped, 0.1)) == len(laconic.param_groups(net, 0.1))
    _train(wrapped)
    assert set(laconic.convert(wrapped).tensors) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_the_average_of_a_prepared_network_is_converted() -> None:
    net = laconic.prepare(_plain(), SparseVD(), X, data_size=100)
    average = AveragedModel(net)
    with torch.no_grad():
        net[0].bias.add_(1.0)
    average.update_parameters(net)  # the first update copies
    with torch.no_grad():
        net[0].bias.add_(1.0)
    average.update_parameters(net)
    small = laconic.convert(average)
    torch.testing.assert_close(small.module[0].bias, net[0].bias - 0.5, rtol=0, atol=0.02)


def test_a_file_with_a_wrappers_prefix_fits_and_others_do_not(tmp_path: Path) -> None:
    class Ema(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = _plain()

        def forward(self, x: Tensor) -> Tensor:
            return self.module(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        laconic.save(ema := Ema(), tmp_path / "ema.lac", example=X)
        laconic.save(plain := _plain(), tmp_path / "plain.lac", example=X)
    assert torch.equal(laconic.restore(tmp_path / "ema.lac", into=_plain())(X), ema(X))
    assert torch.equal(laconic.restore(tmp_path / "plain.lac", into=Ema())(X), plain(X))
    with pytest.raises(RestoreError, match=r"no tensor '2.weight'.*Cure"):
        laconic.restore(
            tmp_path / "ema.lac", into=nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))[2:]
        )


# --- computed weights -----------------------------------------------------------------------------------


def _masked() -> nn.Module:
    model = _plain()
    prune.l1_unstructured(model[0], "weight", 0.5)
    return model


COMPUTED: dict[str, Callable[[], nn.Module]] = {
    "weight_norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)), *_plain()[1:]),
    "spectral_norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 8)), *_plain()[1:]),
    "old spectral_norm": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 8)), *_plain()[1:]),
    "masks": _masked,
}


@pytest.mark.parametrize("build", COMPUTED.values(), ids=COMPUTED.keys())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_computed_weights_are_folded_at_every_door(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = build().eval()
    net = laconic.prepare(model, MagnitudePruning(0.0), X, data_size=100, total_steps=1)
    torch.testing.assert_close(net.eval()(X), model(X), rtol=0, atol=1e-6)
    _train(net)
    small = laconic.convert(net)
    assert set(small.tensors) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    laconic.save(small, tmp_path / "a.lac")
    with pytest.warns(UserWarning, match="'0.weight' .* is a plain parameter now"):
        into = laconic.restore(tmp_path / "a.lac", into=build())
    assert sorted(into.state_dict()) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert torch.equal(into.eval()(X), small.module(X))
    laconic.save(model, tmp_path / "plain.lac", example=X)
    np.testing.assert_allclose(load(tmp_path / "plain.lac")(X.numpy()), model(X).detach(), atol=1e-6)
    assert "0.weight" in {t.name for t in pack.read(tmp_path / "plain.lac").tensors}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_refused_restore_leaves_computed_weights_as_they_are(tmp_path: Path) -> None:
    laconic.save(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), tmp_path / "a.lac", example=X)
    model = COMPUTED["weight_norm"]()
    before = model.state_dict()
    with pytest.raises(RestoreError, match=r"shape \(5,\)"):
        laconic.restore(tmp_path / "a.lac", into=model)
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[n], before[n]) for n in before)


# --- what a state dict may hold -------------------------------------------------------------------------


class Spectral(nn.Module):
    """A filter in the frequency domain, as Fourier neural operators have it."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(4, dtype=torch.complex64))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=6))


@pytest.mark.parametrize(
    ("method", "frozen"), [(SparseVD(), False), (MagnitudePruning(0.0), True)], ids=["trained", "frozen"]
)
def test_complex_parameters_are_stored_exactly(method: Any, frozen: bool, tmp_path: Path) -> None:
    model = Spectral()
    model.filter.requires_grad_(not frozen)
    net = laconic.prepare(model, method, X, data_size=100, total_steps=1)
    laconic.penalty(net).backward() if isinstance(method, SparseVD) else None
    _train(net)
    small = laconic.convert(net)
    assert torch.equal(small.module.filter, model.filter)
    told = "1 parameter (32 bytes: 'filter') stays as it is: complex numbers have no grid"
    assert any(note.startswith(told) for note in small.facts["notes"])
    with pytest.warns(UserWarning, match="weights only"):
        laconic.save(small, tmp_path / "a.lac")
    stored = {t.name: t.values() for t in pack.read(tmp_path / "a.lac").tensors}
    assert np.array_equal(stored["filter"], torch.view_as_real(model.filter.detach()).numpy())
    into = laconic.restore(tmp_path / "a.lac", into=Spectral())
    assert torch.equal(into(X), small.module(X))
    into.filter = nn.Parameter(into.filter.detach().real.contiguous())
    with pytest.raises(RestoreError, match=r"'filter' has shape \(4, 2\) in the file and \(4,\)"):
        laconic.restore(tmp_path / "a.lac", into=into)


class Crowded(nn.Module):
    """Buffers of every type, an empty parameter, one of integers, and extra state of two kinds."""

    def __init__(self, fill: int = 1) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.empty = nn.Parameter(torch.zeros(0, 4))
        self.order = nn.Parameter(torch.arange(3), requires_grad=False)
        kinds = (torch.uint8, torch.bool, torch.int16, torch.uint16, torch.uint32, torch.uint64)
        for kind in (*kinds, torch.float64, torch.bfloat16, torch.float16, torch.complex64):
            name = str(kind).replace("torch.", "of_")
            self.register_buffer(name, torch.tensor([fill, 1 - fill, fill]).to(kind))
        self.register_buffer("unsaved", torch.full((3,), 2.0), persistent=False)
        self.numbers, self.count = torch.tensor([1.5, fill]), {"seen": fill}

    def get_extra_state(self) -> Tensor:
        return self.numbers.clone()

    def set_extra_state(self, state: Tensor) -> None:
        self.numbers = state

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[:, self.order] * self.unsaved + self.of_uint8


@pytest.mark.parametrize("example", [X, None], ids=["graph", "weights only"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_a_state_dict_holds_comes_back(example: Tensor | None, tmp_path: Path) -> None:
    model = Crowded()
    laconic.save(model, tmp_path / "plain.lac", example=example)
    into = laconic.restore(tmp_path / "plain.lac", into=Crowded(fill=0))
    assert into.numbers.tolist() == [1.5, 1.0]
    graph = pack.read(tmp_path / "plain.lac").graph
    for name, tensor in model.state_dict().items():
        if graph is None or tensor.is_floating_point() or tensor.is_complex() or name == "of_uint8":
            assert torch.equal(into.state_dict()[name], tensor), name
    net = laconic.prepare(model, SparseVD(), X, data_size=100, total_steps=1)
    _train(net)
    small = laconic.convert(net)
    laconic.save(small, tmp_path / "a.lac")
    into = laconic.restore(tmp_path / "a.lac", into=Crowded(fill=0))
    assert torch.equal(into.eval()(X), small.module(X))


def test_extra_state_that_is_no_tensor_is_left_out_with_a_note(tmp_path: Path) -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> dict[str, Any]:
            return {"epoch": {"seen": 3}}

        def set_extra_state(self, state: Any) -> None:
            raise AssertionError("nothing was stored")

    with pytest.warns(
        UserWarning, match=r"'_extra_state' \(dict\), which is no tensor: the file leaves it out"
    ):
        laconic.save(model := Counting(6, 3), tmp_path / "a.lac", example=X)
    assert torch.equal(laconic.restore(tmp_path / "a.lac", into=Counting(6, 3))(X), model(X))


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_plain_network_of_another_precision_is_stored_exactly(kind: torch.dtype, tmp_path: Path) -> None:
    model, again = _plain().to(kind), _plain().to(kind)
    laconic.save(model, tmp_path / "a.lac")
    state = laconic.restore(tmp_path / "a.lac", into=again).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_an_expanded_buffer_is_not_written_to(tmp_path: Path) -> None:
    model = _plain()
    model.register_buffer("shift", torch.zeros(1).expand(8))
    with pytest.warns(UserWarning, match="raw"):
        laconic.save(model, tmp_path / "a.lac", example=X)
    with pytest.raises(RestoreError, match="'shift' of shape .* several entries in one place .*Cure"):
        laconic.restore(tmp_path / "a.lac", into=model)


# --- a plain module at save -----------------------------------------------------------------------------


def test_a_plain_module_is_saved_as_it_is_and_the_user_told_how_to_shrink_it(tmp_path: Path) -> None:
    model = _plain()
    with pytest.warns(
        UserWarning, match=r"332 of the file's \d+ bytes are 4 parameters .*Cure: laconic.comp"
    ):
        laconic.save(model, tmp_path / "a.lac", example=X)
    np.testing.assert_allclose(load(tmp_path / "a.lac")(X.numpy()), model(X).detach(), atol=1e-6)
    assert torch.equal(laconic.restore(tmp_path / "a.lac", into=_plain())(X), model(X))
    with pytest.warns(UserWarning, match="no example input was given"):
        laconic.save(model, tmp_path / "weights.lac")
    with pytest.warns(UserWarning, match="raw"):
        laconic.save(model, tmp_path / "int8.lac", calibrate=[X])
    assert pack.read(tmp_path / "int8.lac").graph.ranges  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="still prepared. Cure: laconic.convert"):
        laconic.save(laconic.prepare(model, SparseVD(), X, data_size=9), tmp_path / "b.lac")
    with pytest.raises(ModelError, match="save takes a PyTorch module, got a OrderedDict. Cure"):
        laconic.save(model.state_dict(), tmp_path / "b.lac")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"got a ExportedProgram. Cure: its .module\(\)"):
        laconic.save(torch.export.export(model, (X,)), tmp_path / "b.lac")  # type: ignore[arg-type]
    assert not (tmp_path / "b.lac").exists()


# --- examples -------------------------------------------------------------------------------------------


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.rnn = nn.Linear(6, 8), nn.LSTM(8, 5, batch_first=True)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor], scale: float = 1.0) -> Tensor:
        return scale * self.rnn(torch.relu(self.first(x)), state)[0]


class Mapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = _plain()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.layers(batch["image"])


STATE = (torch.zeros(1, 2, 5), torch.ones(1, 2, 5))
EXAMPLES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "list": (_plain, [X]),
    "dictionary": (_plain, {"input": X}),
    "nested states": (Stateful, (torch.randn(2, 4, 6), STATE)),
    "nested states by name": (Stateful, {"state": STATE, "scale": 2.0, "x": torch.randn(2, 4, 6)}),
    "a dictionary in a tuple": (Mapped, ({"image": X},)),
}


@pytest.mark.parametrize(
    "method", [MagnitudePruning(0.3), TaylorPruning(macs=0.9)], ids=["magnitude", "taylor"]
)
@pytest.mark.parametrize(("build", "example"), EXAMPLES.values(), ids=EXAMPLES.keys())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_example_goes_through_every_door(
    build: Callable[[], nn.Module], example: Any, method: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = build()
    args, kwargs = ((), example) if isinstance(example, dict) else (tuple(example), {})
    net = laconic.prepare(model, method, example, data_size=100, total_steps=1)
    net.train()(*args, **kwargs).square().mean().backward()
    laconic.step(net, terms=1)
    small = laconic.convert(net)
    assert "weight:0" in find_groups(model, example).groups[0].name
    small = laconic.remove_dead_units(small)
    laconic.save(small, tmp_path / "a.lac")
    names = ("x", "state") if isinstance(example, dict) and "state" in example else tuple(example)
    parts = [example[n] for n in names] if isinstance(example, dict) else list(args)
    flat = [
        t.numpy()
        for p in parts
        for t in (p.values() if isinstance(p, dict) else p if isinstance(p, tuple) else [p])
    ]
    said = load(tmp_path / "a.lac")(*flat)
    np.testing.assert_allclose(said, small.module(*args, **kwargs).detach(), atol=1e-5)
    assert laconic.cost_of(small).macs > 0
