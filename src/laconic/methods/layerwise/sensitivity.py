r"""How much the predictions suffer from an error in a layer: by curvature, or measured by noise.

Where the task says how targets are distributed, the Fisher information of the network's own predictions says
it, row by row. Elsewhere noise is measured: a layer's weights get Gaussian noise :math:`\sigma n`, all others
stay; the divergence D of the predictions then says what an error of the layer's outputs costs,

.. math:: D = \tfrac12 p\, E\lVert \Delta y \rVert^2, \qquad
          E\lVert \Delta y \rVert^2 = \sigma^2\, R \operatorname{tr} E[x x^\top],

for R rows, so :math:`p\,\operatorname{tr} E[x x^\top] = 2 D / (\sigma^2 R)`. The noise is made as large as
gives the divergence that is asked for: curvature at the weights themselves says little of it, since an
overconfident classifier has almost none, and then loses all at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.bayes.laplace import FisherSettings, gather_curvature
from laconic.bayes.laplace.directions import examples_in, pieces
from laconic.methods.layerwise.comparison import Comparison
from laconic.networks import call as run
from laconic.networks import is_nested, with_tensors
from laconic.networks.evaluation import at_rest
from laconic.progress import steps
from laconic.tasks import Task

FIRST = 0.2
"""Standard deviation of the first noise, as a share of the weights' root mean square."""
LARGEST = 4.0
"""The same of the largest."""
TRIES = 6
"""Noises that are tried for a weight, each in one pass over the inputs that measure."""
POSITIONS = 4096
"""Positions of all calls that the squares of a weight's inputs are from."""
INPUT_BYTES = 1 << 25
"""Bytes of inputs that the Fisher information is estimated on, at most.

Where all examples have more, each has a backward pass of its own instead of four with three others: as many
gradients, in a third of the time.
"""
FLOOR = 1e-4
"""Least sensitivity of a layer, as a share of the largest: a measured zero is no licence to drop all."""


def measured_sensitivities(
    module: nn.Module, names: Iterable[str], comparison: Comparison, seed: int, wanted: float = 0.01
) -> dict[str, float]:
    r"""For each weight :math:`2 D / \sigma^2`: nats for a unit of squared noise on every one of its numbers.

    Args:
        module: The network, in evaluation mode; its weights are afterwards as before.
        names: The weights, each measured by itself.
        comparison: Measures D.
        seed: Of the noise.
        wanted: The divergence that the noise is made for, > 0.

    Returns:
        By name, each at least its floor (:func:`floored`). All are 1 where no weight moves anything.

    >>> from laconic.methods.layerwise.calibration import Calls
    >>> from laconic.tasks import Regression
    >>> net = nn.Linear(1, 1, bias=False)
    >>> calls = Calls((torch.ones(4, 1),), (None,), 4)
    >>> comparison = Comparison(net, calls, Regression(noise=1.0))
    >>> sorted(measured_sensitivities(net, ["weight"], comparison, seed=0))
    ['weight']
    """
    parameters: Mapping[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, float] = {}
    every = list(names)
    with steps("measuring sensitivities", len(every)) as advance, torch.no_grad():
        for name in every:
            weight = parameters[name]
            before = weight.clone()
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            measure = partial(_divergence, module, weight, before, noise, comparison)
            scale = float(before.double().square().mean().sqrt())
            if scale > 0:
                found[name] = _at(measure, scale, wanted)
            weight.copy_(before)
            advance(name)
    return floored(found, {name: parameters[name] for name in every})


def floored(found: Mapping[str, float], weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Sensitivities of all weights; all 1 where every one is 0.

    An error as large as the weight costs in each at least ``FLOOR`` of what it costs where it costs most,
    so that the unit of a layer's weights does not matter.

    >>> floored({"a": 2.0}, {"a": torch.ones(1), "b": torch.full((1,), 10.0)})
    {'a': 2.0, 'b': 2e-06}
    """
    squares = {name: float(w.detach().double().square().mean()) for name, w in weights.items()}
    largest = max((cost * squares[name] for name, cost in found.items()), default=0.0)
    if not 0 < largest < math.inf:
        return dict.fromkeys(weights, 1.0)
    zero = FLOOR * max(found.values())
    floors = {name: FLOOR * largest / square if square else zero for name, square in squares.items()}
    return {name: max(found.get(name, 0.0), floors[name]) for name in weights}


def _divergence(
    module: nn.Module, weight: Tensor, before: Tensor, noise: Tensor, comparison: Comparison, size: float
) -> float:
    weight.copy_(before + size * noise)
    return comparison.of(module)


def _at(measure: Callable[[float], float], scale: float, wanted: float) -> float:
    """2 D / size^2 for the noise whose divergence is nearest to ``wanted``, on a logarithmic scale."""
    seen: list[tuple[float, float]] = []  # size, divergence
    size = FIRST * scale
    for _ in range(TRIES):
        found = measure(size)
        if math.isfinite(found):
            seen.append((size, found))
        if wanted / 2 <= found <= 2 * wanted or (found < wanted and size >= LARGEST * scale):
            break
        share = math.sqrt(wanted / found) if 0 < found < math.inf else (0.25 if found else 4.0)
        lower = [s for s, d in seen if d < wanted]
        upper = [s for s, d in seen if d > wanted]
        size = min(size * min(max(share, 0.25), 4.0), LARGEST * scale)
        if lower and upper and not max(lower) < size < min(upper):
            size = math.sqrt(max(lower) * min(upper))
    if not seen:
        return 0.0
    size, found = min(seen, key=lambda row: abs(math.log(max(row[1], 1e-30) / wanted)))
    return 2.0 * found / size**2


class Sensitivities(NamedTuple):
    r"""What errors in weights cost.

    Args:
        whole: For each weight the sum of its Fisher information: :math:`2 D / \sigma^2` of noise on all of
            its numbers, in nats per term.
        rows: For each weight, what an error of each of its rows costs, up to a factor; none: all alike.
    """

    whole: Mapping[str, float]
    rows: Mapping[str, Tensor]


def fisher_sensitivities(
    module: nn.Module,
    names: Iterable[str],
    inputs: Sequence[Any],
    task: Task,
    seed: int,
    temperature: float,
    most: int = 256,
) -> Sensitivities | None:
    r"""Sensitivities by the Fisher information of the network's own predictions.

    Args:
        module: The network.
        names: The weights.
        inputs: Inputs of several calls, of which the first ones are used, up to 32 MiB.
        task: What it is for.
        seed: Of the signs of the estimate.
        temperature: What logits are divided by: an overconfident classifier has hardly a gradient at 1.
        most: Examples that are used at most.

    Returns:
        The sensitivities; None for a task whose predictive distribution is not known, and for a network whose
        forward allows no gradient.

    >>> from laconic.tasks import Classification
    >>> found = fisher_sensitivities(nn.Linear(2, 3), ["weight"], [torch.eye(2)], Classification(), 0, 1.0)
    >>> found.rows["weight"].shape
    torch.Size([1, 3])
    """
    if task.predictive(**dict(task.learnt(None))) is None:
        return None
    few, whole = _first(inputs, task.batch_axis, most)
    positions = max(1, POSITIONS // len(few))
    settings = FisherSettings(kind="sampled", positions=positions, temperature=temperature)
    if not whole:
        settings = replace(settings, draws=1, examples=1)
    with at_rest(module, gradients=True):
        outputs = task.prediction(
            run(module, next(pieces(few[0], None, task.batch_axis, settings.examples))[0])
        )
    if isinstance(outputs, Tensor) and not outputs.requires_grad:
        return None
    found = gather_curvature(
        module,
        few,
        task,
        generator=torch.Generator().manual_seed(seed),
        settings=settings,
        labelled=False,
    )
    sums = {n: float(found.tensors[n].diagonal.double().sum()) for n in names if n in found.tensors}
    weights = {name: module.get_parameter(name) for name in names}
    rows = {n: c.rows for n, c in found.tensors.items() if c.rows is not None}
    return Sensitivities(floored(sums, weights), rows)


def _first(inputs: Sequence[Any], axis: int, most: int) -> tuple[list[Any], bool]:
    """The first calls, until they have so many examples or bytes; and whether bytes were no limit.

    A call that has more examples gives its first ones.
    """
    found: list[Any] = []
    examples = size = 0
    for each in inputs:
        left, count = most - examples, examples_in(each, axis)
        cut = axis == 0 and count > left and not is_nested(each)
        found.append(with_tensors(each, itemgetter(slice(left))) if cut else each)
        examples += count
        size += sum(x.nbytes for x in tree_leaves(each) if isinstance(x, Tensor))
        if examples >= most or size >= INPUT_BYTES:
            break
    return found, size < INPUT_BYTES
