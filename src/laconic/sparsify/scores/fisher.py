"""Second order with a diagonal curvature: Optimal Brain Damage.

The curvature is that of the mean loss an example: a diagonal empirical Fisher (squared gradients with the
true labels), or a Gauss-Newton one (labels drawn from the network's own prediction).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.sparsify.scores.aggregate import Members, group_scores, readers, total
from laconic.sparsify.scores.common import (
    Forward,
    GroupScores,
    Loss,
    WeightScores,
    at_rest,
    batches,
    finite,
    first_input,
    gradients_of,
    parameters_of,
)
from laconic.structure.coupling.groups import Coupling

Curvature = dict[str, Tensor]
PseudoLoss = Callable[[Tensor, torch.Generator], Tensor]


def empirical_fisher(
    module: nn.Module,
    loader: Iterable[Any],
    losses: Loss,
    *,
    signs: torch.Generator | None = None,
    draws: int = 1,
) -> Curvature:
    r"""Diagonal empirical Fisher: the mean over examples of squared gradients.

    .. math:: h_i = \frac1N \sum_n \Big(\frac{\partial \ell_n}{\partial w_i}\Big)^2

    ``losses(module, batch)`` gives one loss an example, shape (N,). Exact with one backward pass an example;
    with ``signs`` an unbiased estimate from ``draws`` passes a batch, since the square of the gradient of
    :math:`\sum_n \pm \ell_n` has this expectation. Source: Kunstner et al.,
    Limitations of the empirical Fisher approximation, NeurIPS 2019.

    Raises DataError for an empty loader, InputError for losses that are not one an example.
    """

    def backward(batch: Any, parameters: Mapping[str, Tensor]) -> tuple[list[Tensor], int]:
        each = losses(module, batch)
        if each.ndim != 1:
            raise InputError(
                f"Fisher: losses must be one an example, shape (N,), got {tuple(each.shape)}. Cure: "
                "reduction='none'"
            )
        if signs is None:
            return list(each), len(each)
        flips = torch.randint(0, 2, (draws, len(each)), generator=signs).to(each) * 2 - 1
        return [flip @ each / draws**0.5 for flip in flips], len(each)

    return _squared_gradients(module, loader, backward)


def gauss_newton(
    module: nn.Module,
    loader: Iterable[Any],
    generator: torch.Generator,
    *,
    forward: Forward = first_input,
    sample: PseudoLoss | None = None,
    draws: int = 1,
) -> Curvature:
    r"""Diagonal of the Gauss-Newton matrix (equal to the true Fisher), estimated without labels.

    .. math:: h_i = \frac1N \sum_n \mathbb{E}_{y \sim p(\cdot|x_n)}
              \Big(\frac{\partial \log p(y|x_n)}{\partial w_i}\Big)^2

    ``sample`` turns outputs into a loss whose gradient is drawn: :func:`drawn_labels` (the default: outputs
    are logits, classes along axis 1) or :func:`drawn_noise` (squared error). Gradients of different
    examples then have mean zero and are independent, so one backward pass a draw and batch is unbiased.
    Source: Martens, New insights and perspectives on the natural gradient method, JMLR 2020.

    Raises DataError for an empty loader, NonFiniteError naming a parameter.
    """
    pseudo = drawn_labels if sample is None else sample

    def backward(batch: Any, parameters: Mapping[str, Tensor]) -> tuple[list[Tensor], int]:
        outputs = forward(module, batch)
        return [pseudo(outputs, generator) / draws**0.5 for _ in range(draws)], len(outputs)

    return _squared_gradients(module, loader, backward)


def drawn_labels(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Cross-entropy, summed, with labels drawn from the softmax over axis 1."""
    flat = logits.movedim(1, -1).flatten(0, -2)
    probabilities = flat.detach().softmax(-1).to("cpu", torch.float64)
    labels = torch.multinomial(probabilities, 1, generator=generator).ravel().to(logits.device)
    return F.cross_entropy(flat, labels, reduction="sum")


def drawn_noise(outputs: Tensor, generator: torch.Generator) -> Tensor:
    """Outputs times standard normal noise, summed: the draw for the loss 1/2 ||y - f(x)||^2."""
    noise = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    return (outputs * noise.to(outputs)).sum()


def obd_weights(module: nn.Module, curvature: Mapping[str, Tensor]) -> WeightScores:
    """1/2 h w^2 of every parameter with a curvature. Source: LeCun et al., Optimal Brain Damage, 1990.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = layer.weight.data.fill_(3.0)
    >>> obd_weights(layer, {"weight": torch.full((1, 1), 4.0)})["weight"].item()
    18.0
    """
    weights = parameters_of(module)
    for name, h in curvature.items():
        if name not in weights or weights[name].shape != h.shape:
            raise InputError(
                f"curvature {name!r} of shape {tuple(h.shape)} fits no parameter of this network"
            )
    scores = {name: 0.5 * h * weights[name].square() for name, h in curvature.items()}
    return finite(scores, "Optimal Brain Damage")


def obd_groups(
    module: nn.Module,
    coupling: Coupling,
    curvature: Mapping[str, Tensor],
    *,
    members: Members = readers,
) -> GroupScores:
    """Sum of 1/2 h w^2 over the weights that read a unit, without which it is removed (or ``members``)."""
    return group_scores(module, coupling, obd_weights(module, curvature), how=total, members=members)


def _squared_gradients(
    module: nn.Module,
    loader: Iterable[Any],
    backward: Callable[[Any, Mapping[str, Tensor]], tuple[list[Tensor], int]],
) -> Curvature:
    sums: Curvature = {}
    examples = 0
    with at_rest(module, gradients=True) as parameters:
        for batch in batches(loader, "Fisher"):
            values, count = backward(batch, parameters)
            for k, value in enumerate(values):
                for name, g in gradients_of(value, parameters, again=k + 1 < len(values)).items():
                    sums[name] = sums.get(name, 0.0) + g.square()
            examples += count
    return finite({name: s / examples for name, s in sums.items()}, "Fisher")
