"""The Fisher information of a decision: from several calls, and from few examples of large inputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from laconic.methods.layerwise import sensitivity
from laconic.methods.layerwise.sensitivity import Sensitivities, fisher_sensitivities
from laconic.tasks import Classification


def _network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(64, 3)).eval()


def _found(inputs: list[Tensor], most: int = 256, seed: int = 0) -> Sensitivities:
    net = _network()
    names = [name for name, p in net.named_parameters() if p.ndim > 1]
    found = fisher_sensitivities(net, names, inputs, Classification(), seed, 1.0, most)
    assert found is not None
    return found


def _apart(one: Sensitivities, other: Sensitivities) -> float:
    """The largest deviation of a row's share from the other's, relative to their mean."""
    shares = [torch.cat([r.flatten() / r.mean() for r in found.rows.values()]) for found in (one, other)]
    return float((shares[0] - shares[1]).abs().max())


def test_examples_come_from_all_calls_until_they_are_enough() -> None:
    x = torch.randn(12, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    one, apart = _found([x]), _found(list(x.split(4)))
    assert _apart(one, apart) < 1e-4  # the same pieces of four, in the same order
    assert all(one.whole[name] == pytest.approx(apart.whole[name], rel=1e-4) for name in one.whole)
    few = _found(list(x.split(4)), most=6)
    assert few.whole == pytest.approx(_found([x[:4], x[4:6]]).whole, rel=1e-6)


def test_of_large_inputs_few_examples_are_used_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(400, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    batches = list(x.split(50))
    whole = _found(batches, most=400)
    monkeypatch.setattr(sensitivity, "INPUT_BYTES", 4 * batches[0].nbytes - 1)
    seen: list[int] = []
    first = sensitivity._first

    def counted(*args: object) -> tuple[list[Tensor], bool]:
        few, all_used = first(*args)  # type: ignore[arg-type]
        seen.append(sum(len(part) for part in few))
        assert not all_used
        return few, all_used

    monkeypatch.setattr(sensitivity, "_first", counted)
    few = _found(batches, most=400)
    assert seen == [200]
    for name in whole.whole:
        assert few.whole[name] == pytest.approx(whole.whole[name], rel=0.35)
    assert _apart(few, whole) < 0.6


def test_positions_of_a_feature_map_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(64, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    whole = _found([x])
    monkeypatch.setattr(sensitivity, "POSITIONS", 300)
    thinned = _found([x])
    assert thinned.whole == whole.whole
    assert 0 < _apart(thinned, whole) < 0.2  # rows of a block share what they read
