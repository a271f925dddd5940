"""A built-in network's row: its name, its class, its usual data and training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from laconic.registry import NETWORKS, Entry
from laconic.zoo.recipes import DIGITS, TrainRecipe

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["NetworkEntry", "find_network"]


@dataclass(frozen=True)
class NetworkEntry(Entry):
    """A built-in network's row: what the command line and the help read.

    Args:
        name: Its name in a run file and at the command line.
        kind: Its class, whose constructor takes ``generator``.
        data: The name of the data set that it is for.
        recipe: Its usual training.

    >>> entry = find_network("digits-mlp")
    >>> entry.name, entry.kind.__name__, entry.data, entry.recipe.epochs
    ('digits-mlp', 'DigitsMLP', 'digits', 30)
    """

    data: str = "digits"
    recipe: TrainRecipe = DIGITS

    def build(self, generator: torch.Generator) -> nn.Module:
        """The network with weights drawn from ``generator``."""
        made: nn.Module = self.kind(generator=generator)
        return made


def find_network(name: str) -> NetworkEntry:
    """The built-in network of this name.

    Args:
        name: A registered name, or a module, a colon and a class or function in it.

    Returns:
        Its row.

    Raises:
        InputError: No such network, with the name that may have been meant.

    >>> find_network("digits-cnn").data
    'digits'
    """
    found = NETWORKS.find(name)
    return found if isinstance(found, NetworkEntry) else NetworkEntry(name, found)
