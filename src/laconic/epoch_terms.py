"""Whether ``data_size`` can be right: the likelihood terms of an epoch, from the batches of a training loop.

Where each pixel or token is a term, the number of images or texts in its place would weigh the KL many times
too much. No torch.
"""

from __future__ import annotations

TOO_MANY = 3.0
"""Terms of an epoch that are told, in multiples of ``data_size``: repeated augmentation stays below."""

_STEPS = 10
_SHORTEST = 4


class EpochTerms:
    """Estimates the terms of an epoch, once, and compares them with ``data_size``.

    Where the number of batches in an epoch is known, and a step is one batch, the mean of the first ten
    counts. Elsewhere an epoch is known by its end: its last batch has fewer examples than all others. Two
    epochs of four or more steps must agree, so that loops that alternate between loaders, or batches of many
    sizes, are not mistaken.

    Args:
        data_size: Likelihood terms in the training data, as the user gave it.
        length: Batches in an epoch; None where it is not known.

    >>> watched = EpochTerms(data_size=100)
    >>> notes = [watched.see(examples, 32 * examples) for examples in (32, 32, 32, 4) * 2]
    >>> [note[:56] for note in notes if note]
    ['an epoch of this loop has 3200 likelihood terms, and dat']
    """

    def __init__(self, data_size: int, length: int | None = None) -> None:
        self._data_size = data_size
        self._length = length
        self._usual: int | None = None
        self._steps = self._terms = 0
        self._before: tuple[int, int] | None = None
        self._done = length == 0

    def see(self, examples: int, terms: int, *, whole_batch: bool = True) -> str | None:
        """Count a step of training.

        Args:
            examples: Examples in its batch.
            terms: Likelihood terms in its batch.
            whole_batch: Whether the step is known to be of one batch. A step over several (gradients are
                added up) is not, and the number of batches says nothing of the number of steps.

        Returns:
            A note on a ``data_size`` that is too small, at most once.
        """
        if self._done:
            return None
        self._steps += 1
        self._terms += terms
        if not whole_batch:
            self._length = None
        found = self._by_length() if self._length else self._by_end(examples)
        if found is None:
            return None
        self._done = True
        if found <= TOO_MANY * self._data_size:
            return None
        return (
            f"an epoch of this loop has {found} likelihood terms, and data_size={self._data_size}: the "
            f"penalty weighs {found / self._data_size:.1f} times too much beside the likelihood. Cure: "
            f"data_size={found} in laconic.prepare or compress (where each pixel or token is a term, their "
            "number and not that of the images or texts)"
        )

    def _by_length(self) -> int | None:
        length = self._length or 1
        if self._steps < min(length, _STEPS):
            return None
        return round(self._terms * length / self._steps)

    def _by_end(self, examples: int) -> int | None:
        self._usual = examples if self._usual is None else self._usual
        if examples == self._usual:
            return None
        ended, terms = (self._steps, examples), self._terms
        if examples > self._usual or self._steps < _SHORTEST or self._before not in (None, ended):
            self._done = True
            return None
        if self._before == ended:
            return terms
        self._before, self._steps, self._terms = ended, 0, 0
        return None
