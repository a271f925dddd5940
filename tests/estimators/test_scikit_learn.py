"""scikit-learn's own checks of an estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from laconic.estimators import RelevanceVectorClassifier, RelevanceVectorRegressor

# Iterations are limited for time alone: the checks pass without, too.
ESTIMATORS = [RelevanceVectorRegressor(max_iter=100), RelevanceVectorClassifier(max_iter=100)]


@pytest.mark.filterwarnings("ignore:the evidence still rises")
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learns_check(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
