"""How much does a variational training step cost? Its time over a plain step's, in one process.

A variational step is forward with local reparameterisation, the KL, backward and Adam on means and log
variances; a plain step is forward, backward and Adam. Rounds of all variants are interleaved, so that other
load on the machine falls on each alike, and medians are compared. The goal is a ratio of at most 2.5 against
the *faster* memory layout of the plain step; arithmetic says 2, for twice the multiplications. "mixed" draws
a convolution's weights once a step in place of its pre-activations, "weights" every layer's.

    python benchmarks/training_step.py [--rounds 15] [--threads 1] [--batch 128]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from laconic.bayes.kl import kl_divergence
from laconic.bayes.layers import Sampling
from laconic.bayes.posteriors import Gaussian
from laconic.bayes.prepare import make_bayesian, posteriors_of
from laconic.bayes.priors import LogUniform, Spikes
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
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, layout: torch.memory_format, prior: Prior | None
) -> Step:
    """One training step as a function of nothing; ``prior`` None makes it a plain one."""
    net = net.to(memory_format=layout).train()  # type: ignore[call-overload]
    x = x.contiguous(memory_format=layout)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def kl(q: Gaussian) -> torch.Tensor:
        return kl_divergence(q, prior).sum()

    def step() -> None:
        loss = F.cross_entropy(net(x), y)
        if prior is not None:
            loss = loss + torch.stack([kl(q) for q in posteriors_of(net).values()]).sum() / DATA_SIZE
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def variants(make: Callable[[], nn.Module], shape: tuple[int, ...], batch: int) -> dict[str, Step]:
    """Plain steps in both layouts, and variational steps under two priors, on equal data."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *shape, generator=generator)
    y = torch.randint(10, (batch,), generator=generator)

    def bayesian(sampling: Sampling = "local") -> nn.Module:
        return make_bayesian(
            make(), example=x[:2], init_log_var=-8.0, noise=NoiseSource(0), sampling=sampling
        )

    pixels = torch.channels_last
    return {
        "plain, contiguous": make_step(make(), x, y, torch.contiguous_format, None),
        "plain, channels last": make_step(make(), x, y, pixels, None),
        "variational, log-uniform": make_step(bayesian(), x, y, pixels, LogUniform()),
        "variational, three spikes": make_step(bayesian(), x, y, pixels, Spikes((-0.2, 0.0, 0.2))),
        "log-uniform, mixed": make_step(bayesian("mixed"), x, y, pixels, LogUniform()),
        "log-uniform, weights": make_step(bayesian("weights"), x, y, pixels, LogUniform()),
    }


def measure(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, after two rounds to warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if index >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="time of a variational step over a plain step")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"batch {options.batch}, {options.threads} thread(s), medians of {options.rounds} interleaved rounds"
    )
    for network, (make, shape) in NETWORKS.items():
        medians = measure(variants(make, shape, options.batch), options.rounds)
        plain = min(ms for name, ms in medians.items() if name.startswith("plain"))
        for name, ms in medians.items():
            ratio = "" if name.startswith("plain") else f"   {ms / plain:4.2f}x plain (goal <= {GOAL}x)"
            print(f"{network:14} {name:26} {ms:8.1f} ms{ratio}")


if __name__ == "__main__":
    main()
