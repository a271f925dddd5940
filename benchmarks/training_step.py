"""Time of a variational training step over that of a plain step, in one process.

A variational step is forward with local reparameterisation, the KL, backward and Adam on means and log
variances; a plain step is forward, backward and Adam. Rounds of all variants are interleaved, so that other
load on the machine affects all alike; medians and minima are compared. The goal is a ratio of at most 2.5
against the *faster* memory layout of the plain step; twice the multiplications would give a ratio of 2.
"mixed" draws a convolution's weights once per step in place of its pre-activations, "weights" those of all
layers. Both steps of a ratio have the same Adam: torch's fused one, as the fit loop uses, or torch's default.

The last two variants use the public functions: a loop that computes its loss itself and adds
``laconic.penalty``, and one that calls ``laconic.objective``, which also splits the batch, checks it and
counts its terms. The goal for the second is 1.01 times the first.

    python benchmarks/training_step.py [--rounds 15] [--threads 1] [--batch 128] [--adam fused|default]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.bayes.kl import kl_total
from laconic.bayes.layers import Sampling
from laconic.bayes.posteriors import GaussianFamily
from laconic.bayes.prepare import make_bayesian, posteriors_of
from laconic.bayes.priors import LogUniform, Spikes
from laconic.methods import SparseVD
from laconic.networks.noise import NoiseSource
from laconic.zoo.lenet5 import LeNet5
from laconic.zoo.resnet import ResNet20

GOAL = 2.5
DATA_SIZE = 60_000
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "LeNet-5-Caffe": (LeNet5, (1, 28, 28)),
    "ResNet-20": (ResNet20, (3, 32, 32)),
}
Prior = LogUniform | Spikes
Step = Callable[[], None]


def make_step(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    layout: torch.memory_format,
    prior: Prior | None,
    fused: bool,
) -> Step:
    """One training step as a function without arguments; a plain step if ``prior`` is None."""
    net = net.to(memory_format=layout).train()  # type: ignore[call-overload]
    x = x.contiguous(memory_format=layout)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused or None)

    def step() -> None:
        loss = F.cross_entropy(net(x), y)
        if prior is not None:
            loss = (
                loss
                + torch.stack([kl_total(q, prior) for q in posteriors_of(net).values()]).sum() / DATA_SIZE
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def by_verbs(
    make: Callable[[], nn.Module], x: torch.Tensor, y: torch.Tensor, fused: bool, *, objective: bool
) -> Step:
    """One training step of Sparse VD with the public functions."""
    net = laconic.prepare(make(), SparseVD(), x[:2], data_size=DATA_SIZE)
    net = net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(laconic.param_groups(net, 1e-3), fused=fused)

    def loss_of() -> torch.Tensor:
        if objective:
            return laconic.objective(net, (x, y))
        return F.cross_entropy(net(x), y) + laconic.penalty(net)

    def step() -> None:
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        laconic.step(net, terms=None if objective else len(x))

    return step


def variants(
    make: Callable[[], nn.Module], shape: tuple[int, ...], batch: int, fused: bool = True
) -> dict[str, Step]:
    """Plain steps in both layouts, and variational steps under two priors, on equal data."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *shape, generator=generator)
    y = torch.randint(10, (batch,), generator=generator)

    def bayesian(sampling: Sampling = "local") -> nn.Module:
        return make_bayesian(
            make(), example=x[:2], posterior=GaussianFamily(-8.0), noise=NoiseSource(0), sampling=sampling
        )

    def step(net: nn.Module, prior: Prior | None, layout: torch.memory_format = torch.channels_last) -> Step:
        return make_step(net, x, y, layout, prior, fused)

    return {
        "plain, contiguous": step(make(), None, torch.contiguous_format),
        "plain, channels last": step(make(), None),
        "variational, log-uniform": step(bayesian(), LogUniform()),
        "variational, three spikes": step(bayesian(), Spikes((-0.2, 0.0, 0.2))),
        "log-uniform, mixed": step(bayesian("mixed"), LogUniform()),
        "log-uniform, weights": step(bayesian("weights"), LogUniform()),
        "loss + laconic.penalty": by_verbs(make, x, y, fused, objective=False),
        "laconic.objective": by_verbs(make, x, y, fused, objective=True),
    }


def measure(steps: dict[str, Step], rounds: int) -> dict[str, tuple[float, float]]:
    """Median and least milliseconds of each, after two rounds to warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if index >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: (statistics.median(values), min(values)) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="time of a variational step over that of a plain step")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--adam", choices=("fused", "default"), default="fused")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"batch {options.batch}, {options.threads} thread(s), {options.rounds} interleaved rounds")
    print(f"Adam: {options.adam}; median and least time of a step, and their ratios (goal <= {GOAL})")
    for network, (make, shape) in NETWORKS.items():
        times = measure(variants(make, shape, options.batch, options.adam == "fused"), options.rounds)
        plain = {n: t for n, t in times.items() if n.startswith("plain")}
        fastest = [min(values) for values in zip(*plain.values(), strict=True)]
        for name, (median, least) in times.items():
            over = "" if name in plain else f"   {median / fastest[0]:4.2f}x {least / fastest[1]:4.2f}x"
            print(f"{network:14} {name:26} {median:8.1f} {least:8.1f} ms{over}")


if __name__ == "__main__":
    main()
