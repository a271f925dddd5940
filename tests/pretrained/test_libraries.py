"""Networks of transformers and timm: by stand-ins, and by the packages where they are installed."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import laconic
from laconic import progress
from laconic.errors import InputError
from laconic.methods import Target
from laconic.pretrained import hugging_face, load_network, timm_networks
from tests.helpers import libraries


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = libraries.transformers()
    monkeypatch.setitem(sys.modules, "transformers", module)
    return module


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = libraries.timm()
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


def test_the_class_that_the_folder_names(hub: Any, tmp_path: Path) -> None:
    name = libraries.folder(tmp_path / "a")
    network = load_network(f"hf:{name}")
    assert type(network) is libraries.TinyForSequenceClassification and not network.training
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    (call,) = libraries.PreTrainedModel.calls
    assert call["source"] == name and call["use_safetensors"] is True and call["trust_remote_code"] is False
    assert network.config.use_cache is False and network.config.output_hidden_states is False


@pytest.mark.parametrize(
    "classes", [None, [], "Tiny", ["no name"], [3], ["pipeline"], ["Nowhere"], ["AutoConfig"]]
)
def test_a_class_that_is_no_network(hub: Any, tmp_path: Path, classes: Any) -> None:
    name = libraries.folder(tmp_path / "a", {"architectures": classes})
    with pytest.raises(InputError, match="Cure:"):
        load_network(f"hf:{name}")
    assert not libraries.PreTrainedModel.calls


def test_weights_that_are_missing(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries.PreTrainedModel, "missing", ("classifier.weight", "classifier.bias"))
    name = libraries.folder(tmp_path / "a")
    with pytest.raises(InputError, match=r"2 weights are not in its files, the first 'classifier.bias'"):
        load_network(f"hf:{name}")


def test_what_the_library_raises_is_told_in_one_line(hub: Any) -> None:
    with pytest.raises(InputError, match="hf:owner/name: OSError: .* and no name on the hub. Cure:"):
        load_network("hf:owner/name")


def test_timm_by_name(images: Any) -> None:
    network = load_network("timm:tinynet_050.in1k")
    assert images.calls == [("tinynet_050.in1k", True)] and not network.training


@pytest.mark.parametrize(("package", "text"), [("timm", "timm:tinynet_050"), ("transformers", "hf:folder")])
def test_an_import_that_takes_long_is_shown(
    package: str,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After two seconds, here none: the line says what is imported."""
    made = libraries.timm() if package == "timm" else libraries.transformers()
    home = timm_networks if package == "timm" else hugging_face

    def slow(name: str) -> Any:
        time.sleep(0.5)
        return made

    monkeypatch.setattr(home, "import_module", slow)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.05)
    monkeypatch.setitem(sys.modules, package, made)
    text = text.replace("folder", libraries.folder(tmp_path / "a"))
    with progress.show(True):
        load_network(text)
    assert f"importing {package}" in capsys.readouterr().err


def test_timm_by_folder(images: Any, tmp_path: Path) -> None:
    name = libraries.folder(tmp_path / "a", {"architecture": "tinynet_050"})
    load_network(f"timm:{name}")
    assert images.calls == [(f"local-dir:{name}", True)]


def test_timm_without_the_network(images: Any) -> None:
    with pytest.raises(InputError, match=r"no such network. Cure: did you mean tinynet_050\?"):
        load_network("timm:tinynet_055")
    with pytest.raises(InputError, match="RuntimeError: no connection to the hub. Cure:"):
        load_network("timm:tinynet_offline")


# --- the packages themselves ---------------------------------------------------------------------

_BERT = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}


def test_bert_of_transformers(tmp_path: Path) -> None:
    hugging = pytest.importorskip("transformers")
    torch.manual_seed(0)
    hugging.BertForSequenceClassification(hugging.BertConfig(**_BERT)).save_pretrained(tmp_path / "bert")
    network = load_network(f"hf:{tmp_path / 'bert'}")
    ids = torch.randint(0, 50, (32, 8), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    small = laconic.compress_trained(network, [batch], Target(max_kl=0.01))
    laconic.save(small, tmp_path / "bert.lac")
    got = laconic.runtime.load(tmp_path / "bert.lac")(**{k: v.numpy() for k, v in batch.items()})
    np.testing.assert_allclose(got["logits"], small.module(**batch).logits.detach(), atol=1e-5)


def test_resnet_of_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    made = timm.create_model("test_resnet", pretrained=False).eval()
    timm.models.save_for_hf(made, tmp_path / "net", safe_serialization=True)
    network = load_network(f"timm:{tmp_path / 'net'}")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(x), made(x))
    laconic.save(network, tmp_path / "net.lac", example=x)
    got = laconic.runtime.load(tmp_path / "net.lac")(x.numpy())
    np.testing.assert_allclose(got, made(x).detach(), atol=1e-5)
