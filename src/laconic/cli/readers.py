"""The commands that read a .lac file. None of them imports torch."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from laconic.errors import DataError, InputError, LaconicError
from laconic.records import AnyArray, SectionRow


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The file's bytes, or an InputError that names it."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Cure: check the path") from error


def run_inspect(path: str) -> int:
    """Print layers, levels, bits, and where each byte goes; the bytes add up to the file's length."""
    from laconic.pack import layout

    data = read_bytes(path)
    rows = layout(data)
    print(format_rows(rows))
    weights = sum(r.weights for r in rows)
    total = sum(r.bytes for r in rows)
    print(
        f"\n{path}: {total} bytes, {weights} weights, {8 * total / max(1, weights):.3f} bits a weight", end=""
    )
    print(f", {4 * weights / total:.1f}x smaller than fp32" if weights else "")
    return 0


def format_rows(rows: Sequence[SectionRow]) -> str:
    """A plain table of a file's rows, the sum below."""
    numbers = f"{'weights':>9} {'non-zero':>9} {'levels':>6} {'bits/w':>7}"
    head = f"{'section':<10} {'name':<28} {'shape':<16} {numbers} {'bytes':>8}"
    lines = [head, "-" * len(head)]
    for r in rows:
        shape = "x".join(map(str, r.shape)) if r.shape else ""
        numbers = (
            f"{r.weights:>9} {r.nonzeros:>9} {r.levels:>6} {r.bits_per_weight:>7.3f}"
            if r.weights
            else " " * 34
        )
        lines.append(f"{r.section:<10} {r.name:<28} {shape:<16} {numbers} {r.bytes:>8}  {r.note}".rstrip())
    lines.append("-" * len(head))
    lines.append(f"{'total':<10} {'':<28} {'':<16} {'':<34} {sum(r.bytes for r in rows):>8}")
    return "\n".join(lines)


def run_verify(path: str, data: str, *, as_json: bool = False) -> int:
    """Decode the file, score it on the whole test set, and say whether torch was anywhere near."""
    x, labels = test_arrays(data)
    batches = ((x[i : i + 1000], labels[i : i + 1000]) for i in range(0, len(x), 1000))
    result = score_batches(path, batches)
    if as_json:
        print(json.dumps(result))
        return 0
    print(
        f"{path}: {result['bytes']} bytes, {result['ratio']:.1f}x smaller than "
        f"{result['fp32_bytes']} bytes of fp32\n"
        f"test error {result['error_percent']:.2f} % ({result['wrong']} of {result['examples']} wrong), "
        f"nll {result['nll']:.4f} nats an example\n"
        f"torch imported: {'yes' if result['torch_imported'] else 'no'}"
    )
    return 0


def test_arrays(data: str) -> tuple[AnyArray, AnyArray]:
    """Inputs and labels of a built-in test set, or what a user's ``package.module:function`` returns."""
    from laconic.cli.own import own_function
    from laconic.data import load
    from laconic.data.images import as_input

    if ":" not in data:
        images = load(data)
        return as_input(images.test_images, images.scale), images.test_labels
    found = own_function(data, "--data")()
    if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(a, np.ndarray) for a in found)):
        raise InputError(f"--data {data} should return two NumPy arrays: inputs (batch first) and labels")
    return found


def score_batches(
    path: str | os.PathLike[str], batches: Iterable[tuple[AnyArray, AnyArray]]
) -> dict[str, float | int | bool]:
    """Error and nll of a decoded file on batches, with its size: what every figure of ours is made of."""
    from laconic.pack import layout
    from laconic.runtime import load

    net = load(path)
    wrong, nll, examples = 0, 0.0, 0
    for x, labels in batches:
        logits = np.asarray(net(x)).astype(np.float64)
        wrong += int((logits.argmax(1) != labels).sum())
        shifted = logits - logits.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        nll -= float(log_p[np.arange(len(labels)), labels.astype(np.int64)].sum())
        examples += len(labels)
    if examples == 0:
        raise DataError("the test set is empty: there is nothing to score")
    size = os.path.getsize(path)
    fp32 = 4 * sum(r.weights for r in layout(read_bytes(path)))
    return {
        "bytes": size,
        "fp32_bytes": fp32,
        "ratio": fp32 / size,
        "wrong": wrong,
        "examples": examples,
        "error_percent": 100 * wrong / examples,
        "nll": nll / examples,
        "torch_imported": "torch" in sys.modules,
    }


def run_network(path: str, inputs: Sequence[str], out: str | None) -> int:
    """Run a file on .npy arrays and print or save what comes out."""
    from laconic.runtime import load

    net = load(path)
    try:
        arrays = [np.load(name, allow_pickle=False) for name in inputs]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the inputs: {error}. Cure: save each with numpy.save") from error
    result = net(*arrays)
    outputs = result if isinstance(result, tuple) else (result,)
    for index, array in enumerate(outputs):
        if out is None:
            print(array)
        else:
            name = Path(out) if len(outputs) == 1 else Path(out).with_stem(f"{Path(out).stem}{index}")
            np.save(name, array)
            print(f"{name}: {array.dtype} {array.shape}")
    return 0


def run_bench(path: str, batches: Sequence[int], threads: int) -> int:
    """Medians (and the 10th and 90th percentiles) of load and predict times, in milliseconds."""
    from laconic.runtime import load

    loads = [_timed(lambda: load(path, threads=threads)) for _ in range(5)]
    print(f"load (decode + build)   {_spread(loads)}")
    net = load(path, threads=threads)
    generator = np.random.default_rng(0)
    for batch in batches:
        arrays = [_random_input(s.dtype, s.shape, batch, generator) for s in net.inputs]
        net(*arrays)
        times = [_timed(lambda a=arrays: net(*a)) for _ in range(max(20, 400 // batch))]
        print(f"predict, batch {batch:<8} {_spread(times)}")
    print(f"threads {threads}")
    return 0


def _timed(call: object) -> float:
    started = time.perf_counter()
    call()  # type: ignore[operator]
    return 1e3 * (time.perf_counter() - started)


def _spread(times: Sequence[float]) -> str:
    ordered = sorted(times)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return f"{statistics.median(ordered):9.3f} ms  ({low:.3f} .. {high:.3f})"


def _random_input(
    dtype: str, shape: tuple[int | None, ...], batch: int, generator: np.random.Generator
) -> AnyArray:
    sizes = tuple(batch if n is None else n for n in shape)
    if np.issubdtype(np.dtype(dtype), np.floating):
        return generator.standard_normal(sizes).astype(dtype)
    return np.zeros(sizes, dtype=dtype)


def run_export(path: str, target: str) -> int:
    """Write a standard ONNX model."""
    from laconic.runtime import export_onnx

    if Path(target).suffix != ".onnx":
        raise LaconicError(f"export: {target} should end in .onnx. Cure: name it model.onnx")
    export_onnx(path, target)
    print(f"{target}: {os.path.getsize(target)} bytes")
    return 0
