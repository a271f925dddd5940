r"""A scale mixture: weights times a scale that their unit shares (Louizos, Ullrich & Welling 2017, eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from laconic.bayes.priors.checks import check_kind
from laconic.bayes.priors.log_uniform import LogUniform
from laconic.bayes.priors.normal import Normal
from laconic.bayes.priors.prior import Prior


@dataclass(frozen=True)
class ScaleMixture:
    r""":math:`w = z\tilde w` with a prior of the weights and one of the scales (Louizos et al. 2017, eq. 2).

    By default standard normal weights with log-uniform scales: the normal-Jeffreys prior of the paper's
    section 4.1. It goes with the posterior :class:`laconic.bayes.Scaled` alone, which says what shares a
    scale.

    Args:
        weights: The prior of :math:`\tilde w`.
        scale: The prior of z.

    Raises:
        InputError: A part that is no prior.

    >>> ScaleMixture().improper, ScaleMixture(scale=Normal(mean=1.0)).improper
    (True, False)
    """

    weights: Prior = field(default_factory=Normal)
    scale: Prior = field(default_factory=LogUniform)

    def __post_init__(self) -> None:
        for name, cure in (("weights", "Normal()"), ("scale", "LogUniform()")):
            check_kind(self, name, Prior, "a prior", cure)

    @property
    def improper(self) -> bool:
        """Whether one of the two has no normaliser."""
        return self.weights.improper or self.scale.improper
