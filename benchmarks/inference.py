"""Inference time of a decoded file and of PyTorch eager on the same network, in one process.

The compressed LeNet-5 (random weights of which a share is kept: dense arithmetic does not depend on their
values) goes through a .lac file and ``laconic.runtime``; the peer is the converted module in torch eager
mode. Rounds are interleaved, so that other load affects both alike, and medians are compared. The largest
difference between the two outputs, relative to the largest output, is printed after the ratio.

    python benchmarks/inference.py [--file model.lac] [--batch 1 64] [--rounds 300] [--threads 1]

With ``--file`` the given file of a LeNet-5 is timed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from laconic import pack
from laconic.export.build import build_packed
from laconic.export.restoring import fill
from laconic.runtime import load
from laconic.zoo import LeNet5


def packed_lenet5(kept: float = 0.02) -> bytes:
    """A file of LeNet-5 with a share ``kept`` of its weights, from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    net = LeNet5(generator=generator).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(torch.rand(parameter.shape, generator=generator) < kept)
    return pack.encode(build_packed(net, {}, torch.zeros(1, 1, 28, 28))[0])


def milliseconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def spread(times: list[float]) -> str:
    """Median and the 10th and 90th percentiles."""
    ordered = sorted(times)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return f"{statistics.median(ordered):8.3f} ms ({low:.3f} .. {high:.3f})"


def main() -> None:
    """Print the loading time, and one row per batch size."""
    parser = argparse.ArgumentParser(description="inference time of a file and of torch eager")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = options.file.read_bytes() if options.file else packed_lenet5()
    print(f"{len(data)} bytes, {options.threads} thread(s), medians of {options.rounds} interleaved rounds")
    loads = [milliseconds(lambda: load(data, threads=options.threads)) for _ in range(15)]
    print(f"decode and build                  {spread(loads)}")
    file_network = load(data, threads=options.threads)
    module = LeNet5()
    fill_from(data, module)
    for batch in options.batch:
        x = np.random.default_rng(0).random((batch, 1, 28, 28), dtype=np.float32)
        x_torch = torch.from_numpy(x)
        with torch.inference_mode():
            expected = module(x_torch).numpy()
            gap = float(np.abs(np.asarray(file_network(x)) - expected).max() / np.abs(expected).max())
            calls: list[Callable[[], object]] = [
                lambda x=x: file_network(x),
                lambda x=x_torch: module(x),
            ]
            times = [[milliseconds(call) for call in calls] for _ in range(options.rounds)]
        ours, eager = (list(column) for column in zip(*times, strict=True))
        ratio = statistics.median(eager) / statistics.median(ours)
        print(f"batch {batch:<4} file in ONNX Runtime      {spread(ours)}")
        print(f"batch {batch:<4} module in torch eager     {spread(eager)}   {ratio:.2f}x, gap {gap:.1e}")


def fill_from(data: bytes, module: torch.nn.Module) -> None:
    """Fill the module with the file's weights, and set evaluation mode."""
    fill(pack.decode(data), module)
    module.eval()


if __name__ == "__main__":
    main()
