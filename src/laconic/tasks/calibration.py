r"""How far confidences are from the truth, and which answers a change of the network flipped. No torch.

Source of the calibration error: Naeini, Cooper & Hauskrecht, AAAI 2015; Guo et al., On Calibration of Modern
Neural Networks, ICML 2017, equation 3 (15 bins in its section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laconic.errors import DataError, InputError

Array = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]

BINS = 15


def confidence_and_answer(logits: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The most likely class of each example and its probability.

    Args:
        logits: (N, C), the classes on the last axis.

    Returns:
        Probabilities (N,) and classes (N,).

    >>> confidence, answer = confidence_and_answer(np.log(np.array([[0.25, 0.75]])))
    >>> confidence.round(2).tolist(), answer.tolist()
    ([0.75], [1])
    """
    z = np.asarray(logits, np.float64)
    answer = z.argmax(-1)
    highest = np.take_along_axis(z, answer[..., None], -1)
    return 1.0 / np.exp(z - highest).sum(-1), answer


def expected_calibration_error(confidence: Array, right: npt.NDArray[np.bool_], bins: int = BINS) -> float:
    r"""Mean distance of confidence and accuracy in bins of equal width, in %.

    .. math:: ECE = 100 \sum_b \frac{n_b}{N}\, |acc_b - conf_b|

    Args:
        confidence: Probability of the answer, (N,), in [0, 1].
        right: Whether the answer is right, (N,).
        bins: Number of bins.

    Returns:
        Percentage points in [0, 100].

    Raises:
        InputError: No bin, or different numbers of the two.
        DataError: No example.

    >>> expected_calibration_error(np.array([0.9, 0.9, 0.5, 0.5]), np.array([True, True, True, False]))
    5.0
    """
    if bins < 1 or confidence.shape != right.shape:
        raise InputError(
            f"calibration: {bins} bins, confidences {confidence.shape}, answers {right.shape}. Cure: bins=15 "
            "and one confidence an answer"
        )
    if not confidence.size:
        raise DataError("calibration: there is no example. Cure: a set that is not empty")
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # (k/bins, (k+1)/bins]
    gaps = np.bincount(place, right.astype(np.float64) - confidence, bins)
    return round(float(100 * np.abs(gaps).sum() / confidence.size), 12)


@dataclass(frozen=True)
class Flips:
    """Answers that differ between two networks on the same examples, as counts.

    Args:
        right_to_wrong: The first was right, the second is wrong.
        wrong_to_right: The other way.
        changed: All that differ, those included that are wrong in both.

    >>> Flips.between(np.array([1, 2, 3, 0]), np.array([1, 0, 0, 2]), np.array([1, 2, 0, 1]))
    Flips(right_to_wrong=1, wrong_to_right=1, changed=3)
    """

    right_to_wrong: int
    wrong_to_right: int
    changed: int

    @classmethod
    def between(cls, before: Labels, after: Labels, truth: Labels) -> Flips:
        """The flips from one network's answers to another's, (N,) each."""
        was, now = before == truth, after == truth
        return cls(int((was & ~now).sum()), int((~was & now).sum()), int((before != after).sum()))
