from typing import Any

import pytest
import torch

from laconic.bayes.kl import kl_divergence
from laconic.bayes.kl.dispatch import TABLE, KLTable, check_rules
from laconic.bayes.posteriors import Gaussian, Multiplicative, Scaled
from laconic.bayes.priors import LogUniform, Normal, ScaleMixture, Spikes
from laconic.errors import InputError, NoKLRuleError


class Q: ...


class Q2(Q): ...


class P: ...


class P2(P): ...


def test_the_most_specific_rule_wins():
    table = KLTable()
    table.register(Q, P)(lambda q, p: torch.tensor(1.0))
    table.register(Q2, P)(lambda q, p: torch.tensor(2.0))
    assert table.find(Q, P2)(0, 0) == 1.0
    assert table.find(Q2, P2)(0, 0) == 2.0


def test_two_rules_of_equal_rank_raise_until_one_settles_it():
    table = KLTable()
    table.register(Q2, P)(lambda q, p: torch.tensor(1.0))
    table.register(Q, P2)(lambda q, p: torch.tensor(2.0))
    with pytest.raises(NoKLRuleError, match="ambiguous"):
        table.find(Q2, P2)
    table.register(Q2, P2)(lambda q, p: torch.tensor(3.0))
    assert table.find(Q2, P2)(0, 0) == 3.0


def test_a_missing_rule_names_both_types_and_the_cure():
    with pytest.raises(NoKLRuleError, match=r"KL\(Gaussian \|\| P\).*register_kl\(Gaussian, P\)"):
        kl_divergence(Gaussian(torch.zeros(1), torch.zeros(1)), P())


def test_a_pair_has_one_rule():
    table = KLTable()
    table.register(Q, P)(lambda q, p: torch.tensor(1.0))
    with pytest.raises(NoKLRuleError, match=r"already. Cure: @register_kl\(Q, P, replace=True\)"):
        table.register(Q, P)(lambda q, p: torch.tensor(2.0))
    assert table.find(Q, P)(0, 0) == 1.0


def test_a_rule_is_replaced_with_its_total():
    table = KLTable()
    table.register(Q, P, total=lambda q, p: torch.tensor(9.0))(lambda q, p: torch.tensor(1.0))
    table.register(Q, P, replace=True)(lambda q, p: torch.tensor([2.0, 3.0]))
    assert table.total(Q, P)(0, 0) == 5.0


def test_the_shipped_pairs():
    assert set(TABLE.pairs()) >= {
        (Gaussian, LogUniform),
        (Gaussian, Spikes),
        (Gaussian, Normal),
        (Multiplicative, LogUniform),
        (Multiplicative, Normal),
        (Scaled, ScaleMixture),
    }


@pytest.mark.parametrize(("prior", "said"), [("normal", "'normal' is a name"), (Normal, "Normal is a class")])
def test_a_name_or_a_class_as_prior_is_refused(prior: Any, said: str) -> None:
    q = Gaussian(torch.ones(2), torch.zeros(2))
    with pytest.raises(InputError, match=f"prior={said}, not a prior. Cure: an object"):
        check_rules({"fc.weight": q}, prior)
