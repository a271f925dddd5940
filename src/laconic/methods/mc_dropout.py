r"""Monte Carlo dropout (Gal & Ghahramani, ICML 2016, arXiv 1506.02142; for convolutions arXiv 1506.02158).

Dropout of a fixed rate p before every weight layer is a posterior :math:`w_{ij} = \theta_{ij} s_j` with
:math:`s_j` 0 or 1/(1 - p): the fixed-rate special case of variational dropout of type A
(:mod:`laconic.methods.variational_dropout`), with Bernoulli noise in place of Gaussian. Under a normal prior
:math:`N(0, \ell^{-2})` its KL is, up to what does not depend on :math:`\theta`,

.. math:: \tfrac{\ell^2}{2}\,E\|w\|^2 = \tfrac{\ell^2}{2(1 - p)}\|\theta\|^2,

the weight decay of the paper (whose matrices are those before the factor 1/(1 - p)). Dropout stays on at
test: :func:`laconic.predict` averages S passes of the prepared network, each with one draw of the weights,
that is one mask for each layer's inputs, or channels. The file holds the network without noise. Dropout
layers that the network has of its own are active in training alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import nn

from laconic.bayes.prepare import make_bayesian, plain_copy, posteriors_of
from laconic.errors import InputError
from laconic.methods.common.grid_choice import GridChoice
from laconic.methods.common.point import on_a_grid
from laconic.methods.contract import Compressed, Context, Judge, Method
from laconic.methods.dropout_rates import Rates
from laconic.methods.registry import MethodEntry

Factors = Literal["bernoulli", "gaussian"]


@dataclass(frozen=True)
class MCDropout(Method):
    r"""Dropout of a fixed rate before every weight layer, which is left on for predictive uncertainty.

    Args:
        rate: Probability p that an input of a layer is dropped.
        first_rate: That of the first layer, whose inputs are the network's (None: ``rate``).
        noise: ``bernoulli``: inputs are dropped. ``gaussian``: they are multiplied by
            :math:`N(1, p/(1-p))`, of the same mean and variance.
        prior_std: Standard deviation of the weights' normal prior, :math:`1/\ell` (None: no penalty).
        grid: How the weights are quantised.

    Raises:
        InputError: A setting outside its bounds.

    >>> import laconic
    >>> x = torch.ones(1, 8)
    >>> net = laconic.prepare(nn.Linear(8, 4), MCDropout(), x, data_size=100)
    >>> prediction = laconic.predict(net, x, samples=10)
    >>> tuple(prediction.mean.shape), bool(prediction.mutual_information > 0)
    ((1, 4), True)
    """

    rate: float = 0.5
    first_rate: float | None = 0.2
    noise: Factors = "bernoulli"
    prior_std: float | None = 1.0
    grid: GridChoice = field(default_factory=GridChoice)

    in_nats = True
    gentler = "lower rate"
    smaller = "coarser grid.steps"

    def __post_init__(self) -> None:
        if self.noise not in get_args(Factors):
            kinds = ", ".join(get_args(Factors))
            raise InputError(f"noise must be one of {kinds}, got {self.noise!r}. Cure: noise=bernoulli")
        if self.prior_std is not None and not 0 < self.prior_std < math.inf:
            raise InputError(
                f"prior_std must be finite and > 0, got {self.prior_std}. Cure: prior_std=1, or None for no "
                "penalty"
            )
        self._rates()

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """Put noise on the inputs of every layer."""
        return make_bayesian(
            model,
            example=example,
            posterior=self._rates().family(model, context.policy),
            noise=context.noise,
            policy=context.policy,
        )

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        r""":math:`\sum E\,w^2 / (2\,prior\_std^2)` over all weights, nats up to a constant."""
        if self.prior_std is None:
            return super().penalty(module, context)
        squares = []
        for q in posteriors_of(module).values():
            mean, variance = q.moments()
            squares.append((mean.square() + variance).sum())
        return torch.stack(squares).sum() / (2.0 * self.prior_std**2)

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """The network without noise, on the grid of validation."""
        small = on_a_grid(plain_copy(module), self.grid, context, judge, sampled=True)
        return replace(small, facts={**small.facts, "method": "mc-dropout", "rate": self.rate})

    def _rates(self) -> Rates:
        return Rates(self.rate, self.first_rate, bernoulli=self.noise == "bernoulli")


# A trained network is the start; half of the inputs of every layer are more than it can lose in few epochs.
_TRAINED = {"rate": 0.2, "first_rate": 0.1, "fit.schedule.flat": 0.5}
_SHORT = {"fit.epochs": 8, "reference.epochs": 3}

METHOD = MethodEntry(
    "mc-dropout",
    MCDropout,
    presets={
        "full": {"": {**_TRAINED, "fit.epochs": 60}},
        "demo": {
            "lenet5": {**_TRAINED, **_SHORT},
            "lenet300": {**_TRAINED, **_SHORT},
            "": {**_TRAINED, "fit.epochs": 8},
        },
    },
    paper="Gal & Ghahramani, Dropout as a Bayesian Approximation, ICML 2016",
)
