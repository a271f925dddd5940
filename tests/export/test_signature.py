"""Names of what goes in, from ``forward``'s parameters and the keys of an example."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from laconic.export.build import build_packed
from laconic.export.graph_capture import capture
from laconic.export.signature import input_names
from laconic.runtime import Network

X = torch.randn(2, 4)


class Many(nn.Module):
    def forward(self, image: torch.Tensor, *more: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return image * scale + sum(more)


def test_input_names() -> None:
    assert input_names(Many(), X) == ("image",)
    assert input_names(Many(), (X, X, X)) == ("image", "more_1", "more_2")
    assert input_names(nn.Bilinear(2, 2, 2), {"input2": X, "input1": X, "flag": True}) == ("input1", "input2")
    assert input_names(nn.Sequential(nn.ReLU()), [X]) == ("input",)


def test_a_lone_x_takes_no_byte_and_answers_to_its_name() -> None:
    class Named(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    module = Named(4, 2)
    model = build_packed(module, {}, X)[0]
    assert model.graph == capture(nn.Linear(4, 2), X).graph
    network = Network.from_packed(model)
    for y in (network(x=X.numpy()), network(input=X.numpy())):
        np.testing.assert_allclose(np.asarray(y), module(X).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_graph_has_the_names() -> None:
    graph = capture(Many(), (X, X)).graph
    assert graph.input_names == ("image", "more_1") and graph.output_names == () and not graph.keyed
