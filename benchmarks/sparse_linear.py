"""A 4096x4096 linear layer that is mostly zero, or ternary: our implementations and others, in one process.

Rows are interleaved in rounds, so that other load on the machine affects all alike; medians are compared. In
the "cold" rows each call uses another copy of the weights, as in a network with many layers, so that they are
not in the cache: at least 320 MB of copies of each kind (fewer where memory is short, as printed). Peers:
torch dense float32, torch CSR with 32-bit indices (``W @ x``), ONNX Runtime dynamic int8, 4-bit and 2-bit
MatMulNBits.

    python benchmarks/sparse_linear.py [--rounds 60] [--size 4096] [--only batch1|batch128|ternary]
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from laconic.records import AnyArray, FloatArray, IntTensor, RawTensor, Tensor, UniformGrid
from laconic.runtime.engines.few_bits import PackedImplementation
from laconic.runtime.engines.measure import layer_call
from laconic.runtime.kernels import SparseMatrix, TwoBitMatrix, compact, two_bits

COLD_BYTES = 320 * 10**6
Call = Callable[[], object]


@dataclass
class Kind:
    """One implementation: calls on copies of its weights, used in turn, and the bytes of one copy."""

    calls: list[Call]
    nbytes: int

    def __post_init__(self) -> None:
        self.turn: Iterator[Call] = itertools.cycle(self.calls)


def weights(size: int, zeros: float) -> IntTensor:
    """A ternary matrix with zeros at random positions, from a fixed seed."""
    rng = np.random.default_rng(int(1000 * zeros))
    q = rng.choice([-1, 1], (size, size)) * (rng.random((size, size)) >= zeros)
    return IntTensor("w", q.astype(np.int32), UniformGrid(0.0078125))


def copies(make: Callable[[], tuple[Call, int]], cold: bool) -> Kind:
    """Enough copies for the cold rows, as far as memory allows; else one."""
    call, nbytes = make()
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    wanted = -(-COLD_BYTES // nbytes) if cold else 1
    number = int(max(1, min(wanted, free // 2 // nbytes)))
    if number < wanted:
        print(f"  memory is short: {number} copies of {nbytes} bytes, {wanted} wanted")
    return Kind([call, *(make()[0] for _ in range(number - 1))], nbytes)


def torch_dense(w: IntTensor, x: FloatArray) -> tuple[Call, int]:
    weight, given = torch.from_numpy(w.values().copy()), torch.from_numpy(x)
    return lambda: torch.nn.functional.linear(given, weight), weight.nbytes


def torch_csr(w: IntTensor, x: FloatArray) -> tuple[Call, int]:
    """``W @ x`` with the samples as columns, the layout that is fastest in MKL."""
    rows, columns = np.nonzero(w.integers)
    pointer = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(w.integers)))])
    parts = [torch.from_numpy(a.astype(np.int32)) for a in (pointer, columns)]
    values = torch.from_numpy(w.values()[rows, columns])
    matrix = torch.sparse_csr_tensor(*parts, values, w.integers.shape, check_invariants=False)
    given = torch.from_numpy(x[0].copy() if len(x) == 1 else np.ascontiguousarray(x.T))
    return lambda: matrix @ given, sum(t.nbytes for t in (*parts, values))


def onnxruntime(implementation: PackedImplementation) -> Callable[[IntTensor, FloatArray], tuple[Call, int]]:
    return lambda w, x: layer_call(w, implementation, x, 1)


def ours(tensor: Tensor) -> Callable[[IntTensor, FloatArray], tuple[Call, int]]:
    """Laconic's kernel on copies of one compact form."""
    form = compact(tensor)

    def make(w: IntTensor, x: FloatArray) -> tuple[Call, int]:
        matrix = SparseMatrix(form)
        return lambda: matrix(x), matrix.nbytes

    return make


def own_two_bits(w: IntTensor) -> Callable[[IntTensor, FloatArray], tuple[Call, int]]:
    """Laconic's two-bit kernel, which rounds activations to 8 bits."""
    form = two_bits(w.integers, w.grid.step)

    def make(w: IntTensor, x: FloatArray) -> tuple[Call, int]:
        matrix = TwoBitMatrix(form)
        return lambda: matrix(x), matrix.nbytes

    return make


def measure(kinds: dict[str, Kind], rounds: int) -> dict[str, list[float]]:
    """Microseconds of every call; each kind's next copy in turn."""
    for kind in kinds.values():
        for call in kind.calls[:3]:
            call()
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, kind in kinds.items():
            call = next(kind.turn)
            start = time.perf_counter()
            call()
            times[name].append(1e6 * (time.perf_counter() - start))
    return times


def table(title: str, kinds: dict[str, Kind], rounds: int) -> dict[str, float]:
    """Print a line for each kind; medians by name."""
    times = measure(kinds, rounds)
    medians = {name: statistics.median(column) for name, column in times.items()}
    print(f"\n{title}")
    for name, column in times.items():
        low, high = np.percentile(column, [10, 90])
        ratio = medians["torch dense"] / medians[name]
        copies_said = f"{len(kinds[name].calls):4d} x {kinds[name].nbytes / 1e6:7.2f} MB"
        print(f"  {name:<22} {medians[name]:9.0f} us ({low:.0f} .. {high:.0f})  {ratio:6.2f}x  {copies_said}")
    return medians


def goal(text: str, value: float, bound: float, at_most: bool = False) -> None:
    """One goal and whether it is met."""
    met = value <= bound if at_most else value >= bound
    print(f"  goal: {text} {'<=' if at_most else '>='} {bound:g}: {value:.2f} {'met' if met else 'MISSED'}")


PEERS: dict[str, Callable[[IntTensor, FloatArray], tuple[Call, int]]] = {
    "torch dense": torch_dense,
    "torch CSR": torch_csr,
    "onnxruntime int8": onnxruntime("8-bit-int8"),
    "onnxruntime 4-bit": onnxruntime("4-bit-int8"),
    "onnxruntime 2-bit": onnxruntime("2-bit-int8"),
}


def gather(w: IntTensor, x: FloatArray, cold: bool, *own: str) -> dict[str, Kind]:
    pruned = RawTensor("w", w.values())  # as for a matrix that was pruned and not quantised
    makers = {**PEERS, "laconic sparse": ours(w), "laconic sparse fp32": ours(pruned)}
    makers["laconic 2-bit"] = own_two_bits(w)
    found = {
        name: copies(lambda make=make: make(w, x), cold)
        for name, make in makers.items()
        if not name.startswith("laconic") or name in own
    }
    check(w, x, found)
    return found


def check(w: IntTensor, x: FloatArray, kinds: dict[str, Kind]) -> None:
    """Every kind must compute the product, within the rounding error of 8-bit activations."""
    right = x.astype(np.float64) @ w.values().T.astype(np.float64)
    for name, kind in kinds.items():
        found = kind.calls[0]()
        y: AnyArray = np.asarray(found[0] if isinstance(found, list) else found)
        y = y.T if name == "torch CSR" and y.ndim == 2 else y
        gap = float(np.abs(y - right).max() / np.abs(right).max())
        exact = name.startswith(("torch", "laconic sparse"))
        if gap > (1e-5 if exact else 0.05):
            raise SystemExit(f"{name} is wrong: relative gap {gap:.1e}")


def batch_one(size: int, rounds: int) -> None:
    """95 and 99 % zeros, batch 1, cold."""
    for zeros, ratio in ((0.95, 14.0), (0.99, 45.0)):
        w, x = weights(size, zeros), _inputs(1, size)
        kinds = gather(w, x, True, "laconic sparse", "laconic sparse fp32")
        found = table(f"{100 * zeros:.0f} % zeros, batch 1, weights cold", kinds, rounds)
        goal("over torch dense", found["torch dense"] / found["laconic sparse"], ratio)
        best = min(value for name, value in found.items() if name != "torch dense" and "laconic" not in name)
        goal("best peer over ours", best / found["laconic sparse"], 1.0)
        entries = w.nonzeros()
        goal("bytes a non-zero", kinds["laconic sparse"].nbytes / entries, 2.2, at_most=True)
        goal("bytes a non-zero, fp32", kinds["laconic sparse fp32"].nbytes / entries, 6.2, at_most=True)
        del kinds
        gc.collect()


def batch_many(size: int, rounds: int) -> None:
    """95 % zeros, batch 128."""
    w, x = weights(size, 0.95), _inputs(128, size)
    kinds = gather(w, x, False, "laconic sparse", "laconic sparse fp32")
    found = table("95 % zeros, batch 128, weights warm", kinds, max(9, rounds // 5))
    goal("over torch dense", found["torch dense"] / found["laconic sparse"], 8.0)
    best = min(value for name, value in found.items() if name.startswith("onnxruntime"))
    goal("best int8 or 4-bit peer over ours", best / found["laconic sparse"], 1.6)


def ternary(size: int, rounds: int) -> None:
    """Ternary at 50 % zeros, batch 1, cold."""
    w, x = weights(size, 0.5), _inputs(1, size)
    kinds = gather(w, x, True, "laconic 2-bit")
    found = table("ternary, 50 % zeros, batch 1, weights cold", kinds, rounds)
    goal("over torch dense", found["torch dense"] / found["laconic 2-bit"], 12.0)
    goal("over onnxruntime 2-bit", found["onnxruntime 2-bit"] / found["laconic 2-bit"], 1.5)
    goal("bits a weight", 8 * kinds["laconic 2-bit"].nbytes / w.integers.size, 2.1, at_most=True)


def _inputs(batch: int, size: int) -> FloatArray:
    return np.random.default_rng(batch).standard_normal((batch, size)).astype(np.float32)


def main() -> None:
    """Print the requested tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--only", choices=["batch1", "batch128", "ternary"])
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*[Ss]parse.*")
    torch.set_num_threads(1)
    print(f"{options.size}x{options.size}, one thread: medians (10th .. 90th percentile), over torch dense")
    runs = {"batch1": batch_one, "batch128": batch_many, "ternary": ternary}
    for name, run in runs.items():
        if options.only in (None, name):
            run(options.size, options.rounds)


if __name__ == "__main__":
    main()
