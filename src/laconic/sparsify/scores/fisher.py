"""Second order with a diagonal curvature: Optimal Brain Damage.

The curvature is that of the mean loss per example: a diagonal empirical Fisher matrix (squared gradients
with the true labels), or a diagonal Gauss-Newton matrix (labels drawn from the network's own prediction).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.networks.evaluation import Forward, at_rest, batches, first_input, gradients_of, parameters_of
from laconic.sparsify.scores.aggregate import Members, group_scores, readers, total
from laconic.sparsify.scores.common import GroupScores, Loss, WeightScores, finite
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
    r"""Diagonal of the empirical Fisher matrix: the mean over examples of squared gradients.

    .. math:: h_i = \frac1N \sum_n \Big(\frac{\partial \ell_n}{\partial w_i}\Big)^2

    Exact with one backward pass per example. With ``signs`` it is an unbiased estimate from ``draws`` passes
    per batch, since the square of the gradient of :math:`\sum_n \pm \ell_n` has this expectation. Source:
    Kunstner et al., Limitations of the empirical Fisher approximation, NeurIPS 2019.

    Args:
        module: The network; run in evaluation mode.
        loader: Batches as ``losses`` takes them.
        losses: ``losses(module, batch)`` gives the loss of each example in nats, (N,).
        signs: Draws the random signs; None for the exact matrix.
        draws: Backward passes per batch with ``signs``.

    Returns:
        By parameter, a tensor of its shape, in squared nats per squared unit of the weight.

    Raises:
        DataError: The loader is empty.
        InputError: The losses are not one per example.
        NonFiniteError: A gradient is NaN or infinite; names the parameter.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> batch = torch.tensor([[1.0], [3.0]])
    >>> empirical_fisher(layer, [batch], lambda net, x: net(x).ravel())["weight"].item()
    5.0
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
    r"""Diagonal of the Gauss-Newton matrix (equal to the true Fisher matrix), estimated without labels.

    .. math:: h_i = \frac1N \sum_n \mathbb{E}_{y \sim p(y | x_n)}
              \Big(\frac{\partial \log p(y | x_n)}{\partial w_i}\Big)^2

    Gradients of different examples have mean zero and are independent, so the squared gradient of their sum
    is an unbiased estimate: one backward pass per draw and batch. Source: Martens, New insights and
    perspectives on the natural gradient method, JMLR 2020.

    Args:
        module: The network; run in evaluation mode.
        loader: Batches as ``forward`` takes them.
        generator: Draws the labels, on the CPU.
        forward: Runs the network on one batch; by default on the batch, or on its first item.
        sample: Loss of drawn targets, summed: :func:`drawn_labels` (softmax and cross-entropy, the default)
            or :func:`drawn_noise` (squared error).
        draws: Backward passes per batch.

    Returns:
        By parameter, a tensor of its shape, in squared nats per squared unit of the weight.

    Raises:
        DataError: The loader is empty.
        NonFiniteError: A gradient is NaN or infinite; names the parameter.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> draw = torch.Generator().manual_seed(0)
    >>> batch = torch.full((1, 1), 3.0)
    >>> found = gauss_newton(layer, [batch], draw, sample=drawn_noise, draws=2000)
    >>> round(found["weight"].item())  # E (3 z)^2 for standard normal z
    9
    """
    pseudo = drawn_labels if sample is None else sample

    def backward(batch: Any, parameters: Mapping[str, Tensor]) -> tuple[list[Tensor], int]:
        outputs = forward(module, batch)
        return [pseudo(outputs, generator) / draws**0.5 for _ in range(draws)], len(outputs)

    return _squared_gradients(module, loader, backward)


def drawn_labels(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Cross-entropy in nats, summed, with labels drawn from the softmax over axis 1 (Martens 2020).

    Args:
        logits: (batch, classes, ...).
        generator: Draws the labels, on the CPU.

    Returns:
        A scalar with gradients.

    >>> confident = torch.tensor([[50.0, -50.0]])
    >>> round(drawn_labels(confident, torch.Generator().manual_seed(0)).item(), 6)
    0.0
    """
    flat = logits.movedim(1, -1).flatten(0, -2)
    probabilities = flat.detach().softmax(-1).to("cpu", torch.float64)
    labels = torch.multinomial(probabilities, 1, generator=generator).ravel().to(logits.device)
    return F.cross_entropy(flat, labels, reduction="sum")


def drawn_noise(outputs: Tensor, generator: torch.Generator) -> Tensor:
    """Outputs times standard normal noise, summed: the draw for the loss 1/2 ||y - f(x)||^2 (Martens 2020).

    Args:
        outputs: Of any shape.
        generator: Draws the noise, on the CPU.

    Returns:
        A scalar with gradients.

    >>> drawn_noise(torch.zeros(2, 3), torch.Generator()).item()
    0.0
    """
    noise = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    return (outputs * noise.to(outputs)).sum()


def obd_weights(module: nn.Module, curvature: Mapping[str, Tensor]) -> WeightScores:
    """Increase of the loss when a weight becomes 0, by a diagonal quadratic model: 1/2 h w^2.

    Source: LeCun et al., Optimal Brain Damage, NIPS 1990 (saliency).

    Args:
        module: The network.
        curvature: By parameter, the diagonal h of its shape: :func:`empirical_fisher` or
            :func:`gauss_newton`.

    Returns:
        By parameter with a curvature, a tensor of its shape, in the loss's unit.

    Raises:
        InputError: A curvature fits no parameter.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = layer.weight.data.fill_(3.0)
    >>> obd_weights(layer, {"weight": torch.full((1, 1), 4.0)})["weight"].item()
    18.0
    """
    weights = parameters_of(module)
    for name, h in curvature.items():
        if name not in weights or weights[name].shape != h.shape:
            raise InputError(
                f"curvature {name!r} of shape {tuple(h.shape)} fits no parameter of this network. Cure: "
                "gather it on this network"
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
    """Optimal Brain Damage of units: sum of 1/2 h w^2 over the weights that read a unit (LeCun et al. 1990).

    Args:
        module: The network.
        coupling: Its groups.
        curvature: By parameter, the diagonal h of its shape.
        members: Which tensors count: :func:`readers`, :func:`producers` or :func:`everything`.

    Returns:
        By group, one number at least 0 per unit, in the loss's unit.

    Raises:
        InputError: A curvature fits no parameter, or no member of some group has one.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[1.0, 3.0]]))
    >>> curvature = {"2.weight": torch.full((1, 2), 2.0)}
    >>> obd_groups(net, find_groups(net, torch.zeros(2, 1)), curvature)["0.weight:0"].tolist()
    [1.0, 9.0]
    """
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
