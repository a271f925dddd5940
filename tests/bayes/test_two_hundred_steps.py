"""A ResNet with batch norm, a depthwise network and an LSTM train 200 steps without a NaN."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.bayes.kl import kl_divergence
from laconic.bayes.non_finite import check_loss
from laconic.bayes.objective import Objective
from laconic.bayes.posteriors import GaussianFamily
from laconic.bayes.prepare import make_bayesian, posteriors_of
from laconic.bayes.priors import LogUniform, Spikes
from laconic.networks.noise import NoiseSource
from laconic.schedules import WarmUp


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        conv = lambda: nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv1, self.bn1, self.conv2, self.bn2 = (
            conv(),
            nn.BatchNorm2d(channels),
            conv(),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def resnet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        Residual(6),
        nn.MaxPool2d(2),
        Residual(6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


def depthwise():
    def block(inputs, outputs):
        return [
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU6(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]

    return nn.Sequential(
        *block(1, 8), *block(8, 12), nn.Hardswish(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 4)
    )


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 4)

    def forward(self, x):
        return self.out(self.lstm(x.flatten(0, 1))[0][:, -1])


@pytest.mark.parametrize("make", [resnet, depthwise, Reader])
@pytest.mark.parametrize("prior", [LogUniform(), Spikes((-0.2, 0.0, 0.2))])
def test_no_nan(make, prior):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 1, 8, 8, generator=generator)
    labels = torch.randint(4, (320,), generator=generator)
    images = centres[labels] + 0.5 * torch.randn(320, 1, 8, 8, generator=generator)
    images[::7] = 0.0  # dead inputs: the variance path's square root at zero
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = make_bayesian(make(), example=images[:2], posterior=GaussianFamily(-6.0), noise=NoiseSource(0))
    noise = [q.log_var for q in posteriors_of(net).values()]
    apart = {id(p) for p in noise}
    means = [p for p in net.parameters() if id(p) not in apart]
    optimizer = torch.optim.Adam([{"params": means}, {"params": noise, "lr": 3e-2}], lr=3e-3)
    objective, first = Objective(320, warm_up=WarmUp(20, 100)), None
    for step in range(200):
        batch = slice(16 * step % 320, 16 * step % 320 + 16)
        kl = torch.stack([kl_divergence(q, prior).sum() for q in posteriors_of(net).values()]).sum()
        nll = F.cross_entropy(net(images[batch]), labels[batch], reduction="none")
        loss = objective.loss(nll, kl, step)
        optimizer.zero_grad()
        loss.backward()
        check_loss(loss, net, (images[batch],), step=step)
        optimizer.step()
        first = nll.mean().item() if first is None else first
    assert all(p.isfinite().all() for p in net.parameters())
    accuracy = (net.eval()(images).argmax(1) == labels).float().mean().item()
    assert accuracy > 0.6, (first, accuracy)
