"""Inference time and error of the same file in float32 and in int8: one process and thread, interleaved.

LeNet-5 and ResNet-20 with random weights (dense arithmetic does not depend on their values), calibrated on
random images. Per batch size: medians with 10th and 90th percentiles, and the ratio of medians. With
``--weights``, the state dict of a trained LeNet-5, the test error on MNIST follows: in float32, the runtime's
int8, and emulated device arithmetic.

With ``--file``, calibrated .lac files, and ``--data``, one .npz with inputs ``x`` and labels ``y`` for each,
those are compared instead, without PyTorch: the error in float32, in int8 and in the integer emulation, how
many predictions differ, times, and the precision that ``load`` chooses. In an emulator of another processor
``--rounds 0`` omits the times, which are meaningless there.

    python benchmarks/int8.py [--batch 1 64] [--rounds 200] [--weights lenet5.pt]
    python benchmarks/int8.py --file resnet20.lac dscnn.lac --data cifar10.npz speech.npz [--count 1000]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from laconic import pack
from laconic.records import AnyArray, PackedModel
from laconic.runtime import Int8, Int16x8, Network, calibrate, emulate, load
from laconic.runtime.engines.cpu import int8_saturates, processor
from laconic.runtime.precision import with_precision

if TYPE_CHECKING:
    from torch import nn

Runs = Callable[[AnyArray], object]


def calibrated(module: nn.Module, x: AnyArray) -> tuple[PackedModel, PackedModel]:
    """A module's records without activation ranges and with them."""
    import torch

    from laconic.export import build_packed

    plain = build_packed(module.eval(), {}, torch.from_numpy(x[:2]))[0]
    return plain, calibrate(plain, [(x,)])


def microseconds(call: Runs, x: AnyArray) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call(x)
    return 1e6 * (time.perf_counter() - start)


def spread(times: list[float]) -> str:
    """Median and the 10th and 90th percentiles."""
    ordered = sorted(times)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return f"{statistics.median(ordered):9.1f} us ({low:.1f} .. {high:.1f})"


def compare(name: str, module: nn.Module, shape: tuple[int, ...], batches: list[int], rounds: int) -> None:
    """Time the module with random weights on random images."""
    images = np.random.default_rng(0).random((64, *shape), dtype=np.float32)
    plain, ready = calibrated(module, images)
    networks = [Network.from_packed(m, threads=1) for m in (plain, ready)]
    print(f"{name}: weights in memory {networks[0].nbytes} bytes in float32, {networks[1].nbytes} in int8")
    times_of(networks, shape, batches, rounds)


def times_of(networks: list[Network], shape: tuple[int, ...], batches: list[int], rounds: int) -> None:
    """One row per batch size: float32, int8."""
    for batch in batches:
        x = np.random.default_rng(1).random((batch, *shape), dtype=np.float32)
        for net in networks:
            net(x)
        count = max(20, rounds // (1 + batch // 16))
        times = [[microseconds(net, x) for net in networks] for _ in range(count)]
        fp32, int8 = (list(column) for column in zip(*times, strict=True))
        ratio = statistics.median(fp32) / statistics.median(int8)
        print(f"  batch {batch:<4} float32 {spread(fp32)}   int8 {spread(int8)}   {ratio:.2f}x")


def errors(weights: Path) -> None:
    """MNIST's test error of a trained LeNet-5 in every arithmetic."""
    import torch

    from laconic.data import load as load_data
    from laconic.data.images import as_input
    from laconic.zoo import LeNet5

    data = load_data("mnist")
    train, test = (as_input(part, data.scale) for part in (data.train_images[:1024], data.test_images))
    module = LeNet5()
    module.load_state_dict(torch.load(weights, weights_only=True))
    plain, ready = calibrated(module, train)
    runs: dict[str, Runs] = {
        "float32": Network.from_packed(plain, threads=1),
        "int8, the runtime's": Network.from_packed(ready, threads=1),
        "int8, emulated": emulate(ready, Int8()),
        "int8, emulated, one rounding": emulate(ready, Int8(single_rounding=True)),
        "int16 x int8, emulated": emulate(ready, Int16x8()),
    }
    for name, run in runs.items():
        start, wrong = time.perf_counter(), 0
        for at in range(0, len(test), 500):
            logits = np.asarray(run(test[at : at + 500]))
            wrong += int((logits.argmax(1) != data.test_labels[at : at + 500]).sum())
        taken = time.perf_counter() - start
        print(f"  {name:<30} {100 * wrong / len(test):.2f} % wrong ({wrong})   {taken:.1f} s")


def decisions(run: Runs, x: AnyArray) -> AnyArray:
    """The class of each input."""
    return np.concatenate([np.asarray(run(x[k : k + 250])).argmax(-1) for k in range(0, len(x), 250)])


def compare_file(path: Path, data: Path, options: argparse.Namespace) -> None:
    """Errors, differing predictions and times of one calibrated file."""
    with np.load(data) as held:
        x, y = held["x"][: options.count], held["y"][: options.count]
    ready = pack.read(path)
    networks = [Network.from_packed(m, threads=1) for m in (with_precision(ready, "fp32"), ready)]
    made = [decisions(run, x) for run in (*networks, emulate(ready))]
    print(f"{path.name}, {len(x)} inputs")
    for name, found in zip(("float32", "int8", "int8, emulated"), made, strict=True):
        wrong = int((found != y).sum())
        print(f"  {name:<15} {100 * wrong / len(y):.2f} % wrong ({wrong})")
    apart = [int((made[1] != other).sum()) for other in (made[0], made[2])]
    print(f"  int8 predictions that differ from float32: {apart[0]}, from the emulation: {apart[1]}")
    if options.rounds:
        times_of(networks, x.shape[1:], options.batch, options.rounds)
        for batch in options.batch:
            print(f"  load(batch={batch}) took {load(path, threads=1, batch=batch).notes[0]}")


def compare_random(options: argparse.Namespace) -> None:
    """LeNet-5 and ResNet-20 with random weights."""
    import torch

    from laconic.zoo import LeNet5, ResNet20

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    compare("LeNet-5", LeNet5(generator=generator), (1, 28, 28), options.batch, options.rounds)
    compare("ResNet-20", ResNet20(generator=generator), (3, 32, 32), options.batch, options.rounds)
    if options.weights is not None:
        print("LeNet-5 on the MNIST test set, calibrated on 1,024 training images")
        errors(options.weights)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="float32 and int8 of the same file, side by side")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--weights", type=Path, help="state dict of a trained LeNet-5")
    parser.add_argument("--file", type=Path, nargs="+", default=[], help="calibrated .lac files")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="a .npz (x, y) for each file")
    parser.add_argument("--count", type=int, help="inputs of each data file that are used")
    options = parser.parse_args()
    cut = "saturated at 16 bits, so weights become uint8" if int8_saturates() else "exact"
    print(f"{processor()}; sums of int8 products are {cut}")
    if not options.file:
        compare_random(options)
    for path, data in zip(options.file, options.data, strict=True):
        compare_file(path, data, options)


if __name__ == "__main__":
    main()
