"""Networks that take only some memory layouts are trained, scored and compressed all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import laconic
from laconic.data import TensorLoader
from laconic.data.tensors import TensorPair
from laconic.errors import DataError
from laconic.methods import Method, SparseVD
from laconic.networks.layout import contiguous, run
from laconic.train.evaluate import evaluate
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.layout import laid_out
from tests.helpers.method_suite import assert_same_state, digits

CHANNELS_LAST = torch.channels_last


class Viewing(nn.Module):
    """Flattens with ``.view``, draws dropout and keeps running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.norm, self.drop, self.head = nn.BatchNorm2d(6), nn.Dropout(0.2), nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv2(torch.relu(self.conv1(x)))))
        return self.head(self.drop(x.view(x.size(0), -1)))


class Flattening(Viewing):
    """The same by ``.flatten``, which any layout allows."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv2(torch.relu(self.conv1(x)))))
        return self.head(self.drop(x.flatten(1)))


class Volume(nn.Module):
    """A 4-d and a 5-d weight in one network."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.deep = nn.Conv2d(1, 4, 3), nn.Conv3d(4, 2, (1, 3, 3))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.deep(self.flat(x)[:, :, None]).flatten(1))


def _loader(by_pixel: bool) -> TensorLoader:
    x, y = digits()
    return TensorLoader(TensorPair(x[:96], y[:96], 10), 32, channels_last=by_pixel)


def _made(kind: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(5)
    return kind()


def _trained(kind: Callable[[], nn.Module], config: FitConfig, by_pixel: bool = False) -> nn.Module:
    torch.set_num_threads(1)
    net = _made(kind)
    fit(net, _loader(by_pixel), config, Hooks.plain(net))
    return net


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_a_network_that_views_is_trained_in_the_plain_layout(wanted: bool, given: bool) -> None:
    """To the same bits, whatever was asked for and however the loader lays images out."""
    net = _trained(Viewing, FitConfig(epochs=2, channels_last=wanted), given)
    same = _trained(Viewing, FitConfig(epochs=2, channels_last=False))
    assert_same_state(net.state_dict(), same.state_dict(), "another layout")


def test_a_network_that_can_is_trained_by_pixel() -> None:
    seen: list[bool] = []
    net = _made(Flattening)
    net.conv2.register_forward_pre_hook(  # type: ignore[union-attr]
        lambda module, args: seen.append(module.weight.is_contiguous(memory_format=CHANNELS_LAST))
    )
    fit(net, _loader(False), FitConfig(epochs=1), Hooks.plain(net))
    assert len(seen) == 4, "three batches, and one on a copy beforehand"
    assert all(seen)


@pytest.mark.parametrize("before", [torch.contiguous_format, CHANNELS_LAST])
def test_weights_come_back_in_the_layout_they_had(before: torch.memory_format) -> None:
    net = _made(Flattening)
    net.conv2.weight.data = net.conv2.weight.data.contiguous(memory_format=before)  # type: ignore[union-attr, operator]
    net.register_buffer("image", torch.zeros(2, 3, 4, 5))
    strides = {n: t.stride() for n, t in net.state_dict().items()}
    fit(net, _loader(False), FitConfig(epochs=1), Hooks.plain(net))
    state = net.state_dict()
    first = state.pop("conv1.weight")  # with one channel it is in both layouts, whatever its strides
    assert first.is_contiguous()
    assert first.is_contiguous(memory_format=CHANNELS_LAST)
    assert {n: t.stride() for n, t in state.items()} == {n: strides[n] for n in state}


def test_weights_come_back_also_after_an_error() -> None:
    net = _made(Flattening)
    with pytest.raises(ZeroDivisionError), laid_out(net, channels_last=True) as lay_out:
        lay_out(digits()[0][:4])
        assert not net.conv2.weight.is_contiguous()  # type: ignore[union-attr, operator]
        1 / 0  # noqa: B018
    assert net.conv2.weight.is_contiguous()  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("method", [None, SparseVD()], ids=["plain", "sparse-vd"])
def test_trying_a_layout_moves_nothing(method: Method | None) -> None:
    """No statistics, no counters, no noise: neither the network's own nor the global generator's."""
    net, x = _made(Flattening), digits()[0][:8]
    if method is not None:
        net = laconic.prepare(net, method, x[:2], data_size=96)
    net.train()
    before = {n: t.clone() for n, t in net.state_dict().items()}
    counted = Hooks.prepared(net).get_state() if method is not None else {}
    state = torch.get_rng_state()
    with laid_out(net, channels_last=True) as lay_out:
        lay_out(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_state(net.state_dict(), before, "moved")
    after = Hooks.prepared(net).get_state() if method is not None else {}
    assert {k: v for k, v in after.items() if k != "noise"} == {
        k: v for k, v in counted.items() if k != "noise"
    }
    for name, bits in counted.get("noise", {}).get("generators", {}).items():
        assert torch.equal(after["noise"]["generators"][name], bits)


def test_four_and_five_dimensions_in_one_network() -> None:
    net = _made(Volume)
    fit(net, _loader(False), FitConfig(epochs=1), Hooks.plain(net))
    assert net.flat.weight.is_contiguous()  # type: ignore[union-attr, operator]


def test_a_network_that_cannot_be_copied_is_trained_as_it_is() -> None:
    net = _made(Flattening)
    net.kept = (k for k in ())  # type: ignore[assignment]
    before = [p.detach().clone() for p in net.parameters()]
    fit(net, _loader(False), FitConfig(epochs=1), Hooks.plain(net))
    assert not any(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_scores_are_those_of_the_plain_layout() -> None:
    net = _made(Viewing)
    assert evaluate(net, _loader(True)) == evaluate(net, _loader(False))


def test_what_no_layout_helps_is_raised() -> None:
    with pytest.raises(DataError, match="shapes cannot be multiplied"):
        evaluate(nn.Sequential(nn.Flatten(), nn.Linear(63, 10)), _loader(True))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(nn.Linear(3, 2), torch.zeros(2, 4))


def test_one_channel_is_laid_out_plainly_too() -> None:
    x = torch.zeros(2, 1, 3, 4).as_strided((2, 1, 3, 4), (12, 1, 4, 1))
    assert x.contiguous().stride() == (12, 1, 4, 1), "torch takes it for plain"
    assert contiguous(x).stride() == (12, 12, 4, 1)


def test_a_network_that_views_is_compressed_from_a_loader_by_pixel(tmp_path: Path) -> None:
    sizes = []
    for by_pixel in (True, False):
        out = tmp_path / str(by_pixel)
        laconic.compress(
            _made(Viewing),
            _loader(by_pixel),
            _loader(by_pixel),
            SparseVD(),
            fit=FitConfig(epochs=2),
            out=out,
        )
        sizes.append((out / "model.lac").read_bytes())
        assert "weights only" not in (out / "record.json").read_text()
    assert sizes[0] == sizes[1]
