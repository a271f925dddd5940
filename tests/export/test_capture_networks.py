"""Whole networks: the rebuilt graph answers as the module does, at batch sizes that were never traced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from laconic.export.graph_capture import capture
from laconic.pack.graph.section import encode_graph
from tests.helpers import networks
from tests.helpers.parity import assert_parity

IDS = torch.arange(18).reshape(3, 6) % 11
CASES: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "lenet5": (networks.lenet5, torch.randn(3, 1, 28, 28)),
    "lenet300": (networks.lenet300, torch.randn(3, 1, 28, 28)),
    "resnet20": (networks.ResNet20, torch.randn(3, 3, 16, 16)),
    "depthwise": (networks.depthwise, torch.randn(3, 3, 16, 16)),
    "transformer": (networks.TransformerClassifier, IDS),
    "lstm": (networks.LSTMClassifier, torch.randn(3, 7, 4)),
    "gru": (networks.GRUTagger, torch.randn(3, 7, 4)),
    "bag of words": (networks.BagOfWords, IDS),
    "densenet": (networks.DenseNet, torch.randn(3, 3, 8, 8)),
    "unet": (networks.UNet, torch.randn(3, 1, 8, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_whole_networks(name: str) -> None:
    build, example = CASES[name]
    assert_parity(networks.seeded(build), example, batches=(1, 4))


@pytest.mark.parametrize(
    ("name", "most"), [("lenet5", 16), ("lenet300", 14), ("resnet20", 320), ("transformer", 420)]
)
def test_graphs_are_small(name: str, most: int) -> None:
    build, example = CASES[name]
    assert len(encode_graph(capture(networks.seeded(build), example).graph)) <= most


def test_lenet5_is_eight_operations_in_default_form() -> None:
    graph = capture(networks.lenet5(), torch.zeros(1, 1, 28, 28)).graph
    assert [node.op for node in graph.nodes] == [
        "conv",
        "max_pool",
        "conv",
        "max_pool",
        "flatten",
        "linear",
        "relu",
        "linear",
    ]
    assert all(not node.attrs for node in graph.nodes)


def test_the_same_network_gives_the_same_bytes() -> None:
    build, example = CASES["transformer"]
    first, second = (encode_graph(capture(networks.seeded(build), example).graph) for _ in range(2))
    assert first == second
