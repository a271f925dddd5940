r"""Log-normal gates under a half-Cauchy prior: BC-GHS (Louizos, Ullrich & Welling, NIPS 2017, section 4.2).

.. math:: z_i = s\,\tilde z_i,\qquad s \sim C^+(0, \tau_0),\qquad \tilde z_i \sim C^+(0, 1)

The units of a group share the global scale s. With weights :math:`\tilde w \sim N(0, 1)` the products
:math:`w_{ij} = z_i\tilde w_{ij}` have the horseshoe prior of their group. Each half-Cauchy variable is the
root of a Gamma times an inverse Gamma variable (:class:`laconic.bayes.HalfCauchy`), and each of the four has
a log-normal posterior (:class:`laconic.bayes.LogNormalPair`), so that

.. math:: \log z_i \sim N\big(\tfrac12[\mu_{s_a} + \mu_{s_b} + \mu_{a_i} + \mu_{b_i}],\;
          \tfrac14[\sigma^2_{s_a} + \sigma^2_{s_b} + \sigma^2_{a_i} + \sigma^2_{b_i}]\big)

All KLs have closed forms and the prior is proper, so that their sum is a code length. A unit is removed when
the mode of its z, :math:`e^{\mu_z - \sigma_z^2}`, is small beside the largest of its group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from laconic.bayes.gates.gate import Gate, Uniform
from laconic.bayes.kl import kl_divergence
from laconic.bayes.posteriors import LogNormalPair
from laconic.bayes.priors import HalfCauchy
from laconic.errors import InputError


@dataclass(frozen=True, eq=False)
class Horseshoe(Gate):
    r"""Log-normal gates with local and global half-Cauchy scales.

    Args:
        a_mean: :math:`\mu` of the Gamma factor's logarithm, shape (units,).
        a_log_var: Its :math:`\log\sigma^2`.
        b_mean: :math:`\mu` of the inverse Gamma factor's logarithm.
        b_log_var: Its :math:`\log\sigma^2`.
        global_a_mean: The same four of the scale that all units share, shape (1,).
        global_a_log_var: See above.
        global_b_mean: See above.
        global_b_log_var: See above.
        tau: :math:`\tau_0`, scale of the global half-Cauchy prior.
        threshold: Logarithm of the mode, against the largest of the group, below which a unit is removed.

    Raises:
        InputError: Local parameters of different shapes, or a tau that is not above 0.

    >>> gate = Horseshoe.open(2)
    >>> [round(z, 3) for z in gate.mode().tolist()], gate.keep().tolist()
    ([1.0, 1.0], [True, True])
    """

    a_mean: Tensor
    a_log_var: Tensor
    b_mean: Tensor
    b_log_var: Tensor
    global_a_mean: Tensor
    global_a_log_var: Tensor
    global_b_mean: Tensor
    global_b_log_var: Tensor
    tau: float = 1e-5
    threshold: float = -3.0

    def __post_init__(self) -> None:
        local = {tuple(t.shape) for t in (self.a_mean, self.a_log_var, self.b_mean, self.b_log_var)}
        if len(local) > 1 or not 0 < self.tau < math.inf or math.isnan(self.threshold):
            raise InputError(
                "horseshoe gates need local parameters of one shape, tau > 0 and a threshold, got shapes "
                f"{sorted(local)}, {self.tau} and {self.threshold}. Cure: four local parameters of one "
                "shape, tau=1e-5, threshold=-3"
            )

    @classmethod
    def open(cls, units: int, log_var: float = -9.0, tau: float = 1e-5) -> Horseshoe:
        r"""Gates near 1 with little noise.

        The inverse Gamma factor of the shared scale, whose prior has the heavy tail, makes up for tau: it
        costs a group :math:`-\log\tau_0` nats once. At -9 the logarithm of z has variance :math:`e^{-9}`.
        """

        def full(size: int, value: float) -> nn.Parameter:
            return nn.Parameter(torch.full((size,), value))

        return cls(
            full(units, 0.0),
            full(units, log_var),
            full(units, 0.0),
            full(units, log_var),
            full(1, 2 * math.log(tau)),
            full(1, log_var),
            full(1, -2 * math.log(tau)),
            full(1, log_var),
            tau=tau,
        )

    def sample(self, noise: Uniform) -> Tensor:
        """A draw of the shared scale times draws of the local ones."""
        return self._local().rsample(noise) * self._global().rsample(noise)

    def expectation(self) -> Tensor:
        r""":math:`E[z] = e^{\mu_z + \sigma_z^2/2}`."""
        mean, variance = self._log_moments()
        return (mean + 0.5 * variance).exp()

    def variance(self) -> Tensor:
        r""":math:`(e^{\sigma_z^2} - 1)\,E[z]^2`."""
        return self._log_moments()[1].expm1() * self.expectation().square()

    def penalty(self) -> Tensor:
        """The KL of each local scale, and an equal share of the shared scale's, nats."""
        local = kl_divergence(self._local(), HalfCauchy())
        return local + kl_divergence(self._global(), HalfCauchy(self.tau)).sum() / local.numel()

    def keep(self) -> Tensor:
        """The units whose mode reaches the threshold."""
        return self.score() >= self.threshold

    def score(self) -> Tensor:
        """The logarithm of the mode, against the largest of the group."""
        log_mode = self._log_mode()
        return log_mode - log_mode.max()

    def mode(self) -> Tensor:
        r""":math:`e^{\mu_z - \sigma_z^2}`."""
        return self._log_mode().exp()

    def _log_mode(self) -> Tensor:
        mean, variance = self._log_moments()
        return mean - variance

    def clamp(self, low: float, high: float) -> None:
        """Keep log variances inside [low, high], in place."""
        with torch.no_grad():
            for t in (self.a_log_var, self.b_log_var, self.global_a_log_var, self.global_b_log_var):
                t.clamp_(low, high)

    def _local(self) -> LogNormalPair:
        return LogNormalPair(self.a_mean, self.a_log_var, self.b_mean, self.b_log_var)

    def _global(self) -> LogNormalPair:
        return LogNormalPair(
            self.global_a_mean, self.global_a_log_var, self.global_b_mean, self.global_b_log_var
        )

    def _log_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of log z."""
        mean, variance = self._local().log_moments()
        shared_mean, shared_variance = self._global().log_moments()
        return mean + shared_mean, variance + shared_variance
