"""Which parameters are weights: all but biases, scales of single channels, and what the user keeps.

A weight that is trained gets a posterior (or a keep-mask), a frozen one is put on a grid as it is. All others
are deterministic: pruning a scale would remove its whole channel or branch and save a single number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from laconic.errors import InputError

Select = Callable[[str, nn.Parameter], bool]

NORMALISATIONS: tuple[type[nn.Module], ...] = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# Layers that multiply by a matrix, however narrow it is: the weight of Linear(1, 8) is no scale.
_MATRICES: tuple[type[nn.Module], ...] = (
    *(nn.Linear, nn.Bilinear, _ConvNd, nn.Embedding, nn.EmbeddingBag),
    *(nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention),
)


@dataclass(frozen=True)
class Policy:
    """What the user says of single parameters; entries are names of parameters or of the modules over them.

    ``keep``: stored exactly as they are: no posterior, no pruning, no grid. ``weights``: treated as weights
    although they scale one channel each (LayerScale, PReLU, normalisation) or are biases.

    >>> policy = Policy.of(keep="head", weights=["block.gamma"])
    >>> policy.keeps("head.weight"), policy.keeps("head2.weight"), policy.counts("block.gamma")
    (True, False, True)
    """

    keep: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()

    @classmethod
    def of(cls, keep: str | Iterable[str] = (), weights: str | Iterable[str] = ()) -> Policy:
        """From what a caller hands in: one name or several."""
        return cls(_entries("keep", keep), _entries("weights", weights))

    def keeps(self, name: str) -> bool:
        """Whether a parameter stays as it is."""
        return _covered(self.keep, name)

    def counts(self, name: str) -> bool:
        """Whether the user says that a parameter is a weight."""
        return _covered(self.weights, name)

    def keeping(self, keep: str | Iterable[str]) -> Policy:
        """The same with further entries to keep."""
        return replace(self, keep=(*self.keep, *_entries("keep", keep)))

    def check(self, names: Iterable[str]) -> None:
        """Raises InputError for an entry that is the name of nothing, and for one that is in both lists."""
        known = list(names)
        for field, entries in (("keep", self.keep), ("weights", self.weights)):
            for entry in entries:
                if not any(_covered((entry,), name) for name in known):
                    raise InputError(
                        f"{field} names {entry!r}, which is no parameter or module of the network. "
                        f"Cure: one of its names, for example {known[0]!r}, or the name of a module over it"
                    )
        both = next((name for name in known if self.keeps(name) and self.counts(name)), None)
        if both is not None:
            raise InputError(
                f"parameter {both!r} is in keep and in weights. Cure: take it out of one of them"
            )


def _entries(field: str, given: str | Iterable[str]) -> tuple[str, ...]:
    entries = (given,) if isinstance(given, str) else tuple(given)
    for entry in entries:
        if not isinstance(entry, str) or not entry:
            raise InputError(f"{field} holds {entry!r}. Cure: names of parameters or modules, as text")
    return entries


def _covered(entries: tuple[str, ...], name: str) -> bool:
    return any(name == entry or name.startswith(f"{entry}.") for entry in entries)


def is_bias(name: str) -> bool:
    """Whether the last part of a parameter's name says that it is a bias.

    >>> [is_bias(n) for n in ("fc.bias", "lstm.bias_ih_l0", "attn.in_proj_bias", "fc.weight", "unbiased")]
    [True, True, True, False, False]
    """
    return "bias" in name.rpartition(".")[2].split("_")


def scales_channels(module: nn.Module, parameter: nn.Parameter) -> bool:
    """Whether a parameter of ``module`` can only scale (or shift) channels one by one.

    So it is for normalisations' parameters, for a vector, and for what is longer than 1 along one dimension
    at most, unless its layer multiplies by matrices.

    >>> import torch
    >>> gamma, kernel = nn.Parameter(torch.ones(1, 8, 1, 1)), nn.Conv2d(8, 8, 1, groups=8)
    >>> scales_channels(nn.Module(), gamma), scales_channels(kernel, kernel.weight)
    (True, False)
    """
    if isinstance(module, NORMALISATIONS) or parameter.ndim < 2:
        return True
    return not isinstance(module, _MATRICES) and sum(n > 1 for n in parameter.shape) < 2


def is_weight(module: nn.Module, name: str, parameter: nn.Parameter, policy: Policy = Policy()) -> bool:
    """Whether parameter ``name``, owned by ``module``, is a weight, frozen or not.

    A single number of no dimension (a temperature, a logit scale) never is: nothing is saved by pruning it.
    """
    if not parameter.is_floating_point() or not parameter.ndim or not parameter.numel():
        return False
    if policy.keeps(name) or policy.counts(name):
        return not policy.keeps(name)
    return not is_bias(name) and not scales_channels(module, parameter)


def weights_by_module(
    net: nn.Module,
    select: Select | None = None,
    policy: Policy = Policy(),
    *,
    frozen: bool = False,
) -> dict[nn.Module, tuple[str, dict[str, nn.Parameter]]]:
    """By module: its name, and its own weights by their name within it; ``select`` may leave some out.

    Those that are trained, or with ``frozen`` those that are not. A parameter that one of its owners counts
    among the deterministic ones is a weight nowhere.
    """
    found: dict[nn.Module, tuple[str, dict[str, nn.Parameter]]] = {}
    excluded: set[int] = set()
    for prefix, module in net.named_modules():
        weights = {}
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            wanted = parameter.requires_grad is not frozen and is_weight(module, full, parameter, policy)
            if wanted and (select is None or select(full, parameter)):
                weights[name] = parameter
            else:
                excluded.add(id(parameter))
        found[module] = (prefix, weights)
    kept = {
        module: (prefix, {name: p for name, p in weights.items() if id(p) not in excluded})
        for module, (prefix, weights) in found.items()
    }
    return {module: (prefix, weights) for module, (prefix, weights) in kept.items() if weights}


def weights_of(
    model: nn.Module,
    select: Select | None = None,
    policy: Policy = Policy(),
    *,
    frozen: bool = False,
) -> dict[str, nn.Parameter]:
    """The parameters of a plain network that would get a posterior, by name; a shared one once.

    With ``frozen``: those that would, were they trained.

    >>> list(weights_of(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.PReLU(2))))
    ['0.weight']
    """
    found = weights_by_module(model, select, policy, frozen=frozen).values()
    wanted = {id(p) for _, weights in found for p in weights.values()}
    return {name: p for name, p in model.named_parameters() if id(p) in wanted}
