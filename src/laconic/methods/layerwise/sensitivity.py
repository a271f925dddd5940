r"""How much the predictions suffer from an error in a layer: measured, by noise on its weights.

A layer's weights get Gaussian noise :math:`\sigma n`, all others stay; the divergence D of the predictions then
says what an error of the layer's outputs costs,

.. math:: D = \tfrac12 p\, E\lVert \Delta y \rVert^2, \qquad
          E\lVert \Delta y \rVert^2 = \sigma^2\, R \operatorname{tr} E[x x^\top],

for R rows, so :math:`p\,\operatorname{tr} E[x x^\top] = 2 D / (\sigma^2 R)`. Noise of the size that quantisation will
make also counts what curvature at a point does not see: an overconfident classifier has almost none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from laconic.methods.layerwise.calibration import Comparison
from laconic.progress import steps

NOISE = 0.1
"""Standard deviation of the noise, as a share of the weights' root mean square: 20 dB below them."""
FLOOR = 1e-4
"""Least sensitivity of a layer, as a share of the largest: a measured zero is no licence to drop all."""


def measured_sensitivities(
    module: nn.Module, names: Iterable[str], comparison: Comparison, seed: int, most: int | None = None
) -> dict[str, float]:
    r"""For each weight :math:`2 D / \sigma^2`: nats for a unit of squared noise on every one of its numbers.

    Args:
        module: The network, in evaluation mode; its weights are afterwards as before.
        names: The weights, each measured by itself.
        comparison: Measures D.
        seed: Of the noise.
        most: Calls that measure (see :meth:`Comparison.of`).

    Returns:
        By name; a weight that moves nothing has the floor's share of the largest. All are 1 where none moves
        anything.

    >>> from laconic.methods.layerwise.calibration import Calls
    >>> from laconic.tasks import Regression
    >>> net = nn.Linear(1, 1, bias=False)
    >>> calls = Calls((torch.ones(4, 1),), (None,), 4)
    >>> comparison = Comparison(net, calls, Regression(noise=1.0))
    >>> found = measured_sensitivities(net, ["weight"], comparison, seed=0)
    >>> sorted(found)
    ['weight']
    """
    parameters: Mapping[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, float] = {}
    wanted = list(names)
    with steps("measuring sensitivities", len(wanted)) as advance, torch.no_grad():
        for name in wanted:
            weight = parameters[name]
            size = float(weight.double().square().mean().sqrt()) * NOISE
            if size > 0:
                before = weight.clone()
                noise = torch.randn(weight.shape, generator=generator).to(weight)
                weight.add_(size * noise)
                found[name] = 2.0 * comparison.of(module, most) / size**2
                weight.copy_(before)
            advance()
    finite = [value for value in found.values() if value < float("inf")]
    largest = max(finite, default=0.0)
    if largest == 0.0:
        return dict.fromkeys(wanted, 1.0)
    return {n: min(max(found.get(n, 0.0), FLOOR * largest), largest) for n in wanted}
