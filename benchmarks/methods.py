"""Time and memory of a training step under every registered method, over those of a plain step.

A plain step is forward, cross-entropy, backward and Adam, in the faster of torch's two memory layouts. A
method's step uses the public functions, as a loop of one's own does: ``laconic.objective``, backward, Adam on
``laconic.param_groups``, ``laconic.step``; its settings are its defaults. Methods that draw weights have a
row for each way of drawing (``sampling``). "loss + penalty" is a loop that computes its loss itself and adds
``laconic.penalty``.

All rows are measured in one process. In each round every step runs between two plain ones, so that other load
on the machine affects both alike; a round's ratio is the step's time over the mean of the two. The table has
the median of each step's times, and the median and quartiles of the ratios. Times are the process's CPU times
(of all its threads). Memory is what the step holds at its peak: parameters, buffers and Adam's moments, and
what torch allocates on top during a step, as its profiler counts; a library's own scratch memory is not seen.

The goals: no method above 4.0; Sparse VD and VNQ at most 2.2 by default; at most 1.4 where weights are drawn
once a step or by flipout. They hold for processors without AVX-512, as most have none: ``--isa avx2`` starts
the benchmark again with torch, oneDNN, MKL and our own C modules restricted to AVX2.

    python benchmarks/methods.py [--methods vnq l0 ...] [--networks lenet5 resnet20] [--rounds 15]
        [--batch 128] [--threads 1] [--isa avx2]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laconic
from laconic.bayes.kl import mixture_sweep, native
from laconic.bayes.layers import SAMPLINGS
from laconic.methods import Method
from laconic.methods.registry import find_method, method_names
from laconic.sparsify.scores import l2_groups
from laconic.zoo.lenet5 import LeNet5
from laconic.zoo.resnet import ResNet20

DATA_SIZE = 60_000
LR = 1e-3
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet5": (LeNet5, (1, 28, 28)),
    "resnet20": (ResNet20, (3, 32, 32)),
}
NEEDED: dict[str, dict[str, Any]] = {"score": {"score": l2_groups}}  # settings without a default
GOAL, GOAL_CHEAP, GOAL_LOCAL = 4.0, 1.4, {"sparse-vd": 2.2, "vnq": 2.2}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
WARM_UP = 2
MIB = 2.0**20


@dataclass
class Row:
    """A step to be measured, and what was measured of it."""

    name: str
    step: Callable[[], None]
    held: Callable[[], int]
    goal: float | None = None
    times: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def timed(self) -> float:
        """CPU milliseconds of one step."""
        start = time.process_time()
        self.step()
        return 1e3 * (time.process_time() - start)


def held_bytes(net: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of parameters, buffers and the optimiser's state, each tensor once."""
    moments = (t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor))
    tensors = {id(t): t for t in (*net.parameters(), *net.buffers(), *moments)}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _row(
    name: str,
    net: nn.Module,
    groups: Any,
    loss_of: Callable[[], Tensor],
    goal: float | None = None,
    after: Callable[[], None] | None = None,
) -> Row:
    """A row whose step computes a loss, its gradients, Adam's step and what comes after."""
    optimizer = torch.optim.Adam(groups, lr=LR, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()
        if after is not None:
            after()

    return Row(name, step, lambda: held_bytes(net, optimizer), goal)


def plain_row(name: str, net: nn.Module, x: Tensor, y: Tensor, layout: torch.memory_format) -> Row:
    """A step of the network alone."""
    net, x = _laid(net, layout), x.contiguous(memory_format=layout)
    return _row(name, net, net.parameters(), lambda: F.cross_entropy(net(x), y))


def method_row(
    name: str,
    net: nn.Module,
    method: Method,
    x: Tensor,
    y: Tensor,
    goal: float | None = None,
    *,
    objective: bool = True,
) -> Row:
    """A step of a method by the public functions."""
    layout = torch.channels_last
    x = x.contiguous(memory_format=layout)
    net = laconic.prepare(net, method, x[:2], data_size=DATA_SIZE, batches=[(x, y)])
    net = _laid(net, layout)

    def loss_of() -> Tensor:
        if objective:
            return laconic.objective(net, (x, y))
        return F.cross_entropy(net(x), y) + laconic.penalty(net)

    def after() -> None:
        laconic.step(net, terms=None if objective else len(x))

    return _row(name, net, laconic.param_groups(net, LR), loss_of, goal, after)


def _laid(net: nn.Module, layout: torch.memory_format) -> nn.Module:
    return net.to(memory_format=layout).train()  # type: ignore[call-overload,no-any-return]


def rows_of(name: str, make: Callable[[], nn.Module], x: Tensor, y: Tensor) -> Iterator[Row]:
    """The rows of a registered method: one, or one for each way of drawing weights."""
    entry, needed = find_method(name), NEEDED.get(name, {})
    if "sampling" not in entry.fields:
        yield method_row(name, make(), entry.kind(**needed), x, y, GOAL)
        return
    for sampling in SAMPLINGS:
        usual = GOAL_LOCAL.get(name, GOAL)
        goal = {"local": usual, "mixed": usual}.get(sampling, GOAL_CHEAP)
        method = entry.kind(sampling=sampling, **needed)
        yield method_row(f"{name}, {sampling}", make(), method, x, y, goal)
    if name == "sparse-vd":
        yield method_row(
            f"{name}, loss + penalty", make(), entry.kind(**needed), x, y, GOAL_LOCAL[name], objective=False
        )


def measure(rows: list[Row], plain: Row, rounds: int) -> None:
    """Fill each row's times and ratios to the plain steps around it."""
    for index in range(rounds + WARM_UP):
        before = plain.timed()
        for row in rows:
            own, after = row.timed(), plain.timed()
            if index >= WARM_UP:
                row.times.append(own)
                row.ratios.append(2 * own / (before + after))
                plain.times.append(after)
            before = after


def peak_bytes(row: Row) -> int:
    """Bytes that the row's step holds at its peak, gradients of the step before not counted."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            row.step()
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    counts = [e["args"] for e in events if e.get("name") == "[memory]"]
    start = counts[0]["Total Allocated"] - counts[0]["Bytes"]  # what is left of earlier profiles
    return row.held() + max(c["Total Allocated"] for c in counts) - start


def faster(rows: list[Row], rounds: int) -> Row:
    """That of the rows with the least median time."""
    times = {row.name: [row.timed() for _ in range(rounds)] for row in rows}
    return min(rows, key=lambda row: statistics.median(times[row.name]))


def report(network: str, plain: Row, rows: list[Row]) -> None:
    """Print the table of one network."""
    memory = peak_bytes(plain)
    print(f"{network}: {plain.name} step {statistics.median(plain.times):.1f} ms, {memory / MIB:.1f} MiB")
    print(f"{'':2}{'method':40} {'ms':>7} {'ratio':>6} {'quartiles':>12} {'goal':>5} {'MiB':>7} {'ratio':>6}")
    for row in rows:
        low, middle, high = statistics.quantiles(row.ratios, n=4)
        held = peak_bytes(row)
        missed = "" if row.goal is None or middle <= row.goal else "  above the goal"
        print(
            f"{'':2}{row.name:40} {statistics.median(row.times):7.1f} {middle:5.2f}x "
            f"{low:5.2f} - {high:4.2f} {row.goal or '':>5} {held / MIB:7.1f} {held / memory:5.2f}x{missed}"
        )


class UpToAVX2:
    """A compiled module without its code paths for AVX-512."""

    def __init__(self, code: Any) -> None:
        self.sweep = code.sweep
        self._variants = [name for name in code.variants() if name != "avx512"]

    def variants(self) -> list[str]:
        """Names of the code paths, the best last."""
        return self._variants


def restricted(arguments: list[str]) -> None:
    """Restrict the libraries to AVX2, by starting this benchmark again, and then our own modules."""
    if any(os.environ.get(name) != value for name, value in AVX2.items()):
        os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, **AVX2})
    for module in (native, mixture_sweep):
        if (code := module.extension()) is not None:
            module.extension = functools.partial(UpToAVX2, code)


def main() -> None:
    parser = argparse.ArgumentParser(description="time and memory of a method's step over a plain step's")
    parser.add_argument("--methods", nargs="+", choices=method_names(), default=method_names())
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--isa", choices=("native", "avx2"), default="native")
    options = parser.parse_args()
    if options.isa == "avx2":
        restricted(sys.argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"batch {options.batch}, {options.threads} thread(s), {options.rounds} rounds")
    print(f"torch's kernels: {torch.backends.cpu.get_cpu_capability()}")
    for network in options.networks:
        make, shape = NETWORKS[network]
        x, y = torch.randn(options.batch, *shape), torch.randint(10, (options.batch,))
        layouts = {"plain": torch.contiguous_format, "plain (channels last)": torch.channels_last}
        plain = faster([plain_row(name, make(), x, y, layout) for name, layout in layouts.items()], 5)
        rows = [row for name in options.methods for row in rows_of(name, make, x, y)]
        measure(rows, plain, options.rounds)
        report(network, plain, rows)


if __name__ == "__main__":
    main()
