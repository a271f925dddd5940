"""Run a network over batches in evaluation mode, with its modes and gradients restored afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from laconic.errors import DataError, ModelError
from laconic.networks.copies import computed_weights

Forward = Callable[[nn.Module, Any], Any]


def first_input(module: nn.Module, batch: Any) -> Any:
    """Run the network on a batch: on the tensor, or on the first item of a tuple or list (inputs, labels)."""
    return module(batch[0] if isinstance(batch, (tuple, list)) else batch)


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    """Every floating-point parameter, detached; a shared one once, under its first name.

    Raises ModelError where the network computes weights from others.
    """
    _check_plain(module)
    return {name: p.detach() for name, p in module.named_parameters() if p.is_floating_point()}


def _check_plain(module: nn.Module) -> None:
    computed = computed_weights(module)
    if computed:
        raise ModelError(
            f"{computed[0]!r} is computed from other parameters (a norm, a parametrisation, a pruning mask), "
            "so it cannot be looked at by itself. Cure: hand in laconic.networks.folded(network)[0], which "
            "holds it as a plain weight"
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


@contextmanager
def at_rest(module: nn.Module, *, gradients: bool = False) -> Iterator[dict[str, Tensor]]:
    """The network in evaluation mode; ``gradients``: every parameter requires them. Restored afterwards.

    Gives the floating-point parameters by name. Raises ModelError as :func:`parameters_of` does.
    """
    _check_plain(module)
    modes = [(part, part.training) for part in module.modules()]
    named = {name: p for name, p in module.named_parameters() if p.is_floating_point()}
    wanted = [(p, p.requires_grad) for p in named.values()]
    try:
        module.eval()
        if gradients:
            for p, _ in wanted:
                p.requires_grad_(True)
        # cuDNN's recurrent layers give gradients in training mode only.
        with torch.set_grad_enabled(gradients), torch.backends.cudnn.flags(enabled=not gradients):
            yield dict(named)
    finally:
        for part, training in modes:
            part.training = training
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
