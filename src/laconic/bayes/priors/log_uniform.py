r"""The log-uniform prior :math:`p(|w|) \propto 1/|w|` (Kingma et al. 2015; Molchanov et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from laconic.bayes.priors.checks import check_flags, check_tuples
from laconic.errors import InputError


@dataclass(frozen=True)
class LogUniform:
    r"""A flat prior on :math:`\log|w|`: :math:`p(|w|) \propto 1/|w|`. It has no normaliser (``improper``).

    Its KL is known up to a constant, here chosen so that it goes to 0 as the noise exceeds the mean; it is
    therefore no code length. By default it is the sigmoid fit of Molchanov et al. 2017, eq. 14.

    Args:
        exact: Take the Poisson-digamma series in place of the fit, which is within 0.008 nat of it up to the
            constant, for log alpha in [-8, 8].
        cubic: Take the third-degree polynomial of Kingma et al. 2015 (appendix C) in place of the fit. It
            holds for :math:`\alpha \le 1`, and is flat above.
        clamp: Bounds to which log alpha is clipped first, as published code does with (-8, 8); the gradient
            is zero outside. None for no bounds.

    Raises:
        InputError: Bounds that do not rise; both ``exact`` and ``cubic``.

    >>> LogUniform(clamp=(-8.0, 8.0)).improper
    True
    """

    improper: ClassVar[bool] = True
    exact: bool = False
    clamp: tuple[float, float] | None = None
    cubic: bool = False

    def __post_init__(self) -> None:
        check_flags(self, "exact", "cubic")
        check_tuples(self, clamp="(-8.0, 8.0)")
        if self.exact and self.cubic:
            raise InputError("the exact KL is no polynomial. Cure: exact=True or cubic=True")
        if self.clamp is not None and not (len(self.clamp) == 2 and self.clamp[0] < self.clamp[1]):
            raise InputError(
                f"clamp must be (low, high) with low < high, got {self.clamp}. Cure: the default clamp"
            )

    def log_density(self, weights: Tensor) -> Tensor:
        r""":math:`-\log|w|` by weight, nats, up to a constant; infinite at zero.

        Args:
            weights: Any shape.

        Returns:
            Of that shape.
        """
        return -weights.abs().log()
