"""Folded batch norms compute the same; where folding would not, nothing is folded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from laconic.networks.norm_folding import fold_batch_norms


def _trained(net: nn.Module, *shape: int) -> nn.Module:
    """The network with running statistics and affine parameters unlike those that it starts with."""
    generator = torch.Generator().manual_seed(0)
    for part in net.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.affine:
            nn.init.uniform_(part.weight, 0.5, 2.0, generator=generator)
            nn.init.normal_(part.bias, generator=generator)
    for _ in range(3):
        net.train()(torch.randn(8, *shape, generator=generator))
    return net.eval()


@pytest.mark.parametrize(
    ("net", "shape", "names"),
    [
        (nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6)), (4, 5, 5), ("1",)),
        (
            nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU()),
            (4, 5, 5),
            ("1",),
        ),
        (nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3, affine=False)), (2, 6), ("1",)),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)), (4,), ("1",)),
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)), (1, 3, 3), ()),
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)), (1, 3, 3), ()),
    ],
)
def test_the_folded_network_computes_the_same(
    net: nn.Module, shape: tuple[int, ...], names: tuple[str, ...]
) -> None:
    net = _trained(net, *shape)
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded, found = fold_batch_norms(net, x[:2])
    assert found == names
    assert torch.allclose(folded(x), net(x), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Shared(nn.Module):
    """The convolution's result is read twice: by the norm, and by the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.norm(y)


class Twice(nn.Module):
    """One convolution with a norm of its own at each of its two uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.conv(self.a(self.conv(x)).relu_()))


class Asked(nn.Module):
    """The forward asks the norm for more than its result."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) * self.norm.weight.mean()


class AskedForEps(Asked):
    """The same for what is no tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) * self.norm.eps


@pytest.mark.parametrize("kind", [Shared, Twice, Asked, AskedForEps])
def test_what_another_reads_too_is_left(kind: type[nn.Module]) -> None:
    net = _trained(kind(), 2, 3, 3)
    folded, found = fold_batch_norms(net, torch.randn(2, 2, 3, 3))
    assert found == ()
    assert list(folded.state_dict()) == list(net.state_dict())
