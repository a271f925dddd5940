"""Memory and work of an emulated call: refused before it runs, and never less than what it takes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

from laconic import pack
from laconic.errors import LimitError
from laconic.export import build_packed
from laconic.pack import Limits
from laconic.pack.graph.ops import make_node
from laconic.records import ActivationRange, Graph, PackedModel, RawTensor, ValueSpec
from laconic.runtime import Int8, Int16x8, calibrate, emulate
from laconic.runtime.emulation.needs import emulated_call
from laconic.runtime.graph.sizes import Form

F32 = np.float32


def long_chain(layers: int, size: int) -> bytes:
    """A file of some kilobytes whose one convolution is read by many nodes."""
    nodes = tuple(make_node("conv", (k, -1), padding=(1,)) for k in range(layers))
    ranges = tuple(ActivationRange(k, 0.0625, 0) for k in range(layers + 1))
    graph = Graph((ValueSpec("float32", (None, 8, size, size)),), nodes, (layers,), ranges)
    return pack.encode(PackedModel((RawTensor("w", np.full((8, 8, 3, 3), 0.01, F32)),), graph))


def spread_far() -> PackedModel:
    """A transposed convolution whose padding cuts away almost all that its stride puts between the inputs."""
    node = make_node("conv_transpose", (0, -1), stride=(2000,), padding=(8998,))
    graph = Graph(
        (ValueSpec("float32", (None, 1, 10, 10)),),
        (node,),
        (1,),
        (ActivationRange(0, 1.0, 0), ActivationRange(1, 1.0, 0)),
    )
    return PackedModel((RawTensor("w", np.ones((1, 1, 3, 3), F32)),), graph)


def test_a_call_of_hours_is_refused_before_it_runs() -> None:
    data = long_chain(300, 256)
    assert len(data) < 10_000
    x = np.zeros((16, 8, 256, 256), F32)
    with pytest.raises(
        LimitError, match=r"the call takes up to \d+ steps .*Cure: fewer samples a call.*call_work="
    ):
        emulate(data)(x)
    with pytest.raises(LimitError, match="steps"):
        emulate(data).trace(x)


def test_the_limit_can_be_set_and_lifted() -> None:
    data, x = long_chain(3, 4), np.ones((2, 8, 4, 4), F32)
    with pytest.raises(LimitError) as refused:
        emulate(data, limits=Limits(call_work=1000))(x)
    needed = int(str(refused.value).split("call_work=")[1].split(")")[0])
    wanted = np.asarray(emulate(data)(x))
    assert np.array_equal(emulate(data, limits=Limits(call_work=needed))(x), wanted)
    assert np.array_equal(emulate(data, limits=Limits.trusted())(x), wanted)
    with pytest.raises(LimitError, match=f"is {needed - 1}"):
        emulate(data, limits=Limits(call_work=needed - 1))(x)


def test_work_grows_with_the_batch() -> None:
    graph = Graph((ValueSpec("float32", (None, 64)),), (make_node("linear", (0, -1)),), (1,))
    one, many = (
        emulated_call(graph, [(n, 64), (n, 64)], ["float32"] * 2, [Form((64, 64), "float32")]).work
        for n in (1000, 10_000)
    )
    assert 8 < many / one < 10


def test_what_padding_cuts_off_counts() -> None:
    """An engine takes some bytes for it; here zeros are written between the inputs."""
    x = np.ones((1, 1, 10, 10), F32)
    with pytest.raises(LimitError, match="call_memory="):
        emulate(spread_far())(x)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.c, self.d = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ConvTranspose2d(16, 4, 4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat((torch.relu(self.a(x)), self.b(x)), 1)
        x = nn.functional.avg_pool2d(x + self.c(x), 3, 1, 1)
        return torch.sigmoid(self.d(x))


@pytest.mark.parametrize("module", [Branches(), nn.Sequential(nn.Flatten(), nn.Linear(768, 300), nn.ReLU())])
@pytest.mark.parametrize("arithmetic", [Int8(), Int16x8()])
def test_a_call_takes_no_more_memory_than_it_says(module: nn.Module, arithmetic: Int8 | Int16x8) -> None:
    x = np.random.default_rng(0).random((16, 3, 16, 16), dtype=F32)
    net = emulate(
        calibrate(build_packed(module.eval(), {}, torch.from_numpy(x[:2]))[0], [(x[:8],)]), arithmetic
    )
    net(x)  # what is built once
    tracemalloc.start()
    net(x)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken <= net.call_memory(x.shape) < 10 * taken
