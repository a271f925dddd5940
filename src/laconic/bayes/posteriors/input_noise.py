r"""Dropout as a posterior: weights that read one input share a random factor (Kingma et al. 2015, 3.2).

:math:`w_{ij} = \theta_{ij} s_j` with :math:`E\,s_j = 1` and :math:`Var\,s_j = \alpha_j`. Multiplying weight
column j by :math:`s_j` is multiplying input j by it, so dropout on a layer's inputs is correlated noise on
its weights, of given :math:`\theta`. Gaussian: :math:`s_j \sim N(1, \alpha_j)`. Bernoulli with the rate p
(Gal & Ghahramani 2016): :math:`s_j` is 0 with probability p, else 1/(1 - p), so :math:`\alpha = p/(1-p)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from laconic.bayes.posteriors.posterior import Noise, Posterior
from laconic.errors import InputError


@dataclass(frozen=True, eq=False)
class InputNoise(Posterior):
    r"""Weights times one random factor by input: :math:`w_{ij} = \theta_{ij} s_j` (Kingma et al. 2015, 3.2).

    Args:
        mean: :math:`\theta`, shape of the weight.
        log_alpha: :math:`\log\alpha`: one number, or one for each input, of length 1 along all axes but
            ``axis``.
        axis: The axis of the weight along which it reads inputs.
        units: Number of inputs that have a factor of their own (None: the weight's length along ``axis``; a
            grouped convolution has that for each group).
        bernoulli: Whether the factors are 0 or 1/(1 - p); their rates are then not learned.

    Raises:
        InputError: A shape of ``log_alpha`` that is neither.

    >>> q = InputNoise(torch.tensor([[2.0, 0.5]]), torch.tensor(0.0), bernoulli=True)
    >>> q.moments()[1].tolist()
    [[4.0, 0.25]]
    """

    independent: ClassVar[bool] = False
    on_inputs: ClassVar[bool] = True

    mean: Tensor
    log_alpha: Tensor
    axis: int = 1
    units: int | None = None
    bernoulli: bool = False

    def __post_init__(self) -> None:
        by_input = self._by_input(self.mean)
        if self.log_alpha.numel() != 1 and list(self.log_alpha.shape) != by_input:
            raise InputError(
                f"log alpha of shape {tuple(self.log_alpha.shape)} is neither one number nor one for each "
                f"input of weights of shape {tuple(self.mean.shape)} along axis {self.axis}. "
                f"Cure: shape {tuple(by_input)}"
            )

    @property
    def inputs(self) -> int:
        """How many inputs have a factor of their own."""
        return self.mean.shape[self.axis] if self.units is None else self.units

    def expectation(self) -> Tensor:
        r""":math:`\theta` itself."""
        return self.mean

    def moments(self) -> tuple[Tensor, Tensor]:
        r""":math:`\theta` and :math:`\alpha\theta^2`."""
        return self.mean, self.log_alpha.exp() * self.mean.square()

    def rsample(self, noise: Noise) -> Tensor:
        """One draw of the factors times the weights; differentiable."""
        drawn = noise.like(self.mean.detach().new_empty(self._by_input(self.mean)))
        return self.mean * self._factors(drawn, self.log_alpha)

    def on(self, x: Tensor, dim: int, drawn: Tensor) -> Tensor:
        """A layer's input times factors, each number with a draw of its own; differentiable.

        Args:
            x: The input, its channels along ``dim``.
            dim: An axis of ``x``, counted from the end.
            drawn: Standard normal noise of the shape of ``x``.

        Returns:
            The input with noise, of the same shape.
        """
        rates = self.log_alpha.reshape(-1)
        if rates.numel() > 1:
            rates = rates.repeat(x.shape[dim] // rates.numel()).view(-1, *(1,) * (-1 - dim))
        return x * self._factors(drawn, rates)

    def on_rows(self, rows: Tensor, indices: Tensor, drawn: Tensor) -> Tensor:
        """Rows of a table, (..., width), times one factor for each of ``indices`` (...); differentiable.

        ``drawn``: standard normal noise of shape (..., 1).
        """
        rates = self.log_alpha.reshape(-1)
        return rows * self._factors(drawn, rates[indices].unsqueeze(-1) if rates.numel() > 1 else rates)

    def hold(self, keep: Tensor) -> None:
        """Set the weights outside ``keep`` to zero, in place; their noise is zero with them."""
        with torch.no_grad():
            self.mean.mul_(keep)

    def _factors(self, drawn: Tensor, log_alpha: Tensor) -> Tensor:
        """The factors of standard normal noise, which a Bernoulli factor compares with a quantile."""
        if not self.bernoulli:
            return 1.0 + (0.5 * log_alpha).exp() * drawn
        rate = torch.sigmoid(log_alpha.detach())  # p of alpha = p / (1 - p)
        factors: Tensor = (drawn > torch.special.ndtri(rate)) / (1.0 - rate)
        return factors

    def _by_input(self, weight: Tensor) -> list[int]:
        return [n if axis == self.axis else 1 for axis, n in enumerate(weight.shape)]
