"""Weights of the first stage's training that later stages start from again (Frankle & Carbin 2019,
1803.03635).

"The lottery ticket hypothesis" prunes a trained network and trains what is left anew from the weights that
it had at the beginning, or early in training (Frankle et al. 2020, "Linear mode connectivity and the lottery
ticket hypothesis").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from laconic.errors import ModelError, RunFolderError
from laconic.methods.contract import Compressed
from laconic.networks import duplicate
from laconic.train.checkpoint import load_checkpoint, save_checkpoint
from laconic.train.run_folder import RunFolder

if TYPE_CHECKING:
    from laconic.train.job import Stage


class Snapshots:
    """The plain weights and buffers after some epochs of the first stage; in the run folder, where there is
    one.
    """

    def __init__(self, model: nn.Module, epochs: set[int], folder: RunFolder | None) -> None:
        self._names = tuple(model.state_dict())
        self._epochs = epochs
        self._folder = folder
        self._kept: dict[int, dict[str, Tensor]] = {}
        if 0 in epochs:
            self._kept[0] = {n: v.detach().cpu().clone() for n, v in model.state_dict().items()}

    def take(self, net: nn.Module, epoch: int) -> None:
        """Keep the weights of the prepared network if a stage rewinds to this epoch (the first is 1)."""
        if epoch not in self._epochs:
            return
        state = net.state_dict()
        found = {name: state[name].detach().cpu().clone() for name in self._names if name in state}
        self._kept[epoch] = found
        if self._folder is not None:
            save_checkpoint(self._folder.path(rewind_name(epoch)), found)

    def start(self, previous: Compressed, stage: Stage, number: int) -> nn.Module:
        """The network that a stage starts with: the previous stage's, with the weights that it rewinds to.

        Raises:
            ModelError: A layer of which the stage before has removed units.
            RunFolderError: A folder that lacks the weights.
        """
        model = duplicate(previous.module)
        if stage.rewind_to is None:
            return model
        weights = self._of(stage.rewind_to)
        own = model.state_dict()
        for name, value in own.items():
            if name not in weights or weights[name].shape != value.shape:
                was = tuple(weights[name].shape) if name in weights else "none"
                raise ModelError(
                    f"stage {number + 1} rewinds to epoch {stage.rewind_to}, but the stage before changed "
                    f"{name!r} from "
                    f"shape {was} to {tuple(value.shape)}. Cure: rewind_to=None, or a method that removes "
                    "weights, "
                    "not units, before it"
                )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(weights[name])
        return model

    def _of(self, epoch: int) -> dict[str, Tensor]:
        if epoch in self._kept:
            return self._kept[epoch]
        found = None if self._folder is None else load_checkpoint(self._folder.path(rewind_name(epoch)))
        if found is None:
            raise RunFolderError(
                f"the run folder lacks {rewind_name(epoch)}, the weights that a stage rewinds to. "
                "Cure: delete the folder's checkpoints, and --resume: the first stage is trained again"
            )
        return found


def rewind_name(epoch: int) -> str:
    """The file in a run folder that holds the weights after so many epochs of the first stage."""
    return f"rewind-{epoch}.pt"


def is_rewind(name: str) -> bool:
    """Whether a file name is one of :func:`rewind_name`."""
    return re.fullmatch(r"rewind-\d+\.pt", name) is not None
