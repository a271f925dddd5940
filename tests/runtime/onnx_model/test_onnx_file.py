"""Standard ONNX out of a .lac file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

import laconic.runtime.onnx_model.model as onnx_build
from laconic import pack
from laconic.errors import InputError, WeightsOnlyError, WriteError
from laconic.export import build_packed
from laconic.records import PackedModel
from laconic.runtime import export_onnx, load, to_onnx
from tests.helpers import networks

IDS = torch.arange(18).reshape(3, 6) % 11
CASES = {
    "lenet5": (networks.lenet5, torch.randn(3, 1, 28, 28)),
    "resnet20": (networks.ResNet20, torch.randn(3, 3, 16, 16)),
    "transformer": (networks.TransformerClassifier, IDS),
    "lstm": (networks.LSTMClassifier, torch.randn(3, 7, 4)),
    "unet": (networks.UNet, torch.randn(3, 1, 8, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_checker_accepts_it_and_another_session_agrees(name: str, tmp_path: Path) -> None:
    build, example = CASES[name]
    model, _ = build_packed(networks.seeded(build), {}, example)
    pack.write(tmp_path / "m.lac", model)
    export_onnx(tmp_path / "m.lac", tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert {entry.domain for entry in proto.opset_import} == {""}
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    x = example[:2].numpy()
    np.testing.assert_array_equal(
        session.run(None, {session.get_inputs()[0].name: x})[0], load(tmp_path / "m.lac")(x)
    )


def test_weights_keep_their_names() -> None:
    model, _ = build_packed(nn.Sequential(nn.Linear(3, 2)), {}, torch.zeros(1, 3))
    names = {tensor.name for tensor in to_onnx(model).graph.initializer}
    assert {"0.weight", "0.bias"} <= names


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = build_packed(nn.Linear(3, 2), {}, torch.zeros(1, 3))
    with pytest.raises(WeightsOnlyError):
        to_onnx(PackedModel(model.tensors))
    pack.write(tmp_path / "m.lac", model)
    with pytest.raises(WriteError):
        export_onnx(tmp_path / "m.lac", tmp_path / "nowhere" / "m.onnx")
    monkeypatch.setattr(onnx_build, "MAX_INLINE_BYTES", 10)
    with pytest.raises(InputError, match="2 GiB"):
        to_onnx(model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.lac"]
