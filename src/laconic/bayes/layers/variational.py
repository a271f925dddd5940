"""What all variational layers share: the source of noise, when to sample, one draw of a weight per pass.

A plain layer becomes variational in place: its class is replaced by a subclass. The layer stays the same
object (a layer used in two places stays one) with its hooks and its state-dict keys. Its weight is the
posterior's mean, and the posterior's other parameters are added to it as ``<weight>_<suffix>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from laconic.bayes.posteriors import Posterior
from laconic.errors import ModelError
from laconic.networks.noise import NoiseSource


class Draws:
    """One prepared network's randomness, shared by all its variational layers.

    ``noise`` is the source; ``sampling`` makes all layers, in eval mode too, compute with whole draws of
    their weights (Monte Carlo prediction); ``muted`` makes layers in training mode compute with the means.
    Between :meth:`open` and :meth:`close`, which hooks call around a forward pass, a whole-weight draw is
    made once and kept, so that all uses of a weight in one pass see the same one.
    """

    def __init__(self, noise: NoiseSource) -> None:
        self.noise = noise
        self.sampling = False
        self.muted = False
        self._depth = 0
        self._drawn: dict[int, Tensor] = {}

    def active(self, module: nn.Module) -> bool:
        """Whether this layer trains with noise now: in training mode, unless muted or under ``sampling``."""
        return module.training and not self.muted and not self.sampling

    @property
    def passing(self) -> bool:
        """Whether a forward pass is running."""
        return self._depth > 0

    def weight(self, parameter: Tensor, q: Posterior) -> Tensor:
        """The present pass's draw of a weight; outside a pass a new one."""
        if not self.passing:
            return q.rsample(self.noise)
        if id(parameter) not in self._drawn:
            self._drawn[id(parameter)] = q.rsample(self.noise)
        return self._drawn[id(parameter)]

    def open(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook."""
        self._depth += 1

    def close(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook, also called when the pass failed."""
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            self._drawn.clear()

    def watch(self, module: nn.Module) -> None:
        """Open and close around this module's forward."""
        module.register_forward_pre_hook(self.open)
        module.register_forward_hook(self.close, always_call=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_depth": 0, "_drawn": {}}


class Variational(nn.Module):
    """Mixin of every variational layer: its draws, and by name the posteriors of its weights.

    >>> from laconic.bayes.layers.linear import BayesLinear
    >>> from laconic.bayes.posteriors import GaussianFamily
    >>> layer = nn.Linear(2, 3)
    >>> q = GaussianFamily()("weight", layer.weight)
    >>> become(layer, BayesLinear, Draws(NoiseSource(0)), {"weight": q})
    >>> layer.bayes_names(), sorted(layer.state_dict())
    (('weight',), ['bias', 'weight', 'weight_log_var'])
    """

    _bayes_draws: Draws
    _bayes_posteriors: dict[str, tuple[Posterior, tuple[str, ...]]]  # a posterior, and its suffixes

    def bayes_samples(self) -> bool:
        """Whether a forward pass of training draws now; under ``sampling`` the weights are draws already."""
        return self._bayes_draws.active(self)

    def bayes_noise(self, t: Tensor) -> Tensor:
        """Fresh noise with the shape and layout of ``t``."""
        return self._bayes_draws.noise.like(t)

    def bayes_generator(self, t: Tensor) -> torch.Generator:
        """The generator for noise on the device of ``t``."""
        return self._bayes_draws.noise.generator(t.device)

    def bayes_names(self) -> tuple[str, ...]:
        """The names of this layer's own weights that have a posterior."""
        return tuple(self._bayes_posteriors)

    def bayes_posterior(self, name: str) -> Posterior:
        """The posterior of weight ``name``, over the parameters that the layer holds now."""
        like, suffixes = self._bayes_posteriors[name]
        own: Any = self._parameters
        return like.with_parameters({suffix: own[name + suffix] for suffix in suffixes})

    def bayes_mean(self, name: str) -> Tensor:
        """The mean of weight ``name`` as a pass sees it (under ``sampling`` its draw), times what multiplies
        the weight.
        """
        return (
            self.bayes_draw(name) if self._bayes_draws.sampling else self.bayes_posterior(name).expectation()
        )

    def bayes_draw(self, name: str) -> Tensor:
        """The present pass's draw of weight ``name``; the padding row of a table has no noise."""
        q = self.bayes_posterior(name)
        parameter: Any = self._parameters[name]
        draw = self._bayes_draws.weight(parameter, q)
        padding = self.padding_idx if isinstance(self, nn.Embedding | nn.EmbeddingBag) else None
        if padding is None:
            return draw
        row = torch.tensor([padding], device=draw.device)
        return draw.index_copy(0, row, q.expectation()[padding : padding + 1])

    def bayes_moments(self, name: str) -> tuple[Tensor, Tensor]:
        """Mean and variance of weight ``name`` as a pass sees it, given what multiplies the weight."""
        return self.bayes_posterior(name).moments()

    def bayes_std(self, name: str, pick: Callable[[Tensor], Tensor]) -> Tensor:
        """Standard deviations of those of the weights that ``pick`` takes, as a pass sees them."""
        return self.bayes_posterior(name).std_of(pick)


def become(
    module: nn.Module,
    kind: type[Variational],
    draws: Draws,
    posteriors: Mapping[str, Posterior],
) -> None:
    """Change the class of ``module`` to ``kind`` in place, with these posteriors by parameter name."""
    found: dict[str, tuple[Posterior, tuple[str, ...]]] = {}
    for name, q in posteriors.items():
        parameters = q.parameters()
        for suffix, parameter in parameters.items():
            if not suffix:
                continue
            if hasattr(module, name + suffix):
                raise ModelError(
                    f"{type(module).__name__} has an attribute {name + suffix!r} already. Cure: rename it"
                )
            module.register_parameter(name + suffix, cast(nn.Parameter, parameter))
        found[name] = (q, tuple(parameters))
    module.__class__ = kind
    module.__dict__["_bayes_draws"] = draws
    module.__dict__["_bayes_posteriors"] = found
