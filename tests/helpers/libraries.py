"""Stand-ins for the packages transformers and timm: what is called of theirs, on tiny networks."""

from __future__ import annotations

import dataclasses
import json
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclasses.dataclass
class Output(OrderedDict[str, Any]):
    """As ``transformers.utils.ModelOutput``: a dataclass that is a dictionary of the fields with a value."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                self[field.name] = value


class PreTrainedModel(nn.Module):
    """The base class, with the one class method that is called."""

    calls: list[dict[str, Any]] = []
    missing: tuple[str, ...] = ()

    @classmethod
    def from_pretrained(cls, source: str, **kwargs: Any) -> Any:
        cls.calls.append({"source": source, **kwargs})
        if not (Path(source) / "config.json").exists():
            raise OSError(f"{source} is not a local folder\n  and no name on the hub")
        torch.manual_seed(0)
        return cls(kwargs["config"]).half().train(), {"missing_keys": set(cls.missing)}


class TinyForSequenceClassification(PreTrainedModel):
    """Tokens, embedded and averaged where the mask says so, and a linear layer."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(20, 8)
        self.hidden = nn.Linear(8, 8)
        self.classifier = nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Any = None) -> Output:
        x = torch.tanh(self.hidden(self.embedding(input_ids)))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weight = mask.unsqueeze(-1).to(x.dtype)
        logits = 4 * self.classifier((x * weight).sum(1) / weight.sum(1).clamp(min=1))
        return Output(logits=logits, hidden_states=(x,) if self.config.output_hidden_states else None)


class AutoConfig:
    """Reads config.json."""

    @staticmethod
    def from_pretrained(source: str, trust_remote_code: bool) -> Any:
        if trust_remote_code:
            raise ValueError("code of the folder would run")
        path = Path(source) / "config.json"
        if not path.exists():
            raise OSError(f"{source} is not a local folder\n  and no name on the hub")
        usual = {"use_cache": True, "output_hidden_states": True, "output_attentions": False}
        return types.SimpleNamespace(**{**usual, **json.loads(path.read_text())})


def transformers() -> types.ModuleType:
    """A new stand-in for the package."""
    module = types.ModuleType("transformers")
    PreTrainedModel.calls.clear()
    contents = (AutoConfig, PreTrainedModel, TinyForSequenceClassification)
    module.__dict__.update({each.__name__: each for each in contents}, pipeline=print)
    return module


def timm() -> types.ModuleType:
    """A new stand-in for the package; ``calls`` holds what ``create_model`` was given."""
    module = types.ModuleType("timm")
    calls: list[tuple[str, bool]] = []

    def create_model(name: str, pretrained: bool) -> nn.Module:
        calls.append((name, pretrained))
        if name == "tinynet_offline":
            raise RuntimeError("no connection\n to the hub")
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).train()

    names = ["tinynet_050", "tinynet_offline"]
    module.__dict__.update(
        create_model=create_model,
        calls=calls,
        is_model=lambda name: name.partition(".")[0] in names,
        list_models=lambda: list(names),
    )
    return module


def folder(path: Path, config: dict[str, Any] | None = None, weights: str = "model.safetensors") -> str:
    """A folder as ``save_pretrained`` writes it; the stand-ins do not read its weights."""
    path.mkdir()
    usual = {"architectures": ["TinyForSequenceClassification"]}
    (path / "config.json").write_text(json.dumps(usual if config is None else config))
    if weights:
        (path / weights).write_bytes(b"")
    return str(path)
