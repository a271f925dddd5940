"""Every weight is visited once, in order, with the inputs that the changed layers before it give."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from laconic.errors import NonFiniteError
from laconic.methods.layerwise import moments, visiting
from laconic.methods.layerwise.visiting import Visit, uses_of, visited
from laconic.networks.reads import Read, names_of, reads_of
from laconic.networks.watching import Call

G = torch.Generator().manual_seed(1)


class Sequence(nn.Module):
    """An embedding tied to the last layer, a bidirectional LSTM, attention, and a cell unrolled over time."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 4, 2, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.cell = nn.GRUCell(8, 6)
        self.out = nn.Linear(6, 11)
        self.out.weight = self.embed.weight
        self.never = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(self.embed(x))
        h, _ = self.attention(h, h, h)
        state = h.new_zeros(len(x), 6)
        for t in range(h.shape[1]):
            state = self.cell(h[:, t], state)
        return self.out(state)


def _visits(net: nn.Module, batches: list[Tensor], factor: float) -> dict[str, Visit]:
    """Visit all weights of a network, and scale each as its turn comes."""
    changed, names = copy.deepcopy(net), [n for n, p in net.named_parameters() if p.ndim > 1]
    found = {}
    for visit in visited(net, changed, batches, uses_of(net, batches[0]), names):
        assert visit.name not in found
        found[visit.name] = visit
        with torch.no_grad():
            changed.get_parameter(visit.name).mul_(factor)
    return found


def test_every_kind_of_layer_is_visited_in_order_with_its_bias() -> None:
    torch.manual_seed(0)
    net = Sequence().eval()
    batches = [torch.randint(11, (3, 5), generator=G), torch.randint(11, (2, 4), generator=G)]
    found = _visits(net, batches, 1.0)
    assert list(found)[0] == "embed.weight"  # it serves as an embedding, too, before its own turn
    assert list(found)[1:4] == ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.weight_ih_l0_reverse"]
    assert list(found)[-2:] == ["cell.weight_ih", "cell.weight_hh"]
    assert "never.weight" not in found
    biases = {name: visit.bias for name, visit in found.items()}
    assert biases["lstm.weight_hh_l1_reverse"] == "lstm.bias_hh_l1_reverse"
    assert biases["attention.in_proj_weight"] == "attention.in_proj_bias"
    assert biases["attention.out_proj.weight"] == "attention.out_proj.bias"
    assert (biases["cell.weight_ih"], biases["embed.weight"]) == ("cell.bias_ih", "out.bias")
    assert found["lstm.weight_ih_l0"].moments.count == 3 * 5 + 2 * 4
    assert found["cell.weight_hh"].moments.count == 3 * 5 + 2 * 4  # all uses of both batches
    for visit in found.values():
        assert torch.equal(visit.moments.own, visit.moments.cross)
        energy = visit.moments.own.diagonal(dim1=1, dim2=2)[:, :-1].sum(1)
        assert torch.allclose(visit.moments.energy, energy, rtol=1e-4)


def test_moments_are_those_of_the_changed_layers_before_it() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    batches = [torch.randn(5, 1, 3, 3, generator=G), torch.randn(2, 1, 3, 3, generator=G)]
    last = _visits(net, batches, 0.5)["3.weight"].moments
    with torch.no_grad():
        first = nn.Sequential(*net[:3])
        x = first(torch.cat(batches))
        net[0].weight.mul_(0.5)
        y = first(torch.cat(batches))
    ones = torch.ones(7, 1)
    x, y = (torch.cat([z, ones], 1).double() for z in (x, y))
    assert float(last.energy) == pytest.approx(float(x[:, :-1].square().sum()) / 7, rel=1e-5)
    assert torch.allclose(last.cross[0], x.T @ y / 7, atol=1e-6)
    assert torch.allclose(last.own[0], y.T @ y / 7, atol=1e-6)


class Counted(nn.Conv2d):
    """Counts the examples that it has seen."""

    seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return super().forward(x)


def test_few_batches_are_begun_for_large_feature_maps_and_all_are_used_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(visiting, "SPREAD", 2)
    monkeypatch.setattr(moments, "LEAST_ROWS", 90)
    monkeypatch.setattr(moments, "ROWS_FOR_EACH", 1)
    layers = Counted(1, 2, 3, padding=1), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(2, 3)
    net = nn.Sequential(*layers).eval()
    batches = [torch.randn(2, 1, 8, 8, generator=G) for _ in range(5)]
    changed = copy.deepcopy(net)
    begun, found = [], {}
    for visit in visited(net, changed, batches, uses_of(net, batches[0]), ["0.weight", "4.weight"]):
        found[visit.name] = visit.moments
        begun.append(net[0].seen)
        with torch.no_grad():
            changed.get_parameter(visit.name).mul_(0.5)
    # One call to see how weights are used, and two begun: of 256 positions, 180 are enough to draw 90 from.
    assert begun == [2 + 4, 2 + 10]
    assert found["0.weight"].count == 90
    with torch.no_grad():
        x, y = (n[:4](torch.cat(batches)) for n in (net, changed))
    assert found["4.weight"].count == 10
    assert torch.allclose(found["4.weight"].cross[0, :2, :2], (x.T @ y / 10).double(), atol=1e-6)
    assert torch.allclose(found["4.weight"].own[0, :2, :2], (y.T @ y / 10).double(), atol=1e-6)


def test_rows_of_many_calls_are_put_together_before_they_are_multiplied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = nn.Conv2d(4, 4, 3, groups=4)
    inputs = [torch.randn(n, 4, 5, 6, generator=G) for n in (1, 3, 2)]
    calls = [Call(nn.functional.conv2d, (x, layer.weight, None, 1, 0, 1, 4), {}) for x in inputs]
    reads = [reads_of(call, names_of(layer))[0] for call in calls]
    products: list[int] = []
    product = moments._product

    def counted(a: Tensor, b: Tensor) -> Tensor:
        products.append(a.shape[1])
        return product(a, b)

    monkeypatch.setattr(moments, "_product", counted)
    whole = moments.read_moments("w", [(read, read) for read in reads])
    assert products == [6 * 12]
    monkeypatch.setattr(moments, "AT_ONCE", 10 * 4 * 9)  # ten rows
    parts = moments.read_moments("w", [(read, read) for read in reads])
    assert max(products[1:]) == 10 and sum(products[1:]) == 6 * 12
    assert whole.count == parts.count == 6 * 12 and whole.blocks == 4
    assert torch.allclose(whole.own, parts.own, atol=1e-6) and torch.allclose(whole.energy, parts.energy)
    patches = torch.cat([torch.stack(read.patches()) for read in reads], 1).double()
    assert torch.allclose(whole.own[:, :9, :9], patches.transpose(1, 2) @ patches / 72, atol=1e-5)


def test_each_call_gives_its_share_of_the_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "LEAST_ROWS", 100)
    monkeypatch.setattr(moments, "ROWS_FOR_EACH", 1)
    layer = nn.Conv2d(1, 1, 1)
    calls = [Call(nn.functional.conv2d, (torch.full((1, 1, 20, n), 1.0), layer.weight), {}) for n in (20, 60)]
    drawn: list[int] = []
    pairs = []
    for call in calls:
        (read,) = reads_of(call, names_of(layer))

        def counted(chosen: Tensor, stacked: Callable[..., Tensor] = read.stacked) -> Tensor:
            drawn.append(len(chosen))
            return stacked(chosen)

        pairs.append((dataclasses.replace(read, stacked=counted),) * 2)
    assert moments.read_moments("w", pairs).count == 100
    assert drawn == [25, 25, 75, 75]
    drawn.clear()
    assert moments.read_moments("w", pairs, calls=2).count == 100
    assert drawn == [50] * 4


def test_what_the_network_raises_comes_out_and_no_thread_is_left() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 1))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(
            visited(
                net, copy.deepcopy(net), [torch.ones(1, 2)], uses_of(net[:1], torch.ones(1, 2)), ["1.weight"]
            )
        )


def test_inputs_that_are_no_numbers_are_refused_by_name() -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(NonFiniteError, match="the inputs of 'weight' hold NaN"):
        _visits(net, [torch.tensor([[1.0, float("nan")]])], 1.0)


def test_many_positions_are_thinned_alike_in_both_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "LEAST_ROWS", 500)
    built: list[int] = []
    x = torch.randn(1, 3, 150, 140, generator=G)
    layer = nn.Conv2d(3, 1, 1)

    def read(inputs: Tensor) -> Read:
        (found,) = reads_of(Call(nn.functional.conv2d, (inputs, layer.weight), {}), names_of(layer))

        def stacked(chosen: Tensor | None = None) -> Tensor:
            rows = found.stacked(chosen)
            built.append(rows.shape[1])
            return rows

        return dataclasses.replace(found, stacked=stacked)

    found = moments.read_moments("w", [(read(x), read(2 * x))])
    assert found.count == 500
    assert built == [500, 500]
    assert torch.allclose(found.own[0, :3, :3], 2 * found.cross[0, :3, :3])
    assert torch.allclose(found.own[0, :3, :3], 4 * torch.eye(3).double(), atol=1.0)
    assert torch.allclose(found.own[0, 3, :3], 2 * found.cross[0, :3, 3])
    assert found.own[0, 3, 3] == found.cross[0, 3, 3] == 1.0
    assert torch.allclose(found.energy, found.own[0, :3, :3].trace() / 4)
