"""Where a prepared network's randomness comes from: generators of its own, never the global one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from laconic.bayes.functional import standard_normal_like
from laconic.errors import InputError


class NoiseSource:
    """Standard normal noise from one seed, with one generator per device, made when first needed.

    A deep copy continues the same stream on its own. ``get_state`` returns plain numbers and tensors.

    >>> a, b = NoiseSource(1), NoiseSource(1)
    >>> bool((a.like(torch.zeros(2, 3)) == b.like(torch.zeros(2, 3))).all())
    True
    """

    def __init__(self, seed: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise InputError(f"seed must be an integer in [0, 2^63), got {seed!r}")
        self.seed = seed
        self._generators: dict[str, torch.Generator] = {}

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """The generator of one device."""
        name = str(device)
        if name not in self._generators:
            self._generators[name] = torch.Generator(device=device).manual_seed(self.seed)
        return self._generators[name]

    def like(self, t: Tensor) -> Tensor:
        """Noise with the shape, layout, type and device of ``t``."""
        return standard_normal_like(t, self.generator(t.device))

    def get_state(self) -> dict[str, Any]:
        """The seed and each generator's state, safe to store with ``torch.save`` and to load weights-only."""
        return {
            "seed": self.seed,
            "generators": {name: g.get_state() for name, g in self._generators.items()},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`get_state`; raises InputError for anything else."""
        if not isinstance(state, dict) or set(state) != {"seed", "generators"}:
            raise InputError(
                "no noise state: it must hold 'seed' and 'generators', as get_state() gives them"
            )
        self.seed = int(state["seed"])
        self._generators = {}
        for name, bits in state["generators"].items():
            self.generator(name).set_state(bits.cpu())

    def __deepcopy__(self, memo: dict[int, Any]) -> NoiseSource:
        twin = _rebuilt(self.get_state())
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.get_state(),)


def _rebuilt(state: dict[str, Any]) -> NoiseSource:
    source = NoiseSource(state["seed"])
    source.set_state(state)
    return source
