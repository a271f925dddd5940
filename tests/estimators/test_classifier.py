"""The classifier: two and more classes, probabilities by definition, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from laconic.errors import InputError
from laconic.estimators import RelevanceVectorClassifier


def mixture(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ripley's synthetic classes: each an equal mixture of two Gaussians with variance 0.03."""
    rng = np.random.default_rng(seed)
    centres = np.array([[[-0.7, 0.3], [0.3, 0.3]], [[-0.3, 0.7], [0.4, 0.7]]])
    labels = np.arange(count) % 2
    return centres[labels, rng.integers(2, size=count)] + np.sqrt(0.03) * rng.standard_normal(
        (count, 2)
    ), labels


@pytest.mark.parametrize("algorithm", ["fast", "reestimate"])
def test_ripleys_classes_take_few_vectors(algorithm: str) -> None:
    x, y = mixture(250, 0)
    machine = RelevanceVectorClassifier(gamma=4.0, algorithm=algorithm).fit(x, y)
    test, labels = mixture(1000, 1)
    assert machine.n_relevant_ <= 8
    assert machine.score(test, labels) > 0.88  # the best possible is 0.92


def test_moderated_probabilities_are_near_the_posteriors_average() -> None:
    x, y = mixture(60, 0)
    machine = RelevanceVectorClassifier(gamma=4.0).fit(x, y)
    one = machine.machines_[0]
    at = np.array([[0.0, 0.5], [-1.0, 0.5], [0.9, -0.2]])
    basis = np.exp(-4.0 * np.square(at[:, None] - x[None]).sum(-1))
    features = np.hstack([basis, np.ones((3, 1))])[:, one.columns]
    draws = np.random.default_rng(0).standard_normal((200_000, len(one.weights))) @ one.root + one.weights
    expected = expit(features @ draws.T).mean(axis=1)
    np.testing.assert_allclose(machine.predict_proba(at)[:, 1], expected, atol=0.02)
    plain = RelevanceVectorClassifier(gamma=4.0, moderated=False).fit(x, y)
    np.testing.assert_allclose(plain.predict_proba(at)[:, 1], expit(features @ one.weights), rtol=1e-9)
    np.testing.assert_array_equal(plain.predict(at), machine.predict(at))


def test_more_than_two_classes() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(120) % 3
    x = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])[codes] + 0.7 * rng.standard_normal((120, 2))
    names = np.array(["a", "b", "c"])[codes]
    machine = RelevanceVectorClassifier().fit(x, names)
    proba = machine.predict_proba(x)
    assert machine.score(x, names) > 0.93 and proba.shape == (120, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert machine.coef_.shape == (3, machine.n_relevant_)
    np.testing.assert_array_equal(
        machine.classes_[machine.decision_function(x).argmax(1)], machine.predict(x)
    )


def test_one_class_and_too_little_memory_are_refused() -> None:
    x, y = mixture(50, 0)
    with pytest.raises(InputError, match="y holds 1 class"):
        RelevanceVectorClassifier().fit(x, np.zeros(50))
    with pytest.raises(InputError, match="51 relevance vectors"):
        RelevanceVectorClassifier(algorithm="reestimate", max_bytes=100_000).fit(x, y)
    with pytest.raises(ValueError, match="Complex data"):
        RelevanceVectorClassifier().fit(x.astype(complex), y)
