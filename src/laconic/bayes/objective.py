r"""The ELBO in nats, with checks of its scale.

.. math:: loss = \frac1M\sum_{m \in batch} -\log p(y_m|x_m, w) + \beta(t)\,\lambda\,\frac{KL(q\|p)}{N}

with N training examples, batches of M, warm-up :math:`\beta` and KL weight :math:`\lambda` (1 for the ELBO).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from laconic.errors import ScaleError
from laconic.schedules import WarmUp
from laconic.tasks.checks import check_data_size


@dataclass(frozen=True)
class Objective:
    r"""The ELBO's scale: the weight of the whole network's KL against one term of the likelihood.

    .. math:: loss = \frac1M\sum_{m \in batch} -\log p(y_m|x_m, w) + \beta(t)\,\lambda\,\frac{KL(q\|p)}{N}

    (Kingma, Salimans & Welling 2015, with warm-up and tempering).

    Args:
        data_size: N, training examples (or pixels or tokens: what the task counts as terms).
        kl_weight: :math:`\lambda`, 1 for the ELBO. 1/N is applied here, so it never goes into the weight.
        warm_up: :math:`\beta`, in the units of the ``progress`` that is handed in.

    Raises:
        ScaleError: A data size or a KL weight that cannot be meant; the message says why.

    >>> import torch
    >>> Objective(100).loss(torch.tensor([1.0, 3.0]), torch.tensor(50.0), progress=0).item()
    2.5
    """

    data_size: int
    kl_weight: float = 1.0
    warm_up: WarmUp = field(default_factory=WarmUp)

    def __post_init__(self) -> None:
        check_data_size(self.data_size)
        check_kl_weight(self.kl_weight, self.data_size)

    def beta(self, progress: float) -> float:
        """The warm-up factor at ``progress``."""
        return self.warm_up.factor(progress)

    def penalty(self, kl_nats: Tensor, progress: float) -> Tensor:
        """``beta * kl_weight * KL / data_size``: nats per example from nats for the whole network."""
        if kl_nats.ndim:
            raise ScaleError(
                f"the KL must be one number for the whole network, got shape {tuple(kl_nats.shape)}. "
                "Cure: sum it over all weights (not mean: an average would shrink with the network)"
            )
        return kl_nats * (self.beta(progress) * self.kl_weight / self.data_size)

    def loss(self, nll: Tensor, kl_nats: Tensor, progress: float, batch_size: int | None = None) -> Tensor:
        """Mean negative log-likelihood of the batch plus the penalty, nats per example.

        ``nll``: one value per example, or their mean together with ``batch_size``.
        """
        if nll.ndim > 1:
            raise ScaleError(
                f"nll must hold one number per example or be their mean, got shape {tuple(nll.shape)}. "
                "Cure: sum over everything but the batch (reduction='none', then .flatten(1).sum(1))"
            )
        batch = nll.shape[0] if nll.ndim else batch_size
        if nll.ndim and batch_size is not None and batch_size != batch:
            raise ScaleError(
                f"nll holds {batch} examples, batch_size says {batch_size}. Cure: batch_size={batch}, or none"
            )
        if batch is not None:
            self.check_batch(batch)
        return nll.mean() + self.penalty(kl_nats, progress)

    def check_batch(self, batch_size: int) -> None:
        """Raises ScaleError for a batch that is empty or larger than the data."""
        if batch_size < 1:
            raise ScaleError(
                f"a batch must hold at least one example, got {batch_size}. Cure: leave empty batches out"
            )
        if batch_size > self.data_size:
            raise ScaleError(
                f"a batch of {batch_size} examples met data_size={self.data_size}. "
                "Cure: data_size is the number of training examples, not of batches"
            )


def check_kl_weight(kl_weight: float, data_size: int) -> None:
    """Raises ScaleError for a negative weight, or one that looks as if it held 1/N already."""
    if not (math.isfinite(kl_weight) and kl_weight >= 0):
        raise ScaleError(
            f"kl_weight must be finite and >= 0, got {kl_weight}. Cure: kl_weight=1 for the ELBO"
        )
    tiny = 0 < kl_weight <= min(2.0 / data_size, 0.005)  # tempered weights of 0.01 are usual
    if data_size > 20 and (tiny or abs(kl_weight * data_size - 1.0) <= 0.01):
        raise ScaleError(
            f"kl_weight={kl_weight:g} looks like 1/data_size (data_size={data_size}): the KL is divided by "
            f"data_size here already, and doing it twice leaves next to no regularisation. "
            "Cure: kl_weight=1 for the ELBO, 0.01 to 1 for a tempered one, 0 for none"
        )
