"""Mean and variance of weights that have a posterior and gates: what is stored of a gated network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from laconic.bayes.prepare import posteriors_of
from laconic.methods.gating import gates_of, gating_of


def gated_moments(net: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    r"""Mean and variance of each weight that has a posterior, its gates' noise included.

    The factors of a product are independent: :math:`E[zw] = E[z]E[w]`, :math:`Var[zw] =
    (Var[z] + E[z]^2)(Var[w] + E[w]^2) - E[z]^2E[w]^2`.

    Args:
        net: A network with posteriors and gates (:func:`attach_gates` on what ``make_bayesian`` returned).

    Returns:
        By a weight's name two tensors of its shape, without a gradient.

    Raises:
        NotPreparedError: A network without gates.

    >>> from laconic.bayes import GaussianFamily, make_bayesian
    >>> from laconic.bayes.scales import NormalJeffreys
    >>> from laconic.methods import attach_gates
    >>> from laconic.networks.noise import NoiseSource
    >>> from laconic.structure import find_groups
    >>> plain, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(1, 2)
    >>> wide = make_bayesian(plain, example=x, posterior=GaussianFamily(0.0), noise=NoiseSource(0))
    >>> net = attach_gates(wide, find_groups(plain, x), lambda g: NormalJeffreys.open(g.size), NoiseSource(0))
    >>> mean, variance = gated_moments(net)["2.weight"]
    >>> bool(torch.equal(mean, plain[2].weight)), bool((variance > 1.0).all())
    (True, True)
    """
    gating, gates = gating_of(net), gates_of(net)
    found = {}
    with torch.no_grad():
        moments = {n: (g.expectation(), g.variance()) for n, g in gates.items()}
        for name, q in posteriors_of(net).items():
            mean, variance = q.moments()
            second = variance + mean.square()
            for factor in gating.factors.get(name, ()):
                first, spread = moments[factor.group]
                if not factor.present:
                    second = second * factor.along(spread + first.square(), second)
                mean = mean * factor.along(first, mean)
            found[name] = (mean.detach().clone(), (second - mean.square()).clamp_min(0.0).detach())
    return found
