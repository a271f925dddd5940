from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.errors import InputError
from laconic.methods import VNQ, Compressed, MagnitudePruning, Method, Score, SparseVD
from laconic.methods.common import candidates, grid_choice
from laconic.methods.common.candidates import Candidate, cheapest, missed_limits
from laconic.methods.common.grid_choice import GridChoice, quantize_rest, within
from laconic.methods.contract import Judge, Target
from laconic.pack import coded_bytes
from laconic.quantize.uniform import step_for_bits
from laconic.records import IntTensor, UniformGrid
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits, train

BEFORE = Score(metric=2.0, nll=0.10, terms=1000)


def _candidate(size: int, metric: float, nll: float) -> Candidate:
    return Candidate(1.0, 0.0, {}, size, Score(metric, nll, 1000))


FINE, MIDDLE, COARSE = (
    _candidate(4000, 2.0, 0.100),
    _candidate(3000, 2.05, 0.104),
    _candidate(2000, 2.6, 0.109),
)
UGLY = _candidate(1000, 2.01, 0.5)
ALL = [FINE, MIDDLE, COARSE, UGLY]


def _pick(
    target: Target = Target(),  # noqa: B008 - frozen
    choice: GridChoice = GridChoice(),  # noqa: B008 - frozen
    candidates: list[Candidate] = ALL,
    beside: int = 0,
) -> Candidate:
    original = Score(metric=1.8, nll=0.09, terms=1000)
    return cheapest(candidates, choice, Judge(lambda m: BEFORE, original, target), BEFORE, beside)


def test_the_smallest_within_the_allowance_wins() -> None:
    assert _pick() is MIDDLE  # 0.1 points over 2.0 %
    assert _pick(choice=GridChoice(max_drop=0.01)) is FINE
    assert _pick(choice=GridChoice(max_drop=1.0)) is COARSE


def test_the_likelihood_is_an_allowance_too() -> None:
    assert _pick(choice=GridChoice(max_drop=1.0, max_nll_ratio=1.05)) is MIDDLE
    assert _pick(choice=GridChoice(max_drop=1.0, max_nll_ratio=9.0)) is UGLY


def test_a_target_drop_counts_from_the_original_network() -> None:
    assert _pick(Target(max_drop=0.2)) is FINE  # 1.8 % + 0.2
    assert _pick(Target(max_drop=0.25)) is MIDDLE
    assert _pick(Target(max_drop=0.8)) is COARSE


def test_when_none_is_within_it_the_best_likelihood_wins() -> None:
    assert _pick(Target(max_drop=0.0)) is FINE


def test_a_target_in_bytes_takes_the_best_that_fits() -> None:
    assert _pick(Target(max_bytes=9999)) is FINE
    assert _pick(Target(max_bytes=3000)) is MIDDLE
    assert _pick(Target(max_bytes=3000), beside=1) is COARSE
    assert _pick(Target(max_bytes=1500)) is UGLY
    assert _pick(Target(max_bytes=10)) is UGLY, "nothing fits: the smallest there is"


def test_both_targets_together() -> None:
    assert _pick(Target(max_bytes=3500, max_drop=0.3)) is MIDDLE
    assert _pick(Target(max_bytes=2500, max_drop=0.3)) is UGLY
    assert _pick(Target(max_bytes=2500, max_drop=0.1)) is UGLY, "the smallest drop of those that fit"


@pytest.mark.parametrize(("drop", "keeps"), [(70.0, True), (0.0, False)])
def test_what_can_be_had_is_told_where_two_limits_do_not_meet(drop: float, keeps: bool) -> None:
    """The smallest candidate that keeps the drop or, where none does, the one that loses least."""
    original = Score(1.0, 0.1, 100)
    judge = Judge(lambda m: BEFORE, original, Target(max_bytes=10, max_drop=drop))
    tensors = [
        {"w": IntTensor("w", np.arange(n, dtype=np.int32) % 7, UniformGrid(1.0))} for n in (2000, 1000, 100)
    ]
    made = [
        Candidate(1.0, 0.0, each, coded_bytes(each["w"]), Score(metric, 0.1, 100))
        for each, metric in zip(tensors, (1.5, 40.0, 90.0), strict=True)
    ]
    told = missed_limits(made, made[2], judge, 5)["reachable"]
    kept = made[1 if keeps else 0]
    assert told["bytes_more"] == kept.bytes - made[2].bytes and told["keeps"] == keeps
    assert told["drop"] == (39.0 if keeps else 0.5)
    assert missed_limits(made, made[1], replace(judge, target=Target(max_drop=1.0)), 5) == {}


NEAR, FAR, LOST = (
    replace(c, kl=kl) for c, kl in ((COARSE, 0.001), (MIDDLE, 0.002), (FINE, math.inf))
)  # in the other order than their errors


def test_the_divergence_takes_the_place_of_both_allowances() -> None:
    candidates = [NEAR, FAR, LOST]
    assert _pick(choice=GridChoice(max_kl=0.001), candidates=candidates) is NEAR
    assert _pick(choice=GridChoice(max_kl=0.001), candidates=[FAR, LOST]) is FAR, "none is near enough"
    assert _pick(choice=GridChoice(), candidates=candidates) is FAR


def test_a_divergence_below_zero_is_no_allowance() -> None:
    with pytest.raises(InputError, match=r"max_kl .* must be >= 0, got -1\. Cure: 0\.001"):
        GridChoice(max_kl=-1)


def test_without_a_judge_the_first_is_taken() -> None:
    assert cheapest(ALL, GridChoice(), None, None) is FINE


def test_biases_take_the_narrowest_width_that_is_near_enough() -> None:
    net = nn.Linear(2, 3)
    rest = {"bias": torch.tensor([0.5, -1.0, 0.0])}
    judge = Judge(lambda module: Score(1.0, 0.1, 10))
    tried: list[int] = []

    def near(module: nn.Module) -> bool:
        tried.append(len(tried))
        return len(tried) == 3

    for accepted, width in ((lambda module: True, 4), (near, 6), (lambda module: False, 8)):
        _, _, facts = quantize_rest(net, {}, rest, (4, 5, 6, 8), judge, accepted)
        assert facts == {"bias_bits": width}


# --- end to end ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net() -> nn.Module:
    method = SparseVD(
        init_log_var=-7.0,
        grid=GridChoice(steps=(1.0, 4.0, 16.0), prices=(0.0, 0.3)),
    )  # fmt: skip
    return train(DigitsMLP(hidden=32, generator=torch.Generator().manual_seed(0)), method)


def _score(module: nn.Module) -> Score:
    x, y = digits()
    with torch.no_grad():
        out = module(x)
    return Score(100 * float((out.argmax(1) != y).float().mean()), float(F.cross_entropy(out, y)), len(y))


def _apart(module: nn.Module, reference: nn.Module) -> float:
    x, _ = digits()
    with torch.no_grad():
        ours, theirs = module(x).log_softmax(1), reference(x).log_softmax(1)
    return float(F.kl_div(ours, theirs, log_target=True, reduction="batchmean"))


def test_a_grid_is_chosen_by_its_distance_from_the_pruned_network() -> None:
    grid = GridChoice(steps=(1.0, 4.0, 16.0), prices=(0.0, 0.3), max_kl=0.002)
    start = DigitsMLP(hidden=32, generator=torch.Generator().manual_seed(0))
    net = train(start, SparseVD(init_log_var=-7.0, grid=grid))
    found: list[float] = []

    def apart(module: nn.Module, reference: nn.Module) -> float:
        found.append(_apart(module, reference))
        return found[-1]

    small = laconic.convert(copy.deepcopy(net), Judge(_score, divergence=apart))
    assert len(found) > 7, "six grids, each width of the biases, and the finished network"
    assert found[-1] <= 0.002, "with its biases on a grid, too"
    measured = len(found)
    assert small.facts["kl_of_grid"] in found
    assert min(found) < small.facts["kl_of_grid"] <= 0.002 < max(found)
    asked = Judge(_score, Score(0.0, 0.1, 1), Target(max_drop=100.0), divergence=apart)
    assert "kl_of_grid" not in laconic.convert(net, asked).facts, "a target takes its place"
    assert len(found) == measured


Convert = Callable[[Target], tuple[Compressed, int]]


@pytest.fixture
def convert(net: nn.Module, tmp_path: Path) -> Convert:
    def run(target: Target) -> tuple[Compressed, int]:
        small = laconic.convert(copy.deepcopy(net), Judge(_score, Score(0.0, 0.1, 1), target))
        return small, laconic.save(small, tmp_path / "model.lac")

    return run


def test_a_file_is_as_short_as_its_target(convert: Convert) -> None:
    loose, longest = convert(Target(max_bytes=10**6))
    _, shortest = convert(Target(max_bytes=1))
    assert shortest < 0.8 * longest
    assert loose.facts["step_in_sigmas"] == 1.0
    between = (shortest + longest) // 2
    small, length = convert(Target(max_bytes=between))
    assert length <= between
    assert small.facts["validation_nll"] >= loose.facts["validation_nll"]


def test_large_networks_are_chosen_by_estimates(convert: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [Target(max_drop=drop) for drop in (0.0, 70.0, 100.0)]
    counted = [convert(target)[0].facts for target in targets]
    between = Target(max_bytes=convert(Target(max_drop=70.0))[1])
    monkeypatch.setattr(grid_choice, "COUNTED_UP_TO", 0)
    for target, facts in zip(targets, counted, strict=True):
        assert convert(target)[0].facts == facts
    assert convert(between)[1] <= between.max_bytes  # type: ignore[operator]


def test_nothing_is_coded_where_nobody_asks_for_bytes(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tensor: object) -> int:
        raise AssertionError("coded")

    monkeypatch.setattr(candidates, "coded_bytes", refuse)
    assert laconic.convert(copy.deepcopy(net)).facts["step_in_sigmas"] == 1.0


def test_more_allowance_gives_no_longer_file(convert: Convert) -> None:
    lengths = [convert(Target(max_drop=drop))[1] for drop in (0.0, 70.0, 100.0)]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("method", [SparseVD(), VNQ(), MagnitudePruning(0.5)])
def test_a_judge_sees_plain_networks_in_evaluation_mode(method: Method) -> None:
    seen: list[nn.Module] = []

    def judge(module: nn.Module) -> Score:
        seen.append(module)
        assert not any(layer.training for layer in module.modules())
        assert type(module) is DigitsMLP
        assert not hasattr(module.fc1, "weight_log_var")
        return Score(0.0, 1.0, 1)

    small = laconic.convert(train(DigitsMLP(hidden=8), method, steps=1), Judge(judge))
    assert seen
    assert not small.module.training


def test_facts_are_those_of_the_finished_network(convert: Convert) -> None:
    small, _ = convert(Target())
    score = _score(small.module)
    assert small.facts["validation_metric"] == score.metric
    assert small.facts["validation_nll"] == score.nll


def test_biases_take_the_narrowest_width_that_costs_next_to_nothing() -> None:
    layer = nn.Linear(3, 50)
    bias = torch.linspace(-1, 1, 50)
    judged: list[float] = []

    def judge(module: nn.Module) -> Score:
        error = float((module.bias.detach() - bias).abs().max())  # type: ignore[operator, union-attr]
        judged.append(error)
        return Score(0.0, 1.0 if error < 0.02 else 2.0, 1)

    _, tensors, facts = quantize_rest(layer, {}, {"bias": bias}, (8, 4, 5, 6, 7), Judge(judge))
    # half a step is 1 / (2 (2^(b-1) - 1)): 0.071, 0.033, 0.016 at 4, 5, 6 bits
    assert facts == {"bias_bits": 6}
    assert isinstance(tensors["bias"].grid, UniformGrid)  # type: ignore[union-attr]
    assert tensors["bias"].grid.step == pytest.approx(step_for_bits(bias.numpy(), 6), rel=2**-8)  # type: ignore[union-attr]
    assert len(judged) == 4
    assert np.array_equal(tensors["bias"].values(), layer.bias.detach().numpy())


def test_biases_take_the_widest_width_when_nobody_judges() -> None:
    assert quantize_rest(nn.Linear(3, 5), {}, {"bias": torch.ones(5)}, (4, 9), None)[2] == {"bias_bits": 9}


def test_nothing_to_try_is_refused() -> None:
    with pytest.raises(InputError, match="at least one value each"):
        GridChoice(steps=())


@pytest.mark.parametrize("bad", [{"max_drop": -0.1}, {"max_drop": float("nan")}, {"max_bytes": 0}])
def test_a_target_that_cannot_be_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(bad))} .*must be"):
        Target(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": (-1.0,)}, "steps must be > 0"),
        ({"prices": (-1.0,)}, "prices >= 0"),
        ({"bias_bits": (1,)}, "2 to 24 bits, got \\(1,\\)"),
        ({"max_drop": -0.1}, "max_drop"),
        ({"max_nll_ratio": 0.5}, "max_nll_ratio"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_training(settings, said):
    with pytest.raises(InputError, match=said):
        GridChoice(**settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SparseVD(threshold=float("nan")),
        lambda: SparseVD(hold_from=-1.0),
        lambda: VNQ(noise_lr=-1.0),
        lambda: VNQ(log_var_bounds=(1.0, -10.0)),
        lambda: VNQ(tried_thresholds=(float("nan"),)),
        lambda: VNQ(bias_bits=()),
    ],
)
def test_methods_refuse_their_settings_before_training(make):
    with pytest.raises(InputError, match="got"):
        make()


def test_an_allowance_on_a_negative_likelihood_is_an_allowance():
    assert within(-1.0, -1.0, 0.01)
    assert within(-0.991, -1.0, 0.01)
    assert not within(-0.98, -1.0, 0.01)
    assert within(1.009, 1.0, 0.01)
    assert not within(1.02, 1.0, 0.01)
