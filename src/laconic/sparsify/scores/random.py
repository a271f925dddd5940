"""Random scores: the baseline for every other score.

Source: Blalock et al., What is the State of Neural Network Pruning?, MLSys 2020 (random pruning as a
baseline).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from laconic.networks.evaluation import parameters_of
from laconic.sparsify.scores.common import GroupScores, WeightScores
from laconic.structure.coupling.groups import Coupling


def random_weights(module: nn.Module, generator: torch.Generator) -> WeightScores:
    """Uniform in [0, 1), drawn on the CPU parameter by parameter.

    Args:
        module: The network.
        generator: Draws the numbers.

    Returns:
        By parameter, a tensor of its shape, on its device.

    >>> random_weights(nn.Linear(2, 3), torch.Generator().manual_seed(0))["weight"].shape
    torch.Size([3, 2])
    """
    return {
        name: torch.rand(w.shape, generator=generator).to(w.device)
        for name, w in parameters_of(module).items()
    }


def random_groups(coupling: Coupling, rng: np.random.Generator) -> GroupScores:
    """Uniform in [0, 1), drawn group by group.

    Args:
        coupling: The network's groups.
        rng: Draws the numbers.

    Returns:
        By group, one number per unit.

    >>> from laconic.structure import Group
    >>> random_groups(Coupling((Group("w:0", 3, ()),)), np.random.default_rng(0))["w:0"].shape
    (3,)
    """
    return {g.name: rng.random(g.size) for g in coupling.groups}
