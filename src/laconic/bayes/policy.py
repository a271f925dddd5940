"""Which parameters get a posterior: all but biases, normalisations' affine part, scalars and frozen ones."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

Select = Callable[[str, nn.Parameter], bool]

NORMALISATIONS: tuple[type[nn.Module], ...] = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def is_bias(name: str) -> bool:
    """Whether the last part of a parameter's name says that it is a bias.

    >>> [is_bias(n) for n in ("fc.bias", "lstm.bias_ih_l0", "attn.in_proj_bias", "fc.weight", "unbiased")]
    [True, True, True, False, False]
    """
    return "bias" in name.rpartition(".")[2].split("_")


def is_weight(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Whether parameter ``name``, owned by ``module``, gets a posterior.

    A single number of no dimension (a temperature, a logit scale) does not: nothing is saved by pruning it.
    """
    if not parameter.requires_grad or not parameter.is_floating_point() or parameter.ndim == 0:
        return False
    return not is_bias(name) and not isinstance(module, NORMALISATIONS)


def weights_by_module(
    net: nn.Module, select: Select | None = None
) -> dict[nn.Module, tuple[str, dict[str, nn.Parameter]]]:
    """By module: its name, and its own weights by their name within it; ``select`` may leave some out.

    A parameter that one of its owners counts among the deterministic ones is a weight nowhere.
    """
    found: dict[nn.Module, tuple[str, dict[str, nn.Parameter]]] = {}
    spared: set[int] = set()
    for prefix, module in net.named_modules():
        weights = {}
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            if is_weight(module, full, parameter) and (select is None or select(full, parameter)):
                weights[name] = parameter
            else:
                spared.add(id(parameter))
        found[module] = (prefix, weights)
    kept = {
        module: (prefix, {name: p for name, p in weights.items() if id(p) not in spared})
        for module, (prefix, weights) in found.items()
    }
    return {module: (prefix, weights) for module, (prefix, weights) in kept.items() if weights}


def weights_of(model: nn.Module, select: Select | None = None) -> dict[str, nn.Parameter]:
    """The parameters of a plain network that would get a posterior, by name; a shared one once.

    >>> list(weights_of(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))))
    ['0.weight']
    """
    wanted = {id(p) for _, weights in weights_by_module(model, select).values() for p in weights.values()}
    return {name: p for name, p in model.named_parameters() if id(p) in wanted}
