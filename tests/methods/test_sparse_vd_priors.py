"""Sparse variational dropout trains, converts and is stored under each prior that has a rule."""

from __future__ import annotations

import pytest

from laconic.bayes import DensityPrior, HalfCauchy, Laplace, Normal, SpikeAndSlab, StudentT
from laconic.errors import NoKLRuleError
from laconic.methods import SparseVD
from laconic.schedules import WarmUp
from laconic.testing import check_method


@pytest.mark.parametrize(
    "prior",
    [Laplace(0.1), StudentT(3.0, 0.1), SpikeAndSlab(Normal(std=0.02), StudentT(3.0, 0.2))],
    ids=lambda prior: type(prior).__name__,
)
def test_it_keeps_a_methods_promises(prior: DensityPrior) -> None:
    small = check_method(SparseVD(prior=prior, warm_up=WarmUp(0.0, 1.0)))
    assert sum(t.nonzeros() for t in small.tensors.values()) > 0


def test_a_prior_without_a_rule_is_refused_with_the_pairs_that_have_one() -> None:
    said = (
        r"no rule for KL\(Gaussian \|\| HalfCauchy\). Gaussian has rules with the priors: .*any DensityPrior"
        r".*; HalfCauchy with the posteriors: LogNormalPair. Cure: one of these pairs, or a function"
    )
    with pytest.raises(NoKLRuleError, match=said):
        check_method(SparseVD(prior=HalfCauchy()))
