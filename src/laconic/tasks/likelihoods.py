r"""Negative log-likelihoods in nats, summed over their terms: with torch (``*_nll``) and with NumPy
(``*_nats``).

Both of a pair compute the same formula. All are computed from logits without an exponential that can
overflow. Torch outputs of 16 bits are computed in float32, NumPy arrays in float64.

Divergences (``*_kl``) compare two predictions of the same terms, the reference's first:
:math:`KL(p_{reference} \| p)`, with torch alone. Those without a likelihood (:func:`cosine_distance`,
:func:`relative_squared_error`) are for outputs that are no distribution, as embeddings.

Source: Murphy, Probabilistic Machine Learning: An Introduction (2022), sections 2.4 (Bernoulli), 2.5
(categorical, log-sum-exp) and 2.6 (Gaussian).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from laconic.tasks.outputs import main_tensor

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]

__all__ = [
    "bernoulli_kl",
    "bernoulli_nats",
    "bernoulli_nll",
    "categorical_kl",
    "categorical_nats",
    "categorical_nll",
    "cosine_distance",
    "gaussian_kl",
    "gaussian_nats",
    "gaussian_nll",
    "relative_squared_error",
    "soft_categorical_nats",
    "soft_categorical_nll",
]


def full_precision(outputs: Tensor) -> Tensor:
    """Outputs of 16 bits as float32; float32 and float64 as they are."""
    return outputs.float() if outputs.itemsize < 4 else outputs


# --- categorical ---------------------------------------------------------------------------


def categorical_nll(logits: Tensor, labels: Tensor, ignore: int | None = None) -> Tensor:
    r""":math:`\sum_n \log\sum_c e^{z_{nc}} - z_{n y_n}`.

    Args:
        logits: (N, C, ...).
        labels: (N, ...) integers in 0..C-1.
        ignore: The label whose terms do not count.

    Returns:
        A scalar, nats.

    >>> import torch
    >>> round(categorical_nll(torch.zeros(3, 2), torch.tensor([0, 1, -100]), -100).item(), 4)
    1.3863
    """
    import torch.nn.functional as F

    none = -100 if ignore is None else ignore  # labels were checked, so that none of them is -100
    return F.cross_entropy(full_precision(logits), labels.long(), ignore_index=none, reduction="sum")


def categorical_nats(logits: Array, labels: Array, ignore: int | None = None) -> float:
    """:func:`categorical_nll` of NumPy arrays.

    Args:
        logits: (N, C, ...).
        labels: (N, ...) integers in 0..C-1.
        ignore: The label whose terms do not count.

    Returns:
        Nats.

    >>> round(categorical_nats(np.zeros((3, 2)), np.array([0, 1, -100]), -100), 4)
    1.3863
    """
    counted = np.ones(labels.shape, bool) if ignore is None else labels != ignore
    classes_last = np.moveaxis(logits, 1, -1)[counted].astype(np.float64)
    chosen = labels[counted].astype(np.int64)
    return -float(_log_softmax(classes_last)[np.arange(len(chosen)), chosen].sum())


def soft_categorical_nll(logits: Tensor, probabilities: Tensor) -> Tensor:
    r""":math:`-\sum_n\sum_c p_{nc} \log\mathrm{softmax}(z_n)_c`, classes on axis 1; a class of p = 0 adds 0.

    Args:
        logits: (N, C, ...).
        probabilities: The same shape, >= 0, summing to 1 over the classes.

    Returns:
        A scalar, nats.

    >>> import torch
    >>> round(soft_categorical_nll(torch.zeros(1, 4), torch.tensor([[0.5, 0.5, 0.0, 0.0]])).item(), 4)
    1.3863
    """
    log_q = full_precision(logits).log_softmax(1)
    # A class that is ruled out by a logit of -inf adds 0 where its probability is 0, not 0 * -inf.
    return -(probabilities.to(log_q.dtype) * log_q.masked_fill(probabilities == 0, 0.0)).sum()


def soft_categorical_nats(logits: Array, probabilities: Array) -> float:
    """:func:`soft_categorical_nll` of NumPy arrays.

    Args:
        logits: (N, C, ...).
        probabilities: The same shape, >= 0, summing to 1 over the classes.

    Returns:
        Nats.

    >>> round(soft_categorical_nats(np.zeros((1, 4)), np.array([[0.5, 0.5, 0.0, 0.0]])), 4)
    1.3863
    """
    log_q = _log_softmax(np.moveaxis(logits, 1, -1).astype(np.float64))
    p = np.moveaxis(probabilities, 1, -1).astype(np.float64)
    return -float((p * np.where(p == 0, 0.0, log_q)).sum())


def categorical_kl(logits: Tensor, reference: Tensor, axis: int = 1, counted: Tensor | None = None) -> Tensor:
    r""":math:`\sum_n\sum_c p_{nc} (\log p_{nc} - \log q_{nc})`, p of ``reference``, q of ``logits``.

    Args:
        logits: Any shape, with the classes on ``axis``.
        reference: The same shape.
        axis: The axis of the classes.
        counted: Booleans of that shape without ``axis``: which positions are terms (None: all).

    Returns:
        A scalar, nats, at least 0 but for rounding.

    >>> import torch
    >>> half, sure = torch.zeros(1, 2), torch.tensor([[0.0, -1000.0]])
    >>> round(categorical_kl(half, sure).item(), 4), categorical_kl(sure, sure).item()
    (0.6931, 0.0)
    """
    log_q, log_p = (full_precision(z).movedim(axis, -1).log_softmax(-1) for z in (logits, reference))
    if counted is not None:
        log_q, log_p = log_q[counted], log_p[counted]
    p = log_p.exp()
    # A class of probability 0 adds 0, whatever its logits are: -inf among them.
    return (p * (log_p - log_q).masked_fill(p == 0, 0.0)).sum()


def _log_softmax(logits: Array) -> Array:
    """Over the last axis; the largest logit is taken off first, so that no exponential overflows."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_q: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return log_q


# --- Bernoulli -----------------------------------------------------------------------------


def bernoulli_nll(logits: Tensor, targets: Tensor, counted: Tensor | None = None) -> Tensor:
    r""":math:`\sum_n \max(z_n, 0) - y_n z_n + \log(1 + e^{-|z_n|})`.

    Args:
        logits: Any shape.
        targets: The same shape, in [0, 1]; any value where ``counted`` is False.
        counted: Booleans of the same shape: which entries are terms (None: all).

    Returns:
        A scalar, nats.

    >>> import torch
    >>> round(bernoulli_nll(torch.zeros(2), torch.tensor([0.0, 1.0])).item(), 4)
    1.3863
    """
    import torch.nn.functional as F

    z = full_precision(logits)
    y = targets.to(z.dtype)
    if counted is None:
        return F.binary_cross_entropy_with_logits(z, y, reduction="sum")
    y = y.masked_fill(~counted, 0.0)  # NaN marks an entry that is no term
    return F.binary_cross_entropy_with_logits(z, y, reduction="none").masked_fill(~counted, 0.0).sum()


def bernoulli_nats(logits: Array, targets: Array, counted: Array | None = None) -> float:
    """:func:`bernoulli_nll` of NumPy arrays.

    Args:
        logits: Any shape.
        targets: The same shape, in [0, 1]; any value where ``counted`` is False.
        counted: Booleans of the same shape: which entries are terms (None: all).

    Returns:
        Nats.

    >>> round(bernoulli_nats(np.zeros(2), np.array([0.0, np.nan]), np.array([True, False])), 4)
    0.6931
    """
    z, y = logits.astype(np.float64), targets.astype(np.float64)
    if counted is not None:
        z, y = z[counted], y[counted]
    return float((np.maximum(z, 0.0) - y * z + np.log1p(np.exp(-np.abs(z)))).sum())


def bernoulli_kl(logits: Tensor, reference: Tensor, counted: Tensor | None = None) -> Tensor:
    r""":math:`\sum_n p_n \log\frac{p_n}{q_n} + (1 - p_n) \log\frac{1 - p_n}{1 - q_n}`, p of ``reference``.

    Args:
        logits: Any shape.
        reference: The same shape.
        counted: Booleans of the same shape: which entries are terms (None: all).

    Returns:
        A scalar, nats, at least 0 but for rounding.

    >>> import torch
    >>> round(bernoulli_kl(torch.zeros(1), torch.tensor([1000.0])).item(), 4)
    0.6931
    """
    import torch.nn.functional as F

    z, y = full_precision(logits), full_precision(reference)
    if counted is not None:
        z, y = z[counted], y[counted]
    p = y.sigmoid()
    yes, no = F.logsigmoid(y) - F.logsigmoid(z), F.logsigmoid(-y) - F.logsigmoid(-z)
    return (p * yes.masked_fill(p == 0, 0.0) + (1 - p) * no.masked_fill(p == 1, 0.0)).sum()


# --- Gaussian ------------------------------------------------------------------------------


def gaussian_nll(residuals: Tensor, log_std: Tensor, counted: Tensor | None = None) -> Tensor:
    r""":math:`\sum_n \frac12\log 2\pi + \log s_n + \frac12 (r_n / s_n)^2`.

    Args:
        residuals: Output minus target, any shape, in the target's unit.
        log_std: Logarithm of the noise's standard deviation; its shape broadcasts to that of ``residuals``.
        counted: Booleans of the same shape: which entries are terms (None: all).

    Returns:
        A scalar, nats (of a density: it is lower by log 1000 for each entry that goes from grams to
        kilograms).

    >>> import torch
    >>> round(gaussian_nll(torch.tensor([0.0, 1.0]), torch.tensor(0.0)).item(), 4)
    2.3379
    """
    r = full_precision(residuals)
    if counted is not None:
        r = r.masked_fill(~counted, 0.0)
    terms = 0.5 * math.log(2 * math.pi) + log_std + 0.5 * (r * (-log_std).exp()) ** 2
    return terms.sum() if counted is None else terms.masked_fill(~counted, 0.0).sum()


def gaussian_nats(residuals: Array, log_std: Array | float, counted: Array | None = None) -> float:
    """:func:`gaussian_nll` of NumPy arrays.

    Args:
        residuals: Output minus target, any shape, in the target's unit.
        log_std: Logarithm of the noise's standard deviation; its shape broadcasts to that of ``residuals``.
        counted: Booleans of the same shape: which entries are terms (None: all).

    Returns:
        Nats.

    >>> round(gaussian_nats(np.array([0.0, 1.0]), 0.0), 4)
    2.3379
    """
    r = residuals.astype(np.float64)
    terms = 0.5 * math.log(2 * math.pi) + log_std + 0.5 * (r * np.exp(-np.asarray(log_std))) ** 2
    return float((terms if counted is None else terms[counted]).sum())


def gaussian_kl(difference: Tensor, log_std: Tensor, counted: Tensor | None = None) -> Tensor:
    r""":math:`\sum_n \frac12 (d_n / s_n)^2`: of two means with the same noise s.

    Args:
        difference: Output minus reference output, any shape, in the target's unit.
        log_std: Logarithm of the noise's standard deviation; its shape broadcasts to that of ``difference``.
        counted: Booleans of the same shape: which entries are terms (None: all).

    Returns:
        A scalar, nats.

    >>> import torch
    >>> gaussian_kl(torch.tensor([0.0, 2.0]), torch.tensor(0.0)).item()
    2.0
    """
    d = full_precision(difference)
    if counted is not None:
        d = d.masked_fill(~counted, 0.0)
    return 0.5 * (d * (-log_std).exp()).square().sum()


# --- without a likelihood ------------------------------------------------------------------


def cosine_distance(outputs: Tensor, reference: Tensor) -> Tensor:
    r""":math:`\sum_n 1 - \frac{z_n \cdot r_n}{\lVert z_n \rVert \lVert r_n \rVert}` over examples n.

    It is the divergence of two von Mises-Fisher distributions around the two directions, but for a factor.

    Args:
        outputs: (N, ...); all that belongs to one example is one vector. A vector of zeros is at distance 1.
            Of a dictionary or a dataclass the tensor that :func:`laconic.tasks.outputs.main_tensor` takes.
        reference: The same shape.

    Returns:
        A scalar, from 0 to 2 N.

    Source: Banerjee et al., Clustering on the Unit Hypersphere using von Mises-Fisher Distributions (2005).

    >>> import torch
    >>> round(cosine_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 3.0]])).item(), 4)
    0.2929
    """
    import torch.nn.functional as F

    tensors = (main_tensor(outputs), main_tensor(reference))
    z, r = (F.normalize(full_precision(x).reshape(len(x), -1), dim=1) for x in tensors)
    # 1 - z.r loses all digits of a small distance; half the squared chord keeps them.
    chord = 0.5 * (z - r).square().sum(1)
    lost = (z == 0).all(1) | (r == 0).all(1)
    return chord.masked_fill(lost, 1.0).sum()


def relative_squared_error(outputs: Tensor, reference: Tensor) -> Tensor:
    r""":math:`N \sum_n \lVert z_n - r_n \rVert^2 / \sum_n \lVert r_n \rVert^2` of a batch of N examples.

    Args:
        outputs: (N, ...).
        reference: The same shape.

    Returns:
        A scalar; N times the share of the reference's energy that is in the difference.

    >>> import torch
    >>> relative_squared_error(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]])).item()
    1.0
    """
    z, r = full_precision(main_tensor(outputs)), full_precision(main_tensor(reference))
    energy = r.square().sum().clamp(min=1e-30)
    return len(r) * (z - r).square().sum() / energy
