"""An engine that refuses a correct file is named and the next is tried; a wrong file gets a file error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import laconic
from laconic import pack
from laconic.errors import CorruptFileError, EngineError, FileFormatError, LaconicError
from laconic.export import build_packed, int8_check
from laconic.pack.graph.ops import make_node
from laconic.records import AnyArray, Graph, PackedModel, RawTensor, ValueSpec
from laconic.runtime import Network, calibrate, emulate, load
from laconic.runtime.engines.cpu import processor
from laconic.runtime.precision import with_precision

F32 = np.float32
X = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(F32)


@pytest.fixture
def model() -> PackedModel:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    return calibrate(build_packed(nn.Sequential(*layers).eval(), {}, torch.from_numpy(X[:2]))[0], [(X,)])


def refuses(
    monkeypatch: pytest.MonkeyPatch, what: bytes, text: str, *, also_as_it_stands: bool = False
) -> None:
    """ONNX Runtime refuses every graph that holds ``what``."""

    class Refusing(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, proto: bytes, options: onnxruntime.SessionOptions, **rest: Any) -> None:
            plain = options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            if what in proto and (also_as_it_stands or not plain):
                raise RuntimeError(text)
            super().__init__(proto, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Refusing)


def test_a_failed_rewriting_is_left_out(model: PackedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    refuses(monkeypatch, b"DequantizeLinear", "replaced twice")
    network = Network.from_packed(model, 1)
    assert network.notes[0].startswith("runs as it stands, slower: ONNX Runtime (graph rewritten")
    assert "replaced twice" in network.describe() and processor() in network.describe()
    assert model.graph is not None
    step = model.graph.ranges[-1].scale
    assert np.abs(np.asarray(network(X)) - np.asarray(emulate(model)(X))).max() <= 2 * step


def test_float32_runs_where_int8_is_refused(model: PackedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    refuses(monkeypatch, b"DequantizeLinear", "NOT_IMPLEMENTED : no kernel", also_as_it_stands=True)
    network = load(pack.encode(model), threads=1)
    assert network.notes[0].startswith("int8 was refused: ONNX Runtime (graph")
    plain = Network.from_packed(with_precision(model, "fp32"), 1)
    assert np.array_equal(network(X), plain(X))
    with pytest.raises(
        EngineError, match=r"ONNX Runtime \(graph .*no kernel. Cure: precision='fp32'"
    ) as caught:
        load(pack.encode(model), threads=1, precision="int8")
    assert processor() in str(caught.value)
    assert not isinstance(caught.value, FileFormatError)


def test_another_engine_runs_what_the_first_refuses(
    model: PackedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        def __init__(self, model: PackedModel, *_: object) -> None:
            self.count, self.nbytes = len(model.tensors), 0

        def run(self, arrays: list[AnyArray]) -> list[AnyArray]:
            return [arrays[0] * F32(self.count)]

    refuses(monkeypatch, b"Conv", "Failed to allocate memory", also_as_it_stands=True)
    plain = with_precision(model, "fp32")
    monkeypatch.setattr("laconic.runtime.engines.openvino.installed", lambda: False)
    with pytest.raises(EngineError, match="Failed to allocate"):
        Network.from_packed(plain, 1)
    monkeypatch.setattr("laconic.runtime.engines.openvino.installed", lambda: True)
    monkeypatch.setattr("laconic.runtime.engines.openvino.OpenVinoNetwork", Other)
    network = Network.from_packed(plain, 1)
    assert np.array_equal(network(X), X * F32(4))
    assert network.notes[0].startswith("OpenVINO runs it: ONNX Runtime")
    with pytest.raises(EngineError):
        Network.from_packed(plain, 1, engine="onnxruntime")  # asked for by name


def test_a_graph_that_contradicts_its_tensors_is_a_wrong_file() -> None:
    """As it stands it does not run either."""
    graph = Graph((ValueSpec("float32", (1, 4)),), (make_node("linear", (0, -1)),), (1,))
    with pytest.raises(CorruptFileError, match="linear.*do not multiply"):
        Network.from_packed(PackedModel((RawTensor("w", np.ones((2, 3), F32)),), graph), 1)


def saved(path: Path) -> PackedModel:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    laconic.save(laconic.quantize_activations(net, [torch.from_numpy(X)]), path)
    return pack.read(path)


def test_save_writes_float32_where_int8_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = saved(tmp_path / "int8.lac").graph
    assert graph is not None and len(graph.ranges) == 3
    refuses(monkeypatch, b"DequantizeLinear", "NOT_IMPLEMENTED : no kernel", also_as_it_stands=True)
    with pytest.warns(UserWarning, match=r"int8 was left out: .*no kernel.*runs in float32. Cure: "):
        graph = saved(tmp_path / "plain.lac").graph
    assert graph is not None and not graph.ranges
    assert np.isfinite(np.asarray(load(tmp_path / "plain.lac", threads=1)(X))).all()


def test_save_compares_with_integer_arithmetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def __init__(self, model: PackedModel, limits: pack.Limits) -> None:
            self.device = emulate(model, limits=limits)

        def run(self, arrays: tuple[AnyArray, ...]) -> list[AnyArray]:
            return [1.5 * y for y in self.device.run(arrays)]

    monkeypatch.setattr(int8_check, "emulate", Wrong)
    with pytest.warns(UserWarning, match="computes other numbers in int8 on this machine"):
        graph = saved(tmp_path / "m.lac").graph
    assert graph is not None and not graph.ranges


def test_engine_errors_are_no_file_errors() -> None:
    assert issubclass(EngineError, LaconicError) and not issubclass(EngineError, FileFormatError)


def test_an_example_beyond_the_calibrated_range_is_no_fault(tmp_path: Path) -> None:
    """A device cuts the output at its range, an engine that gives it in float32 does not."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    x = torch.from_numpy(X)
    small = replace(laconic.quantize_activations(net, [0.2 * x]), example=5 * x)
    laconic.save(small, tmp_path / "m.lac")
    graph = pack.read(tmp_path / "m.lac").graph
    assert graph is not None and len(graph.ranges) == 3
