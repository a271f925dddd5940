"""Functions that several studies share: reading published weights, and interleaved latency measurements."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laconic.runtime import Network


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The float32 tensors of a safetensors file: a length, a JSON header, the bytes."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    return {
        name: torch.from_numpy(
            np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"]).copy()
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def interleaved(networks: dict[str, Network], x: Any, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call, in rounds over all networks, after twenty warm-up rounds."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for index in range(rounds + 20):
        for name, network in networks.items():
            start = time.perf_counter()
            network(x)
            if index >= 20:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times
