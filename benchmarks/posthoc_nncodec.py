"""NNCodec in an environment of its own, for ``posthoc.py``."""

from __future__ import annotations

import copy
import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from posthoc_cases import Case
from torch import nn

from laconic.networks.norm_folding import fold_batch_norms


def forms_of(case: Case) -> dict[str, nn.Module]:
    """The network as it is and, where it has batch norms, with these folded into the layers before them."""
    folded, names = fold_batch_norms(copy.deepcopy(case.network), case.test[:2])
    return {"raw": case.network, **({"folded": folded} if names else {})}


def code_all(
    python: Path, network: nn.Module, settings: Iterable[dict[str, Any]]
) -> Iterator[tuple[int, nn.Module]]:
    """For each of NNCodec's settings the bitstream's length and the decoded network."""
    with tempfile.TemporaryDirectory() as folder:
        codec = NNCodec(python, network, Path(folder))
        try:
            for each in settings:
                yield codec.code(each)
        finally:
            codec.close()


class NNCodec:
    """A process of NNCodec's environment that codes one network's arrays under many settings."""

    def __init__(self, python: Path, network: nn.Module, folder: Path) -> None:
        self._network = copy.deepcopy(network).eval()
        state = self._network.state_dict()
        self._names = [name for name, value in state.items() if value.is_floating_point()]
        self._decoded = folder / "decoded.npz"
        np.savez(folder / "arrays.npz", **{name: state[name].numpy() for name in self._names})
        worker = Path(__file__).parent / "nncodec_worker.py"
        self._process = subprocess.Popen(
            [python, worker, folder / "arrays.npz", self._decoded],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def code(self, settings: dict[str, Any]) -> tuple[int, nn.Module]:
        """The bitstream's length and the decoded network."""
        if self._process.stdin is None or self._process.stdout is None:
            raise SystemExit("NNCodec's process has no pipes")
        print(json.dumps(settings), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"NNCodec failed at {settings}")
        with np.load(self._decoded) as archive:
            values = {n: torch.from_numpy(archive[n]) for n in self._names}
        state = self._network.state_dict()
        self._network.load_state_dict({**state, **{n: v.reshape(state[n].shape) for n, v in values.items()}})
        return int(line), self._network

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
