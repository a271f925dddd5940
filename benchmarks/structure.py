"""Speed of a physically pruned LeNet-5, from its file, over the original network, in one process.

    python benchmarks/structure.py --file runs/lenet5-taylor/model.lac [--batch 1 64] [--threads 1]

Peers, all of the *original* LeNet-5-Caffe: torch eager float32; ONNX Runtime int8 (static quantisation, QDQ,
a scale for each output channel, by onnxruntime.quantization); OpenVINO int8 from the same model, where
openvino is installed. They have random weights and inputs: the time of these kernels does not depend on
values. Rounds are interleaved, so that other load affects all alike, and medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from laconic import export_onnx, pack
from laconic.export.build import build_packed
from laconic.runtime import load
from laconic.zoo import LeNet5

GOALS = {"torch eager fp32": 8.0, "best int8 of the original": 1.5}
Call = Callable[[], object]


class Calibration(CalibrationDataReader):
    """A few random images."""

    def __init__(self, name: str) -> None:
        rng = np.random.default_rng(0)
        self._left = [{name: rng.random((16, 1, 28, 28), dtype=np.float32)} for _ in range(4)]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


def int8_model(original: torch.nn.Module, folder: Path) -> Path:
    """The original as an int8 ONNX model."""
    lac, plain, ready, quantised = (folder / name for name in ("o.lac", "o.onnx", "ready.onnx", "int8.onnx"))
    lac.write_bytes(pack.encode(build_packed(original, {}, torch.zeros(1, 1, 28, 28))[0]))
    export_onnx(lac, plain)
    quant_pre_process(str(plain), str(ready))
    name = onnxruntime.InferenceSession(str(plain)).get_inputs()[0].name
    quantize_static(
        str(ready),
        str(quantised),
        Calibration(name),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    return quantised


def onnxruntime_call(path: Path, x: Any, threads: int) -> Call:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})


def openvino_call(path: Path, x: Any, threads: int) -> Call | None:
    """None where openvino is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    core = openvino.Core()
    model = core.read_model(str(path))
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model.reshape(list(x.shape))
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([x])


def measure(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call, in interleaved rounds, after ten to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(rounds + 10):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if index >= 10:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="inference time of a pruned LeNet-5 and of the original")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    original = LeNet5(generator=torch.Generator().manual_seed(0)).eval()
    ours = load(options.file, threads=options.threads)
    size = options.file.stat().st_size
    print(f"{options.file}: {size} bytes; {options.threads} thread(s), {options.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = int8_model(original, Path(folder))
        for batch in options.batch:
            report(batch, calls_of(original, ours, path, batch, options.threads), options.rounds)


def calls_of(original: Any, ours: Any, path: Path, batch: int, threads: int) -> dict[str, Call]:
    """All calls that are timed at one batch size."""
    x = np.random.default_rng(0).random((batch, 1, 28, 28), dtype=np.float32)
    image = torch.from_numpy(x)
    calls: dict[str, Call] = {
        "shrunk, our file": lambda: ours(x),
        "torch eager fp32": lambda: original(image),
        "ONNX Runtime int8": onnxruntime_call(path, x, threads),
    }
    other = openvino_call(path, x, threads)
    return calls if other is None else {**calls, "OpenVINO int8": other}


def report(batch: int, calls: dict[str, Call], rounds: int) -> None:
    """One line per peer, and the two ratios that have a goal."""
    times = measure(calls, rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    mine = medians["shrunk, our file"]
    for name, values in times.items():
        ordered = sorted(values)
        low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
        ratio = "" if medians[name] == mine else f"   {medians[name] / mine:6.2f}x"
        print(f"batch {batch:<4} {name:20} {medians[name]:8.4f} ms ({low:.4f} .. {high:.4f}){ratio}")
    best = min(value for name, value in medians.items() if "int8" in name)
    for name, value in zip(GOALS, (medians["torch eager fp32"], best), strict=True):
        print(f"batch {batch:<4} over {name}: {value / mine:.2f}x (goal >= {GOALS[name]}x)")
    if not any("OpenVINO" in name for name in calls):
        print("openvino is not installed: left out")


if __name__ == "__main__":
    main()
