"""Does the captured, encoded, decoded and rebuilt network compute what the PyTorch module computes?"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from laconic.export.captured import CapturedGraph
from laconic.export.graph_capture import capture
from laconic.pack.graph.section import decode_graph, encode_graph
from laconic.records import AnyArray, PackedModel, RawTensor
from laconic.runtime import Network

TOLERANCE = 1e-5


class Fn(nn.Module):
    """A function (and the modules it calls first) as a module."""

    def __init__(self, function: object, *modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(modules)

    def forward(self, *x: torch.Tensor) -> object:
        return self.function(*self.parts, *x)  # type: ignore[operator]


def packed(module: nn.Module, captured: CapturedGraph) -> PackedModel:
    """The captured graph after a trip through its bytes, with the module's tensors as they are."""
    constants = {tensor.name: tensor for tensor in captured.constants}
    state = module.state_dict()
    tensors = tuple(constants.get(n) or RawTensor(n, state[n].numpy()) for n in captured.tensor_names)
    return PackedModel(tensors, decode_graph(encode_graph(captured.graph), len(tensors)), captured.aliases)


def flat(result: object) -> list[torch.Tensor]:
    """The tensors of a nested result, None left out."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [] if result is None else [t for item in result for t in flat(item)]  # type: ignore[attr-defined]


def worst_error(got: list[AnyArray], wanted: list[AnyArray]) -> float:
    """Largest |a - b| over largest |b|, over all outputs; infinite where shapes or types differ."""
    if len(got) != len(wanted):
        return float("inf")
    errors = [0.0]
    for a, b in zip(got, wanted, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype or not np.isfinite(a.astype(np.float64)).all():
            return float("inf")
        scale = max(float(np.abs(b.astype(np.float64)).max(initial=0.0)), 1e-30)
        errors.append(float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0)) / scale)
    return max(errors)


def resized(x: torch.Tensor, batch: int, axis: int) -> torch.Tensor:
    """As many entries along an axis as asked for, disturbed so that no two examples are alike."""
    wide = torch.cat([x] * (1 + batch // x.shape[axis]), dim=axis).narrow(axis, 0, batch)
    noise = torch.randn(wide.shape, generator=torch.Generator().manual_seed(7))
    return wide + 0.1 * noise if wide.is_floating_point() else wide.clone()


def assert_parity(
    module: nn.Module, *example: torch.Tensor, batches: tuple[int, ...] = (1, 5), axis: int = 0
) -> PackedModel:
    """Capture with the example, then compare at other batch sizes; the packed model for further looks."""
    module.eval()
    captured = capture(module, example)
    model = packed(module, captured)
    network = Network.from_packed(model, threads=1)
    assert None in captured.graph.inputs[0].shape, captured.notes
    for batch in batches:
        inputs = [resized(x, batch, axis) for x in example]
        with torch.no_grad():
            wanted = [t.numpy() for t in flat(module(*(x.clone() for x in inputs)))]
        result = network(*(x.numpy() for x in inputs))
        got = list(result) if isinstance(result, tuple) else [result]
        assert worst_error(got, wanted) < TOLERANCE, f"batch {batch}: {worst_error(got, wanted):.2e}"
    return model
