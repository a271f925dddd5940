"""Sparse Bayesian learning as scikit-learn estimators (Tipping 2001; Tipping & Faul 2003). No torch.

They need scikit-learn: ``pip install 'laconic[estimators]'``.
"""

try:
    from laconic.estimators.classifier import RelevanceVectorClassifier
    from laconic.estimators.kernels import linear_spline
    from laconic.estimators.regressor import RelevanceVectorRegressor
except ModuleNotFoundError as error:
    if error.name not in ("sklearn", "scipy"):
        raise
    raise ImportError(
        f"laconic.estimators needs {error.name}, which the plain install leaves out. "
        "Cure: pip install 'laconic[estimators]'"
    ) from error

__all__ = ["RelevanceVectorClassifier", "RelevanceVectorRegressor", "linear_spline"]
