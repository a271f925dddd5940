"""What all scores share: their two shapes, runs in evaluation mode, checks of loaders and of numbers.

A higher score means *keep*. Scores of weights are one tensor per parameter, of its shape. Scores of groups
are one float64 number per unit of each coupled group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from laconic.errors import DataError, ModelError, NonFiniteError
from laconic.networks import computed_weights
from laconic.networks.modes import evaluating

WeightScores = dict[str, Tensor]
UnitScores = npt.NDArray[np.float64]
GroupScores = dict[str, UnitScores]
Forward = Callable[[nn.Module, Any], Any]
Loss = Callable[[nn.Module, Any], Tensor]

T = TypeVar("T", bound=Mapping[str, Any])


def first_input(module: nn.Module, batch: Any) -> Any:
    """Run the network on a batch: on the tensor, or on the first item of a tuple or list (inputs, labels)."""
    return module(batch[0] if isinstance(batch, (tuple, list)) else batch)


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    """Every floating-point parameter, detached; a shared one once, under the name that groups use.

    Raises ModelError where the network computes weights from others: groups name the weights themselves.
    """
    _check_plain(module)
    return {name: p.detach() for name, p in module.named_parameters() if p.is_floating_point()}


def _check_plain(module: nn.Module) -> None:
    computed = computed_weights(module)
    if computed:
        raise ModelError(
            f"{computed[0]!r} is computed from other parameters (a norm, a parametrisation, a pruning mask), "
            "so it has no score of its own. Cure: score laconic.networks.folded(network)[0], which holds it "
            "as a plain weight"
        )


def batches(loader: Iterable[Any], what: str) -> Iterator[Any]:
    """The loader's batches. Raises DataError when there is none."""
    empty = True
    for batch in loader:
        empty = False
        yield batch
    if empty:
        raise DataError(
            f"{what}: the loader gave no batch. Cure: hand in a list or a DataLoader that is not empty (an "
            "iterator can be walked only once)"
        )


def finite(scores: T, what: str) -> T:
    """The scores, if all are finite. Raises NonFiniteError naming the first layer or group that is not."""
    for name, values in scores.items():
        array = values.detach() if isinstance(values, Tensor) else torch.as_tensor(values)
        bad = int((~torch.isfinite(array)).sum())
        if bad:
            raise NonFiniteError(
                f"{what}: {bad} of {array.numel()} scores of {name!r} are not finite. Cure: look for NaN or "
                "infinity in its weights and in the batches"
            )
    return scores


@contextmanager
def at_rest(module: nn.Module, *, gradients: bool = False) -> Iterator[dict[str, Tensor]]:
    """The network in evaluation mode; ``gradients``: every parameter requires them. Restored afterwards.

    Gives the floating-point parameters by name. Raises ModelError as :func:`parameters_of` does.
    """
    _check_plain(module)
    named = {name: p for name, p in module.named_parameters() if p.is_floating_point()}
    wanted = [(p, p.requires_grad) for p in named.values()]
    try:
        if gradients:
            for p, _ in wanted:
                p.requires_grad_(True)
        # cuDNN's recurrent layers give gradients in training mode only.
        cudnn = torch.backends.cudnn.flags(enabled=not gradients)
        with evaluating(module), torch.set_grad_enabled(gradients), cudnn:
            yield dict(named)
    finally:
        for p, required in wanted:
            p.requires_grad_(required)


def gradients_of(
    value: Tensor, parameters: Mapping[str, Tensor], *, again: bool = False
) -> dict[str, Tensor]:
    """Derivatives of ``value`` by parameter, zero where there is no path; ``again`` keeps the graph."""
    found = torch.autograd.grad(value, list(parameters.values()), retain_graph=again, allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g.detach()
        for (name, p), g in zip(parameters.items(), found, strict=True)
    }
