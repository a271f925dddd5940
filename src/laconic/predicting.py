"""The verb ``predict``: predictions averaged over draws of a network's weights, with their uncertainty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from laconic.bayes.predictive import Predictive, predictive
from laconic.errors import InputError
from laconic.networks import call
from laconic.networks.modes import evaluating
from laconic.networks.noise import NoiseSource
from laconic.networks.stochastic import sampling
from laconic.networks.wrappers import unwrapped
from laconic.prepared import likelihood_of, prepared
from laconic.tasks import Task
from laconic.tasks.predictive import Predictive as Target

__all__ = ["Predictive", "predict"]


def predict(
    network: nn.Module,
    inputs: Any,
    *,
    samples: int = 30,
    generator: torch.Generator | None = None,
) -> Predictive:
    r"""Predict with ``samples`` draws of the weights: mean, variance, entropy and mutual information.

    .. math:: p(y | x) = \frac1S \sum_{s=1}^{S} p(y | x, w_s), \quad w_s \sim q(w)

    Each pass draws all weights (and gates, and dropout masks of a Bayesian method) anew, the same for all
    inputs. Batch norms and a network's own dropout are in evaluation mode. Training is not touched: neither
    modes nor the network's noise move on. One call is one batch in memory.

    Args:
        network: A prepared network of a method with a posterior.
        inputs: The inputs of one batch: a tensor, a tuple of inputs, or a dictionary of keyword inputs.
        samples: Number of passes S, at least 1.
        generator: Where the draws come from (None: from the network's seed, so that two calls agree).

    Returns:
        The prediction, term by term; entropies in nats.

    Raises:
        NotPreparedError: A plain network, or one whose method draws nothing.
        InputError: ``samples``, or a task that does not say how targets are distributed.

    >>> import laconic
    >>> from laconic.methods import SparseVD
    >>> net = laconic.prepare(nn.Linear(4, 3), SparseVD(init_log_var=-1.0), torch.zeros(1, 4), data_size=100)
    >>> p = laconic.predict(net, torch.ones(5, 4), samples=20)
    >>> tuple(p.mean.shape), tuple(p.entropy.shape), bool((p.mutual_information > 0).all())
    ((5, 3), (5,), True)
    """
    plain = unwrapped(network)
    state = prepared(plain, "predict")
    task = state.context.task
    target = _target(task, likelihood_of(plain))
    noise = NoiseSource(state.context.noise.seed if generator is None else _seed(generator))
    return predictive(_passes(plain, inputs, task, _checked(samples), noise), target)


def _passes(net: nn.Module, inputs: Any, task: Task, samples: int, noise: NoiseSource) -> Iterator[Tensor]:
    """The outputs of each pass."""
    with evaluating(net), sampling(net, noise), torch.no_grad():
        for _ in range(samples):
            yield task.prediction(call(net, inputs))


def _target(task: Task, learnt: dict[str, Tensor]) -> Target:
    """How the task's targets are distributed; raises InputError where it does not say."""
    found = task.predictive(**learnt)
    if found is None:
        raise InputError(
            f"predict: {type(task).__name__} does not say how targets are distributed given outputs. Cure: a "
            "task of laconic.tasks, as Classification() or Regression(), or a method predictive() of the task"
        )
    return found


def _seed(generator: torch.Generator) -> int:
    """A seed that is drawn from a generator, which moves on."""
    return int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))


def _checked(samples: int) -> int:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise InputError(f"samples must be a whole number of at least 1, got {samples!r}. Cure: samples=30")
    return samples
