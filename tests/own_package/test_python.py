"""A prior, a method and a task of an installed package: they pass the public suites, and work from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.errors import InputError, NoKLRuleError
from laconic.methods import SparseVD, Target
from laconic.runtime import load
from laconic.tasks import find_task, make_task, task_names
from laconic.testing import check_kl, check_method, check_task
from laconic.testing.methods import digits
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.zoo import DigitsResNet


def batches(size: int = 32) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Digits as grades 0 to 9, which is what ordinal regression takes."""
    x, y = digits()
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def test_the_prior_passes_the_check_of_its_kl(own: Path) -> None:
    from ordinal_laplace.laplace import Laplace

    from laconic.bayes.posteriors import Gaussian

    q = Gaussian(
        torch.tensor([0.0, 0.3, -2.0, 1e-3], dtype=torch.float64),
        torch.tensor([-3.0, 0.5, -6.0, -14.0], dtype=torch.float64),
    )
    for scale in (0.05, 0.7):
        density = torch.distributions.Laplace(0.0, torch.tensor(scale, dtype=torch.float64))
        found = check_kl(q, Laplace(scale), density.log_prob)
        assert (found > 0).all()


def test_the_posterior_passes_the_check_of_its_kl(own: Path) -> None:
    from ordinal_laplace.laplace import Laplace
    from ordinal_laplace.laplace_posterior import LaplaceWeights

    from laconic.bayes import NoiseSource, kl_divergence

    mean = torch.tensor([0.0, 0.3, -2.0], dtype=torch.float64)
    q = LaplaceWeights(mean, torch.tensor([-3.0, 0.5, -1.0], dtype=torch.float64))
    density = torch.distributions.Laplace(mean, q.log_scale.exp())
    prior = torch.distributions.Laplace(0.0, torch.tensor(0.7, dtype=torch.float64))
    check_kl(q, Laplace(0.7), prior.log_prob, density.log_prob, draws=100)
    by_torch = torch.distributions.kl_divergence(density, prior)
    assert kl_divergence(q, Laplace(0.7)).tolist() == pytest.approx(by_torch.tolist(), rel=1e-12)
    many = LaplaceWeights(*(t.expand(20_000, 3) for t in (q.mean, q.log_scale)))
    draws = many.rsample(NoiseSource(0))
    # 20 000 draws, kurtosis 6: the variance's standard error is 1.6 %, the mean's 0.7 % of the deviation
    assert (draws.var(0) / q.moments()[1]).tolist() == pytest.approx([1.0] * 3, abs=0.1)
    assert ((draws.mean(0) - mean) / q.moments()[1].sqrt()).tolist() == pytest.approx([0.0] * 3, abs=0.05)


def test_sparse_vd_with_the_prior_and_the_posterior(own: Path) -> None:
    from ordinal_laplace.laplace import Laplace
    from ordinal_laplace.laplace_posterior import LaplaceFamily

    check_method(SparseVD(prior=Laplace()))
    check_method(SparseVD(prior=Laplace(), posterior=LaplaceFamily(-3.0)))
    with pytest.raises(NoKLRuleError, match=r"no rule for KL\(LaplaceWeights \|\| LogUniform\)"):
        check_method(SparseVD(posterior=LaplaceFamily()))


def test_the_task_passes_the_suite(own: Path) -> None:
    task = make_task("ordinal")
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(7, 4, generator=generator)
    target = torch.randint(0, 5, (7,), generator=generator)
    check_task(task, outputs, target)
    above = target[:, None] > torch.arange(4)
    by_hand = -torch.where(above, outputs.sigmoid(), 1 - outputs.sigmoid()).log().sum()
    assert float(task.nll(outputs, target)) == pytest.approx(float(by_hand), rel=1e-5)


def test_the_method_passes_the_suite(own: Path, tmp_path: Path) -> None:
    from ordinal_laplace.laplace_vi import LaplaceVI

    small = check_method(LaplaceVI(kl_weight=4.0, threshold=2.0, init_log_var=-6.0))
    left, whole = sum(t.nonzeros() for t in small.tensors.values()), 4810
    assert 0 < left < 0.9 * whole
    residual = lambda: DigitsResNet(generator=torch.Generator().manual_seed(5))
    check_method(LaplaceVI(init_log_var=-6.0), residual, tmp_path)


def test_all_in_one_compression(own: Path, tmp_path: Path) -> None:
    """The package's method and prior, then one of the library's, on the package's task."""
    from ordinal_laplace.laplace_vi import LaplaceVI

    torch.manual_seed(0)
    model, task = nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), make_task("ordinal")
    fit(model, batches(), FitConfig(30, lr=1e-2), Hooks.plain(model, task), task=task)
    small = laconic.compress(
        model,
        batches(),
        batches(),
        [LaplaceVI(init_log_var=-6.0), SparseVD(hold_from=2.0)],
        Target(max_drop=0.3),
        task=task,
        fit=FitConfig(4, lr=3e-3),
        out=tmp_path / "run",
    )
    assert small.facts["metric"] == {"name": "mean rank error", "unit": "ranks", "higher_is_better": False}
    drop = small.facts["validation_metric"] - small.facts["original_validation_metric"]
    assert drop <= 0.3 + 1e-9
    net, sums = load(tmp_path / "run" / "model.lac", precision="fp32"), np.zeros(2)
    for x, y in batches():
        sums += task.measure(net(x.numpy()), y.numpy())
    assert task.value(sums) == pytest.approx(small.facts["validation_metric"], rel=1e-6)
    assert len(small.stages) == 1
    again = laconic.compress(
        model,
        batches(),
        batches(),
        [LaplaceVI(init_log_var=-6.0), SparseVD(hold_from=2.0)],
        Target(max_drop=0.3),
        task=task,
        fit=FitConfig(4, lr=3e-3),
        out=tmp_path / "run",
        resume=True,
    )
    assert again.facts["validation_metric"] == small.facts["validation_metric"]


def test_names_are_found_and_misspelt_ones_told(own: Path) -> None:
    assert "ordinal" in task_names()
    assert find_task("ordinal").kind.__name__ == "OrdinalRegression"
    assert find_task("ordinal_laplace.ordinal:OrdinalRegression").kind is find_task("ordinal").kind
    with pytest.raises(InputError, match="did you mean ordinal"):
        find_task("ordinl")


def test_the_task_scores_without_torch(installed: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from laconic.tasks import make_task\n"
        "task = make_task('ordinal')\n"
        "z, y = np.array([[2.0, -1.0], [3.0, 1.0]], np.float32), np.array([1, 0])\n"
        "print(task.value(task.measure(z, y)), round(task.nats(z, y), 3), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    # ranks 1 and 2 against 1 and 0; log(1 + e^-2) + log(1 + e^-1) + log(1 + e^3) + log(1 + e^1)
    assert done.stdout.split() == ["1.0", "4.8020", "False"] or done.stdout.split() == [
        "1.0",
        "4.802",
        "False",
    ], done
