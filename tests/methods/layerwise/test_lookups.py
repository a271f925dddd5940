"""Rows of a table count by how often calibration looks them up; unseen rows keep half of an even share."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laconic
from laconic.methods import PostTraining
from laconic.methods.layerwise.deciding import Settings, decide_unread
from laconic.methods.layerwise.lookups import lookup_weights
from laconic.pack import coded_bytes
from laconic.quantize.second_order import SecondOrder


class Tables(nn.Module):
    """Every way to take rows of a table; ``other`` is only added, and ``never`` not used at all."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("words", "bags", "picked", "sliced", "one", "indexed", "other", "never"):
            self.register_parameter(name, nn.Parameter(torch.ones(4, 3)))

    def forward(self, ids: Tensor) -> Tensor:
        found = F.embedding(ids, self.words) + F.embedding_bag(ids, self.bags)[:, None]
        found = found + torch.index_select(self.picked, 0, ids[0]) + self.sliced[: ids.shape[1]]
        return found + self.one[2] + self.indexed[ids, :] + self.other.sum(0)


def test_every_kind_of_lookup_is_counted() -> None:
    net = Tables().eval()
    inputs = [torch.tensor([[0, 0], [0, 3]]), torch.tensor([[1, 0]])]
    found = lookup_weights(net, [n for n, _ in net.named_parameters()], inputs)
    assert "other" not in found and "never" not in found

    def expected(*counts: float) -> Tensor:
        return 0.5 + 0.5 * 4 * torch.tensor(counts).double() / sum(counts)

    assert torch.allclose(found["words"], expected(4, 1, 0, 1))
    assert torch.allclose(found["bags"], expected(4, 1, 0, 1))
    assert torch.allclose(found["indexed"], expected(4, 1, 0, 1))
    assert torch.allclose(found["picked"], expected(3, 1, 0, 0))
    assert torch.allclose(found["sliced"], expected(2, 2, 0, 0))
    assert torch.allclose(found["one"], expected(0, 0, 2, 0))


def test_rows_that_are_used_often_are_stored_more_exactly() -> None:
    weight = torch.randn(400, 128, generator=torch.Generator().manual_seed(0))
    relative = torch.cat([torch.full((40,), 5.5), torch.full((360,), 0.5)])
    settings = Settings(1e-5, SecondOrder())
    even, uneven = (decide_unread("w", weight, 400.0, settings, rows) for rows in (None, relative))
    errors = [(torch.from_numpy(d.weight.values()) - weight).square().mean(1) for d in (even, uneven)]
    often, seldom = (errors[1][:40].mean() / errors[0][:40].mean(), errors[1][40:].mean() / errors[0].mean())
    assert often == pytest.approx(1 / 5.5, rel=0.25) and seldom == pytest.approx(2.0, rel=0.25)
    expected = [float((relative * each).mean()) for each in errors]
    assert coded_bytes(uneven.weight) < 0.97 * coded_bytes(even.weight) and expected[1] < 1.02 * expected[0]


def test_short_rows_share_a_step() -> None:
    weight = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    found = decide_unread("w", weight, 1.0, Settings(1e-5, SecondOrder()), torch.linspace(0.5, 1.5, 50))
    assert found.weight.grid.axis is None


def test_the_file_of_a_network_with_a_table_knows_its_frequent_rows() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = nn.Embedding(300, 128), nn.Linear(128, 5)

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(self.words(ids).mean(1))

    torch.manual_seed(0)
    net, ids = Bag().eval(), torch.randint(0, 30, (96, 6), generator=torch.Generator().manual_seed(1))
    prepared = laconic.prepare(net, PostTraining(trials=1), ids[:2], data_size=96, batches=[ids])
    steps = laconic.convert(prepared).tensors["words.weight"].grid.numbers
    assert len(steps) == 300 and max(steps[:30]) < min(steps[30:])
