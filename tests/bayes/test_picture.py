"""What the picture of a prior shows: its density, the KL of its rule, and recorded posteriors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.bayes import (
    Gaussian,
    HalfCauchy,
    Laplace,
    Normal,
    PosteriorPath,
    ScaleMixture,
    Spikes,
    draw_prior,
    kl_divergence,
    posteriors_of,
)
from laconic.bayes.picture import prior_picture
from laconic.bayes.posterior_path import read_path
from laconic.cli import main
from laconic.errors import InputError, ReadError
from laconic.methods import SparseVD


def prepared() -> nn.Module:
    torch.manual_seed(0)
    return laconic.prepare(nn.Linear(6, 4), SparseVD(), torch.zeros(1, 6), data_size=100)


def test_a_path_is_that_of_the_posteriors() -> None:
    net = prepared()
    path = PosteriorPath(net, count=30)  # all 24
    q = posteriors_of(net)["weight"]
    before = q.expectation().detach().flatten().numpy().copy()
    with torch.no_grad():
        net.weight.add_(1.0)
        net.weight_log_var.fill_(-2.0)
    assert path(0, 1.5) == ""
    assert path.means.shape == path.stds.shape == (2, 24)
    np.testing.assert_array_equal(path.means[0], before)
    np.testing.assert_allclose(path.means[1], before + 1.0, rtol=1e-6)
    np.testing.assert_allclose(path.stds[:, 0], np.exp([-4.0, -1.0]), rtol=1e-6)
    few = PosteriorPath(net, count=3)
    assert few.means.shape == (1, 3) and np.isin(few.means[0], path.means[1]).all()
    with pytest.raises(InputError, match="at least one weight, got count=0. Cure"):
        PosteriorPath(net, count=0)


def test_the_landscape_is_the_rules_kl_at_each_place() -> None:
    picture = prior_picture(Laplace(0.2), width=0.5)
    assert (picture.weights[0], picture.weights[-1], picture.improper) == (-0.5, 0.5, False)
    assert picture.kl is not None and picture.kl.shape == (len(picture.stds), len(picture.weights))
    for down, across in ((0, 0), (40, 300), (120, 450)):
        place = torch.tensor([picture.weights[across]]), torch.tensor([2 * np.log(picture.stds[down])])
        wanted = kl_divergence(Gaussian(*place), Laplace(0.2)).item()
        assert picture.kl[down, across] == pytest.approx(wanted, rel=1e-5)
    assert picture.log_density[300] == pytest.approx(-np.log(0.4))


def test_what_is_shown_holds_the_draws_and_the_posteriors() -> None:
    assert prior_picture(Normal(std=0.1)).weights[-1] == pytest.approx(0.2576, rel=0.1)
    paths = np.float32([[0.7, -0.9]]), np.float32([[1e-4, 3.0]])
    picture = prior_picture(Normal(std=0.1), posteriors=paths)
    assert picture.weights[-1] > 0.9
    assert picture.stds[0] < 1e-4 and picture.stds[-1] > 3.0


@pytest.mark.parametrize("prior", [HalfCauchy(0.3), Spikes((-0.2, 0.0, 0.2))], ids=["half-cauchy", "spikes"])
def test_infinite_densities_and_priors_without_a_rule_are_drawn(prior: object, tmp_path: Path) -> None:
    draw_prior(prior, tmp_path / "p.png")
    first = (tmp_path / "p.png").read_bytes()
    draw_prior(prior, tmp_path / "p.png")
    assert first[1:4] == b"PNG" and (tmp_path / "p.png").read_bytes() == first
    assert (prior_picture(prior).kl is None) == isinstance(prior, HalfCauchy)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="ScaleMixture has no density of single weights to draw. Cure"):
        prior_picture(ScaleMixture())
    with pytest.raises(InputError, match="Laplace has no density"):
        prior_picture(Laplace)
    with pytest.raises(InputError, match="width of a picture must be above 0 and finite, got -1"):
        prior_picture(Laplace(), width=-1)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = PosteriorPath(prepared())
    path.save("path.npz")
    np.testing.assert_array_equal(read_path("path.npz")[0], path.means)
    assert (
        main(["draw", "prior", "laplace", "--set", "scale=0.3", "--path", "path.npz", "--out", "p.png"]) == 0
    )
    assert capsys.readouterr().out == "picture: p.png\n"
    assert (tmp_path / "p.png").read_bytes()[1:4] == b"PNG"
    np.savez("other.npz", means=np.zeros(3), stds=np.zeros(3))
    (tmp_path / "text.npz").write_text("no zip")
    for words, said in (
        (["laplac"], "there is no prior 'laplac'. Cure: did you mean laplace?"),
        (
            ["laplace", "--set", "scal=1"],
            "has no setting 'scal' (from scal=1). Cure: did you mean scale?",
        ),
        (["laplace", "--out", "p.jpg"], "draw: --out p.jpg should end in .png. Cure: --out p.png"),
        (["laplace", "--path", "other.npz"], "both must be (records, weights)"),
        (["laplace", "--path", "text.npz"], "text.npz holds no path of posteriors"),
        (["scale-mixture"], "ScaleMixture has no density"),
    ):
        assert main(["draw", "prior", *words]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(ReadError):
        read_path("nowhere.npz")
