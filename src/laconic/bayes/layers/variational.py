"""What all holders share: whose noise, when to sample, and one draw of a weight per forward pass.

A holder is made by turning a plain layer's class into a subclass of it, in place: the layer keeps its
identity (a layer used in two places stays one), its hooks and its state-dict keys; its weight *is* the
posterior mean, and ``<weight>_log_var`` stands beside it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from laconic.bayes.functional import draw_weight
from laconic.errors import ModelError
from laconic.networks.noise import NoiseSource

LOG_VAR = "_log_var"


class Draws:
    """One prepared network's randomness, shared by all its holders.

    ``noise`` is the source; ``sampling`` makes layers in eval mode sample too (Monte Carlo prediction);
    ``muted`` makes layers in training mode compute with the means.
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
        """Whether this layer samples now: in training (unless muted), or anywhere under ``sampling``."""
        return (module.training and not self.muted) or self.sampling

    def weight(self, module: nn.Module, mean: Tensor, log_var: Tensor) -> Tensor:
        """The present pass's draw of a weight; its mean outside a pass and in eval mode."""
        if self._depth == 0 or not self.active(module):
            return mean
        if id(mean) not in self._drawn:
            self._drawn[id(mean)] = draw_weight(mean, log_var, self.noise.like(mean))
        return self._drawn[id(mean)]

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
    """Mixin of every holder: its draws and the names of its parameters that are posterior means."""

    _bayes_draws: Draws
    _bayes_names: tuple[str, ...]

    def bayes_samples(self) -> bool:
        """Whether a forward pass draws now."""
        return self._bayes_draws.active(self)

    def bayes_noise(self, t: Tensor) -> Tensor:
        """Fresh noise with the shape and layout of ``t``."""
        return self._bayes_draws.noise.like(t)

    def bayes_generator(self, t: Tensor) -> torch.Generator:
        """The generator for noise on the device of ``t``."""
        return self._bayes_draws.noise.generator(t.device)

    def bayes_log_var(self, name: str) -> nn.Parameter:
        """The log variance that belongs to parameter ``name``."""
        return self._parameters[name + LOG_VAR]  # type: ignore[return-value]


def become(
    module: nn.Module,
    holder: type[Variational],
    draws: Draws,
    log_vars: dict[str, nn.Parameter],
) -> None:
    """Turn ``module`` into ``holder`` in place, with these log variances by parameter name."""
    for name, log_var in log_vars.items():
        if hasattr(module, name + LOG_VAR):
            raise ModelError(
                f"{type(module).__name__} has an attribute {name + LOG_VAR!r} already: rename it"
            )
        module.register_parameter(name + LOG_VAR, log_var)
    module.__class__ = holder
    module.__dict__["_bayes_draws"] = draws
    module.__dict__["_bayes_names"] = tuple(log_vars)
