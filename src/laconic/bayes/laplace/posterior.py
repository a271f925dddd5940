r"""The Laplace posterior of a trained network: its weights as means, variances from the curvature there.

.. math:: q(w) = \mathcal N\big(\hat w,\; (N F + \alpha I)^{-1}\big)

with N likelihood terms, their mean Fisher information F, and the prior's precision alpha. Storing w in place
of :math:`\hat w_i` costs :math:`(w - \hat w_i)^2 / (2 \sigma_i^2)` nats, which is what rounding and pruning
ask.

Sources: MacKay, Neural Computation 1992; Ritter, Botev & Barber, ICLR 2018; Daxberger et al., Laplace Redux,
NeurIPS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from laconic.bayes.laplace.curvature import Curvature
from laconic.bayes.laplace.evidence import determined_weights, occam_factor, prior_precision
from laconic.errors import DataError, InputError
from laconic.networks.evaluation import parameters_of
from laconic.records import WeightStats
from laconic.tasks.checks import check_data_size

__all__ = ["LaplacePosterior", "laplace_posterior"]

Structure = Literal["diagonal", "kronecker"]
PriorBy = Literal["tensor", "global"]


@dataclass(frozen=True, eq=False)
class LaplacePosterior:
    """Means and variances of every parameter of a trained network.

    Attributes:
        stats: By parameter, its value and its posterior variance, as ``quantize`` and the score ``snr`` take
            them.
        prior_precisions: By parameter, alpha in 1 / squared unit.
        determined: By parameter, gamma: how many of its entries the data determine.
        occam_factor: Log evidence minus log likelihood, nats.
        unreached: By parameter that has some: the share of its entries that the data never reached. These
            have the prior's variance.

    >>> found = LaplacePosterior({}, {}, {}, -3.0, {})
    >>> found.log_evidence(nll=10.0)
    -13.0
    """

    stats: Mapping[str, WeightStats]
    prior_precisions: Mapping[str, float]
    determined: Mapping[str, float]
    occam_factor: float
    unreached: Mapping[str, float]

    def log_evidence(self, nll: float) -> float:
        """The log marginal likelihood in nats; ``nll`` is the data's total at the trained weights."""
        return self.occam_factor - nll


def laplace_posterior(
    module: nn.Module,
    curvature: Curvature,
    *,
    data_size: int | None = None,
    structure: Structure = "diagonal",
    prior: PriorBy | float = "tensor",
) -> LaplacePosterior:
    """The Laplace posterior of a trained network from its curvature.

    Args:
        module: The network.
        curvature: What :func:`laconic.bayes.laplace.gather_curvature` gives for it.
        data_size: Likelihood terms of the data that the network was trained on; None for as many as the
            curvature saw.
        structure: "diagonal": precisions from the Fisher information's own diagonal. "kronecker": from
            G_rr A_kk, which averages over each row and column; on keyword spotters it was nearer to the
            curvature of other data only with fewer than about 50 examples. A parameter that multiplies no
            input has the diagonal in both.
        prior: Precision by marginal likelihood for each "tensor", or one for all ("global"); or the precision
            itself, > 0. A tensor that is zero everywhere, or never reached, takes the global one.

    Returns:
        The posterior. Variances are inverses of the precision's diagonal: of one weight, the others given.

    Raises:
        DataError: No weight was reached.
        InputError: The curvature is of another network, or a setting is unknown.
        ScaleError: A data size that is no positive whole number.

    >>> from laconic.bayes.laplace import gather_curvature
    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = layer.weight.data.fill_(2.0)
    >>> seen = gather_curvature(layer, [torch.tensor([[1.0], [3.0]])], generator=torch.Generator())
    >>> found = laplace_posterior(layer, seen, prior=1.0).stats["weight"]
    >>> found.mean.item(), round(found.variance.item(), 4)  # 1 / (1 + 9 + 1)
    (2.0, 0.0909)
    """
    if structure not in get_args(Structure):
        raise InputError(
            f"structure must be 'diagonal' or 'kronecker', got {structure!r}. Cure: structure='diagonal'"
        )
    weights = _weights(module, curvature)
    size = curvature.terms if data_size is None else data_size
    check_data_size(size)
    hessians = {
        name: size * (t.smooth if structure == "kronecker" else t.diagonal)
        for name, t in curvature.tensors.items()
    }
    norms = {name: float(weights[name].double().square().sum()) for name in hessians}
    alphas = _alphas(hessians, norms, prior)
    return LaplacePosterior(
        {name: _stats(name, weights[name], 1 / (h + alphas[name])) for name, h in hessians.items()},
        alphas,
        {name: determined_weights(h, alphas[name]) for name, h in hessians.items()},
        sum(occam_factor(h, norms[name], alphas[name]) for name, h in hessians.items()),
        curvature.unreached,
    )


def _weights(module: nn.Module, curvature: Curvature) -> dict[str, Tensor]:
    weights = {name: p.cpu() for name, p in parameters_of(module).items()}
    for name, tensor in curvature.tensors.items():
        if name not in weights or weights[name].shape != tensor.diagonal.shape:
            raise InputError(
                f"the curvature of {name!r} of shape {tuple(tensor.diagonal.shape)} fits no parameter of "
                "this network. Cure: gather it on this network"
            )
    return weights


def _alphas(
    hessians: Mapping[str, Tensor], norms: Mapping[str, float], prior: PriorBy | float
) -> dict[str, float]:
    if not isinstance(prior, str):
        if isinstance(prior, bool) or not (math.isfinite(prior) and prior > 0):
            raise InputError(
                f"a prior precision must be finite and > 0, got {prior!r}. Cure: prior=1.0, or prior='tensor'"
            )
        return dict.fromkeys(hessians, float(prior))
    if prior not in get_args(PriorBy):
        raise InputError(
            f"prior must be 'tensor', 'global' or a precision, got {prior!r}. Cure: prior='tensor'"
        )
    reached = [name for name, h in hessians.items() if bool((h > 0).any())]
    if not reached or not sum(norms[name] for name in reached):
        raise DataError(
            "the data reach no weight of the network, or all that they reach are zero. Cure: calibration "
            "batches as in training"
        )
    own = [name for name in reached if norms[name] > 0] if prior == "tensor" else []
    alphas = {name: prior_precision(hessians[name], norms[name]) for name in own}
    if len(alphas) < len(hessians):
        together = torch.cat([hessians[name].reshape(-1) for name in reached])
        shared = prior_precision(together, sum(norms[name] for name in reached))
        alphas = {name: alphas.get(name, shared) for name in hessians}
    return alphas


def _stats(name: str, weight: Tensor, variance: Tensor) -> WeightStats:
    mean, spread = (np.ascontiguousarray(t.numpy(), dtype=np.float32) for t in (weight.float(), variance))
    return WeightStats(name, mean, spread)
