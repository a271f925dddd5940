"""How the curvature of a trained network is estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from laconic.errors import InputError
from laconic.tasks.predictive import Gaussian

Kind = Literal["auto", "exact", "sampled", "empirical"]


@dataclass(frozen=True)
class FisherSettings:
    """How the Fisher information of a trained network is estimated.

    Args:
        kind: "exact": one backward pass for each example and output, with the Hessian's square root.
            "sampled": its random projections, ``draws`` backward passes for ``examples`` examples.
            "empirical": gradients at the batches' own labels, one backward pass an example (Kunstner et al.
            2019 say how it misleads). "auto": exact up to ``exact_outputs`` outputs an example, else sampled.
        draws: Backward passes of the sampled estimate for each group of examples, >= 1.
        examples: Examples in one backward pass of the sampled estimate, >= 1: fewer cost more and vary less.
            With four draws of four, a keyword spotter's estimate from 200 clips was as near to that of 400
            others as the exact one from 200 was (0.64 and 0.61 deviations of log curvature, weight by
            weight), at a seventh of the time.
        exact_outputs: Outputs an example up to which "auto" is exact.
        positions: Positions of one call, at most, that the squares of a weight's inputs are from; 0: all.
        temperature: T > 0: logits are divided by it. At 1 the information is that of the network's own
            predictions: it predicts the KL divergence of small moves (LeNet-300-100 rounded to 0.003 nats:
            0.004 predicted), and far too little of large ones, more so where the network is overconfident.

    Raises:
        InputError: A setting outside its bounds; a temperature other than 1 for the empirical estimate.

    >>> FisherSettings(kind="sampled", draws=2).temperature
    1.0

    Source: Kunstner et al., Limitations of the Empirical Fisher Approximation, NeurIPS 2019.
    """

    kind: Kind = "auto"
    draws: int = 4
    examples: int = 4
    exact_outputs: int = 4
    positions: int = 0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(
                f"kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}"
                f". Cure: kind='{get_args(Kind)[0]}'"
            )
        for name, least in (("draws", 1), ("examples", 1), ("exact_outputs", 0), ("positions", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(
                    f"{name} must be a whole number >= {least}, got {value!r}. Cure: {name}={max(1, least)}"
                )
        Gaussian(temperature=self.temperature)  # its check
        if self.kind == "empirical" and self.temperature != 1:
            raise InputError(
                "the empirical Fisher information has no temperature. Cure: kind='exact' or 'sampled'"
            )


AUTO = FisherSettings()
