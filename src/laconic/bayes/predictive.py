r"""What a network with random weights predicts: mean, variance, and where its uncertainty comes from.

For passes s = 1..S with the weights :math:`w_s \sim q(w)`, the prediction is the mixture

.. math:: p(y | x) = \frac1S \sum_s p(y | x, w_s), \qquad
          H[y | x] = \underbrace{\frac1S \sum_s H[y | x, w_s]}_{\text{noise of the data}}
                   + \underbrace{I[y; w | x]}_{\text{of the weights}}

The mutual information I is what more data would take away. It is large where the draws contradict each other.

Sources: Gal & Ghahramani, Dropout as a Bayesian Approximation, ICML 2016 (arXiv 1506.02142), section 4 (mean
and variance); Houlsby et al., Bayesian Active Learning for Classification and Preference Learning, 2011
(arXiv 1112.5745), equation 2 (mutual information).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from laconic.errors import InputError
from laconic.tasks.likelihoods import full_precision
from laconic.tasks.predictive import Bernoulli, Categorical, Gaussian
from laconic.tasks.predictive import Predictive as Target


@dataclass(frozen=True, eq=False)
class Predictive:
    """A prediction averaged over draws of the weights. Entropies are in nats.

    Args:
        mean: Probabilities, of the outputs' shape; of a regression the mean, in the target's unit.
        variance: Variance of the probabilities over the draws; of a regression that of the target, which is
            the variance of the outputs over the draws plus the noise's.
        entropy: Of the averaged prediction, one number for each term: without the axis of the classes.
        expected_entropy: Mean entropy of the draws' predictions.
        mutual_information: ``entropy - expected_entropy``, at least 0: what the draws disagree about.

    >>> sure, fair = torch.zeros(1), torch.tensor([math.log(2)])
    >>> two = Predictive(torch.full((1, 2), 0.5), torch.full((1, 2), 0.25), fair, sure, fair)
    >>> bool(two.mutual_information > 0.69)
    True
    """

    mean: Tensor
    variance: Tensor
    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor


def predictive(passes: Iterable[Tensor], target: Target) -> Predictive:
    r"""Average the outputs of several passes; their memory is that of a few passes, however many there are.

    Classes: softmax (or sigmoid) of each pass, then :math:`H = -\sum_c p_c \log p_c`. A Gaussian target
    has the noise s of its task, and its entropy is that of a normal of the total variance v,
    :math:`\frac12 \log(2 \pi e\, v)`, which the mixture's does not exceed; so the mutual information of a
    regression is an upper bound.

    Args:
        passes: The outputs of each pass, all of one shape: logits or regression outputs. A tensor
            (S, N, ...) has S passes.
        target: How targets are distributed given outputs (``task.predictive()``).

    Returns:
        The prediction.

    Raises:
        InputError: No pass, passes of several shapes, or a distribution that is none of these three.

    >>> two = torch.tensor([[[9.0, -9.0], [0.0, 0.0]], [[-9.0, 9.0], [0.0, 0.0]]])  # (S, N, C)
    >>> p = predictive(two, Categorical(axis=1))
    >>> p.mean.tolist(), [round(v, 3) for v in p.entropy.tolist()]
    ([[0.5, 0.5], [0.5, 0.5]], [0.693, 0.693])
    >>> [round(v, 3) for v in p.mutual_information.tolist()]  # they contradict each other; each is unsure
    [0.693, 0.0]
    """
    read, entropy = _kind(target)
    count, mean, squares, noise = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
    for outputs in passes:
        value, nats = read(_checked(outputs, target))
        if count and value.shape != mean.shape:
            raise InputError(
                f"the passes have outputs of shapes {tuple(mean.shape)} and {tuple(value.shape)}. Cure: the "
                "same inputs in every pass"
            )
        if not count:
            mean, squares, noise = torch.zeros_like(value), torch.zeros_like(value), torch.zeros_like(nats)
        count += 1
        away = value - mean
        mean = mean + away / count
        squares = squares + away * (value - mean)  # Welford 1962: no difference of large numbers
        noise = noise + (nats - noise) / count
    if not count:
        raise InputError("there is no pass to average. Cure: samples=30")
    variance = squares / count
    if isinstance(target, Gaussian):
        variance = variance + _noise(mean, target).square()
        total = _normal_entropy(variance)
    else:
        total = entropy(mean)
    return Predictive(mean, variance, total, noise, (total - noise).clamp_min(0.0))


def _checked(outputs: Tensor, target: Target) -> Tensor:
    if isinstance(target, Categorical) and not (
        outputs.ndim > target.axis and outputs.shape[target.axis] > 1
    ):
        raise InputError(
            f"outputs of shape {tuple(outputs.shape)} are no logits of two or more classes along axis "
            f"{target.axis}. Cure: task=, the task that the network was trained for, as Regression()"
        )
    return full_precision(outputs.detach())


_Read = Callable[[Tensor], tuple[Tensor, Tensor]]
_Entropy = Callable[[Tensor], Tensor]


def _kind(target: Target) -> tuple[_Read, _Entropy]:
    """How outputs become what is averaged and an entropy, and the entropy of an average."""
    if isinstance(target, Categorical):
        axis = target.axis
        return (
            lambda z: _categorical(z / target.temperature, axis),
            lambda p: torch.special.entr(p).sum(axis),
        )
    if isinstance(target, Bernoulli):
        return lambda z: _bernoulli(z / target.temperature), _binary_entropy
    if isinstance(target, Gaussian):
        return lambda z: (z, _normal_entropy(_noise(z, target).square())), _normal_entropy
    raise InputError(
        f"predictions of a {type(target).__name__} target cannot be averaged. Cure: a task whose "
        "predictive() is Categorical, Bernoulli or Gaussian"
    )


def _categorical(logits: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    logs = logits.log_softmax(axis)
    p = logs.exp()
    return p, -(p * logs).sum(axis)


def _bernoulli(logits: Tensor) -> tuple[Tensor, Tensor]:
    p = logits.sigmoid()
    return p, _binary_entropy(p)


def _binary_entropy(p: Tensor) -> Tensor:
    nats: Tensor = torch.special.entr(p) + torch.special.entr(1 - p)
    return nats


def _noise(outputs: Tensor, target: Gaussian) -> Tensor:
    """The standard deviation of the noise, of the outputs' shape."""
    if not isinstance(target.noise, tuple):
        return torch.full_like(outputs, target.noise * target.temperature)
    s = outputs.new_tensor(target.noise) * target.temperature
    return s.reshape(-1, *(1 for _ in outputs.shape[2:])).expand_as(outputs)


def _normal_entropy(variance: Tensor) -> Tensor:
    return 0.5 * (variance.log() + math.log(2 * math.pi) + 1)
