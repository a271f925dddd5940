"""``laconic compress --model hf:FOLDER --calibrate FILE``: no Python function is needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from laconic.cli import main
from laconic.cli.array_files import batches_of, check_arguments
from laconic.errors import DataError, InputError
from laconic.runtime import load
from tests.helpers import libraries

_RNG = np.random.default_rng(0)


def _save(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_arrays_become_batches(tmp_path: Path) -> None:
    x = _RNG.standard_normal((130, 4))
    np.save(tmp_path / "x.npy", x)
    batches = batches_of(str(tmp_path / "x.npy"))
    assert [len(b) for b in batches] == [64, 64, 2] and batches[0].dtype == torch.float32
    np.testing.assert_allclose(torch.cat(batches), x, rtol=1e-6)
    ids, mask = _RNG.integers(0, 9, (70, 3)).astype(np.uint16), np.ones((70, 3), bool)
    first, last = batches_of(_save(tmp_path / "a.npz", ids=ids, mask=mask))
    assert first["ids"].dtype == torch.int64 and first["mask"].dtype == torch.bool and len(last["ids"]) == 6
    np.savez(tmp_path / "b.npz", ids, x[:70])
    (one, two), _ = batches_of(str(tmp_path / "b.npz"))
    assert one.dtype == torch.int64 and two.shape == (64, 4)


def test_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(tmp_path / "a.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(InputError, match="pip install safetensors"):
        batches_of(name)
    monkeypatch.undo()
    library = pytest.importorskip("safetensors.torch")
    library.save_file({"x": torch.ones(3, 2, dtype=torch.bfloat16)}, name)
    (batch,) = batches_of(name)
    assert batch["x"].dtype == torch.float32
    Path(name).write_bytes(b"\xff" * 20)
    with pytest.raises(InputError, match="no whole safetensors file"):
        batches_of(name)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds no array"),
        ({"a": np.ones(()), "b": np.ones(2)}, "'a' of shape .* holds no example"),
        ({"a": np.ones((0, 2))}, "'a' of shape .* holds no example"),
        ({"a": np.ones(3), "b": np.ones(2)}, "3 examples in 'a' and 2 in 'b'"),
        ({"a": np.array(["x"])}, "'a' is of type <U1"),
        ({"a": np.ones(2, complex)}, "'a' is of type complex128"),
        ({"a": np.array([object()])}, "no whole archive"),
    ],
)
def test_arrays_that_are_no_inputs(tmp_path: Path, arrays: Any, message: str) -> None:
    with pytest.raises((InputError, DataError), match=message) as caught:
        batches_of(_save(tmp_path / "a.npz", **arrays))
    assert "Cure:" in str(caught.value)


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    _save(path, a=np.ones(100))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="no whole archive"):
        batches_of(str(path))


def test_names_that_forward_does_not_have() -> None:
    with pytest.raises(InputError, match=r"no parameter 'inputs'. Cure: did you mean input\?"):
        check_arguments("a.npz", [{"inputs": torch.ones(1)}], nn.Linear(1, 1))
    with pytest.raises(InputError, match="2 arrays, and Linear's forward takes 1"):
        check_arguments("a.npz", [(torch.ones(1), torch.ones(1))], nn.Linear(1, 1))
    check_arguments("nets:inputs", iter(()), nn.Linear(1, 1))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setitem(sys.modules, "transformers", libraries.transformers())
    monkeypatch.setitem(sys.modules, "timm", libraries.timm())
    monkeypatch.chdir(tmp_path)
    return libraries.folder(tmp_path / "tiny")


def _compress(*arguments: str) -> int:
    few = ("--target", "0.01nats", "--no-picture", "--threads", "1", "--set", "trials=5")
    return main(["compress", *few, *arguments])


def test_a_folder_and_a_file_of_arrays(hub: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = _RNG.integers(0, 20, (100, 6))
    _save(tmp_path / "inputs.npz", input_ids=ids, attention_mask=np.ones_like(ids))
    assert _compress("--model", "hf:tiny", "--calibrate", "inputs.npz") == 0
    assert "target 0.01nats met" in capsys.readouterr().out
    net = load(tmp_path / "runs/tiny-post-training/model.lac")
    assert net(input_ids=ids[:2], attention_mask=np.ones_like(ids[:2]))["logits"].shape == (2, 3)


def test_timm_and_one_array(hub: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", _RNG.standard_normal((100, 3, 2, 2)))
    assert _compress("--model", "timm:tinynet_050", "--calibrate", "x.npy", "--out", "out") == 0
    assert "target 0.01nats met" in capsys.readouterr().out
    assert load("out/model.lac")(np.zeros((1, 3, 2, 2), np.float32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "tiny", "--calibrate", "a.npz"), "is a folder. Cure: --model hf:tiny"),
        (("--model", "hf:nowhere/at/all", "--calibrate", "a.npz"), "no such folder"),
        (("--model", "hf:tiny", "--calibrate", "none.npz"), "no such file"),
        (("--model", "hf:tiny", "--data", "a.npz"), "inputs without labels go to --calibrate"),
        (("--model", "hf:tiny", "--calibrate", "a.npz"), "no parameter 'ids'"),
        (("--model", "hf:tiny"), "a .npz file"),
    ],
)
def test_refusals(
    hub: str, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("a.npz", ids=np.ones((4, 3), int))
    assert _compress(*arguments) == 2
    assert message in capsys.readouterr().err
