"""KL of a scale by unit times weights to a scale mixture: the KLs of the two factors."""

from __future__ import annotations

import torch
from torch import Tensor

from laconic.bayes.kl.dispatch import kl_divergence, kl_total, register_kl
from laconic.bayes.posteriors.scaled import Scaled
from laconic.bayes.priors.scale_mixture import ScaleMixture


def scaled_total(q: Scaled, p: ScaleMixture) -> Tensor:
    """The sum over weights and scales, by the factors' own totals."""
    return kl_total(q.inner, p.weights) + kl_total(q.scale, p.scale)


@register_kl(Scaled, ScaleMixture, total=scaled_total)
def scaled_scale_mixture(q: Scaled, p: ScaleMixture) -> Tensor:
    r""":math:`KL(q(\tilde w)\|p(\tilde w))` and then :math:`KL(q(z)\|p(z))`, flat.

    Source: Louizos et al. 2017, eq. 5, in the non-centred form :math:`w = z\tilde w`.
    """
    parts = (kl_divergence(q.inner, p.weights), kl_divergence(q.scale, p.scale))
    return torch.cat([part.reshape(-1) for part in parts])
