"""How often a reader who follows one tensor through ``load`` or ``compress`` returns to a room that was left.

A reader opens each function once, when it is first called. Those functions in order, each as its room, make a
walk: a *stay* is a run of functions in one room, a *return* a stay in a room that was left before. Rooms are
the folders of ``laconic``; ``records`` and what stands beside the folders (``errors``, ``files``,
``varint``) are vocabulary.

    python tests/reading_order.py
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np

import laconic
from laconic.pack import encode
from laconic.records import Graph, IntTensor, Node, PackedModel, UniformGrid, ValueSpec
from laconic.runtime import load

ROOT = Path(laconic.__file__).parent
VOCABULARY = ("records",)


class Walk(NamedTuple):
    """The stays of one reader, in order."""

    stays: tuple[str, ...]

    @property
    def rooms(self) -> int:
        """How many rooms were seen."""
        return len(set(self.stays))

    @property
    def returns(self) -> int:
        """Stays in a room that was left before."""
        return len(self.stays) - self.rooms


def walk(function: Callable[[], object]) -> Walk:
    """The rooms that a call goes through, each function counted when it is first entered."""
    seen: set[object] = set()
    stays: list[str] = []

    def enter(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call" or code in seen or code.co_name.startswith("<"):
            return
        seen.add(code)
        file = Path(code.co_filename)
        if not file.is_relative_to(ROOT) or file.parent == ROOT:
            return
        room = str(file.parent.relative_to(ROOT))
        if room in VOCABULARY:
            return
        if not stays or stays[-1] != room:
            stays.append(room)

    sys.setprofile(enter)
    try:
        function()
    finally:
        sys.setprofile(None)
    return Walk(tuple(stays))


def one_layer() -> bytes:
    """A file of one linear layer with one tensor of integers."""
    weight = IntTensor("weight", np.arange(12, dtype=np.int32).reshape(3, 4), UniformGrid(0.5))
    graph = Graph((ValueSpec("float32", (None, 4)),), (Node("linear", (0, -1)),), (1,))
    return encode(PackedModel((weight,), graph))


def loading() -> Walk:
    """The walk of ``load``, once all that is imported late is there."""
    data = one_layer()
    load(data, threads=1)
    return walk(lambda: load(data, threads=1))


def compressing(folder: Path) -> Walk:
    """The walk of a linear layer through Sparse VD to a file in ``folder``, once all is imported."""
    import torch
    from torch import nn

    from laconic.methods import SparseVD
    from laconic.train.fit import FitConfig

    x = torch.linspace(-1, 1, 32).reshape(8, 4)
    batches = [(x, (x.sum(1) > 0).long())]

    def job() -> None:
        network = nn.Sequential(nn.Linear(4, 2))
        small = laconic.compress(network, batches, batches, SparseVD(), fit=FitConfig(epochs=1))
        laconic.save(small, folder / "small.lac", example=x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job()
        return walk(job)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for title, found in (("load", loading()), ("compress", compressing(Path(name)))):
            print(f"{title}: {len(found.stays)} stays in {found.rooms} rooms, {found.returns} returns")
            print(*found.stays, sep="\n")
