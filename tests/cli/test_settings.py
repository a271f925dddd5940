"""Settings are of their field's type before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from laconic.cli import main
from laconic.cli.choices import make_job, make_reference, parse_target
from laconic.cli.loaders import make_loaders
from laconic.cli.request import Request, StageRequest
from laconic.cli.settings import MAX_SEED, MAX_THREADS, check_seed, check_threads, configure, parse_value
from laconic.errors import InputError
from laconic.methods import VNQ, Distillation, MagnitudePruning, SparseVD, Target
from laconic.methods.registry import method_names
from laconic.schedules import LinearDecay
from laconic.tasks import Classification, Regression
from laconic.train.compress import run_job
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.optimizers import SGD
from laconic.zoo.registry import find_network


@pytest.mark.parametrize(
    ("method", "text", "complaint"),
    [
        (
            "sparse-vd",
            "grid.steps=a",
            "setting grid.steps: expected float values, got 'a'. Cure: grid.steps=0.5",
        ),
        ("sparse-vd", "hold_from=abc", "setting hold_from: expected float or none, got 'abc'. Cure"),
        ("sparse-vd", "hold_from=true", "setting hold_from: expected float or none, got True"),
        (
            "sparse-vd",
            "log_var_bounds=a,b",
            "log_var_bounds: expected 2 values (float, float), got ['a', 'b']",
        ),
        ("sparse-vd", "log_var_bounds=1", "log_var_bounds: expected 2 values (float, float), got 1"),
        ("sparse-vd", "threshold=none", "setting threshold: expected float, got None. Cure: threshold=0.5"),
        ("sparse-vd", "grid=3", "setting grid: expected GridChoice, got 3. Cure: grid.PART=VALUE"),
        ("sparse-vd", "grid.bias_bits=4,5.5", "setting grid.bias_bits: expected int values, got [4, 5.5]"),
        ("sparse-vd", "kl_weight=nan", "setting kl_weight: expected float, got nan"),
        ("sparse-vd", f"kl_weight=1{400 * '0'}", "setting kl_weight: expected float, got 1000"),
        ("vnq", "levels=a,b,c", "setting levels: expected float values, got ['a', 'b', 'c']"),
        ("vnq", "levels=1,0", "levels must be at least two rising numbers"),
        ("vnq", "bias_bits=none", "setting bias_bits: expected int values, got None. Cure: bias_bits=3,3"),
        ("vnq", "tried_thresholds=a", "setting tried_thresholds: expected float values, got 'a'"),
        ("magnitude", "every=true", "setting every: expected int, got True"),
        ("magnitude", "per_layer=1", "setting per_layer: expected bool, got 1. Cure: per_layer=true"),
        ("magnitude", "fit.epochs=true", "setting fit.epochs: expected int, got True. Cure: fit.epochs=3"),
        ("magnitude", "fit.epochs=2.0", "setting fit.epochs: expected int, got 2.0"),
        ("magnitude", "fit.accelerator=3", "setting fit.accelerator: expected str, got 3"),
        ("magnitude", "fit.seed=-1", "fit.seed must be in 0..2^63-1, got -1"),
        ("magnitude", "reference.lr=fast", "setting reference.lr: expected float, got 'fast'"),
    ],
)
def test_a_value_of_another_type_is_refused_before_training(
    method: str,
    text: str,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("laconic.cli.compress.run_job", lambda *args, **kwargs: pytest.fail("it trained"))
    monkeypatch.setattr("laconic.cli.compress.fit", lambda *args, **kwargs: pytest.fail("it trained"))
    out = tmp_path / "run"
    assert main(["compress", "digits-mlp", "--method", method, "--set", text, "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("laconic: InputError: ")
    assert complaint in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("config", "text", "wanted"),
    [
        (VNQ(), "threshold=none", None),
        (VNQ(), "threshold=2", 2.0),
        (VNQ(), "levels=0,1", (0.0, 1.0)),
        (VNQ(), "bias_bits=8", (8,)),
        (VNQ(), "tried_thresholds=,", ()),
        (SparseVD(), "hold_from=none", None),
        (SparseVD(), "hold_from=7", 7.0),
        (SparseVD(), "log_var_bounds=-30,4", (-30.0, 4.0)),
        (FitConfig(), "channels_last=false", False),
        (FitConfig(), "lr=1", 1.0),
    ],
)
def test_what_the_annotation_allows_is_taken(config: Any, text: str, wanted: Any) -> None:
    key, _, value = text.partition("=")
    found = getattr(configure(config, {key: parse_value(value)}), key)
    assert found == wanted
    assert type(found) is type(wanted)
    if isinstance(wanted, tuple):
        assert [type(v) for v in found] == [type(v) for v in wanted]


def test_fields_that_are_checked_together_are_set_together() -> None:
    method = configure(VNQ(), {"warm_up.start": 25, "warm_up.end": 40, "min_scale": 0.5, "init_scale": 0.6})
    assert (method.warm_up.start, method.warm_up.end) == (25.0, 40.0)
    assert (method.min_scale, method.init_scale) == (0.5, 0.6)


def asked(method: str, network: str | None, preset: str = "full", /, **settings: Any) -> Request:
    needed = {"score": "laconic.sparsify.scores:l1_groups"} if method == "score" else {}
    stage = StageRequest(method, {**needed, **settings})
    return Request(network, None, "digits", (stage,), "5kB", 3, Path("run"), preset=preset)


@pytest.mark.parametrize("method", method_names())
@pytest.mark.parametrize("name", ["full", "demo"])
@pytest.mark.parametrize("network", ["lenet5", "lenet300", "digits-cnn", None])
def test_every_preset_is_of_its_types(method: str, name: str, network: str | None) -> None:
    request = asked(method, network, name)
    job = make_job(request)
    assert job.stages[0].fit.seed == job.seed == 3
    assert (make_reference(request) is None) == (network is None)


@pytest.mark.parametrize(
    "text", ["infkB", "nanB", "1e400B", "-infB", "infpt", "nanpt", "kB", "5KiB", "5 k B", "%", "", "0,3%"]
)
def test_a_target_is_a_finite_number(text: str) -> None:
    with pytest.raises(InputError, match=r"is not understood\. Cure: 0\.3 \(in the metric's unit\)"):
        parse_target(text, Classification())


def test_a_target_is_in_the_unit_of_the_metric() -> None:
    for text in ("0.3", "0.3pt", "0.3%", "0.3 %", "0.3 pt", " 0.3 "):
        assert parse_target(text, Classification()) == Target(0.3)
    for text in ("5kB", "5KB", "5 kB", "5kb", "5000B", "5000 b", "0.005MB"):
        assert parse_target(text, Classification()) == Target(max_bytes=5000)
    assert parse_target("0.02", Regression(metric_name="r2")) == Target(0.02)
    with pytest.raises(InputError, match="metric, R2, is no percentage. Cure: 0.02, in the metric"):
        parse_target("0.02pt", Regression(metric_name="r2"))
    with pytest.raises(InputError, match="metric, R2, is no percentage. Cure: 0.02, in the metric"):
        parse_target("0.02 %", Regression(metric_name="r2"))


def test_the_limits_of_seeds_and_threads() -> None:
    for seed in (0, MAX_SEED):
        check_seed(seed)
    for threads in (None, 1, 64, MAX_THREADS):
        check_threads(threads)
    for seed in (-1, MAX_SEED + 1):
        with pytest.raises(InputError, match="Cure: seed 0"):
            check_seed(seed)
    for number in (0, -1, MAX_THREADS + 1):
        with pytest.raises(InputError, match="Cure: --threads"):
            check_threads(number)


def test_a_word_of_a_closed_list_is_taken_and_others_are_refused_with_the_list() -> None:
    from laconic.methods import SparseVD

    assert configure(SparseVD(), {"sampling": "mixed"}).sampling == "mixed"
    words = "local or mixed or weights or flipout"
    with pytest.raises(InputError, match=f"setting sampling: expected {words}, got 'once'"):
        configure(SparseVD(), {"sampling": "once"})


def test_the_demo_s_preset_makes_a_job() -> None:
    request = asked("sparse-vd", "lenet5", "demo")
    method = make_job(request).stages[0].method
    assert isinstance(method, SparseVD) and method.sampling == "mixed"
    reference = make_reference(request)
    assert reference is not None and reference.epochs == 2


def test_the_demo_starts_from_a_trained_network_on_the_digits() -> None:
    """Two epochs of the digits are 40 steps; the usual training is 30 epochs."""
    for method in method_names():
        for network in ("digits-cnn", "digits-mlp"):
            reference = make_reference(asked(method, network, "demo"))
            assert reference is not None and reference.epochs == 30


@pytest.mark.slow
def test_the_demo_on_the_digits_loses_at_most_a_point_on_validation() -> None:
    """About 12 s of one core each; 0.5 points were lost with seed 0, none with seed 1."""
    torch.set_num_threads(1)
    for seed in (0, 1):
        stage = StageRequest("sparse-vd", {})
        request = Request("digits-cnn", None, "digits", (stage,), None, seed, Path("run"), preset="demo")
        job, reference = make_job(request), make_reference(request)
        loaders = make_loaders(request, job.task)
        model = find_network("digits-cnn").build(torch.Generator().manual_seed(seed))
        assert reference is not None
        fit(model, loaders.train, reference, Hooks.plain(model, job.task), task=job.task)
        small = run_job(model, loaders.train, loaders.validation, job)
        assert small.facts["original_validation_metric"] <= 5.0
        assert small.facts["validation_metric"] <= small.facts["original_validation_metric"] + 1.0


OWN = """
from dataclasses import dataclass
import torch
from laconic.methods import MagnitudePruning

@dataclass(frozen=True)
class Mine(MagnitudePruning):
    extra: float = 1.0

def teacher():
    return torch.nn.Linear(3, 2)

def optimizer(groups, rho=0.5):
    return torch.optim.Adadelta(groups, rho=rho)

@dataclass(frozen=True)
class Later:
    at: float = 0.5
    def __call__(self, progress, final):
        return final if progress >= self.at else 0.0

def score(net, groups):
    return {}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_parts_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def stage_of(method: str, /, **settings: Any) -> Any:
    return make_job(asked(method, None, **settings)).stages[0]


def test_parts_of_a_user_s_own_are_named_by_module(own: str) -> None:
    mine = stage_of(f"{own}:Mine", extra=2, sparsity=0.5)
    assert (type(mine.method).__name__, mine.method.extra, mine.method.sparsity) == ("Mine", 2.0, 0.5)
    later = stage_of("magnitude", **{"schedule": f"{own}:Later", "schedule.at": 0.7}).method.schedule
    assert later(0.6, 0.9) == 0.0 and later(0.7, 0.9) == 0.9
    assert stage_of("score", score=f"{own}:score").method.score.__name__ == "score"
    teacher = stage_of("distillation", teacher=f"{own}:teacher").method.teacher
    assert isinstance(teacher, torch.nn.Linear)
    inner = stage_of("distillation", **{"method": "magnitude", "method.sparsity": 0.7, "temperature": 2})
    assert inner.method == Distillation(MagnitudePruning(0.7), temperature=2.0)


def test_optimisers_and_schedules_of_training_by_name(own: str) -> None:
    fit = stage_of("magnitude", **{"fit.optimizer": "sgd", "fit.optimizer.momentum": 0.5}).fit
    assert fit.optimizer == SGD(0.5)
    fit = stage_of("magnitude", **{"fit.optimizer": f"{own}:optimizer", "fit.optimizer.rho": 0.7}).fit
    made = fit.optimizer([{"params": [torch.zeros(1, requires_grad=True)], "lr": 0.1}])
    assert made.defaults["rho"] == 0.7
    fit = stage_of("magnitude", **{"fit.optimizer": "torch.optim:RAdam"}).fit
    assert fit.optimizer is torch.optim.RAdam
    fit = stage_of("sparse-vd", **{"fit.schedule": "linear", "fit.schedule.warmup": 0.1}).fit
    assert fit.schedule == LinearDecay(warmup=0.1)  # the preset's flat = 0.6 belongs to the preset's schedule


@pytest.mark.parametrize(
    ("method", "settings", "complaint"),
    [
        ("magnitude", {"fit.optimizer": "sdg"}, "there is no optimizer 'sdg'. Cure: did you mean sgd"),
        ("magnitude", {"schedule.rounds": 3}, "Cubic has no setting 'rounds' .*Cure: one of end, start"),
        ("magnitude", {"sparsty": 0.5}, "no setting 'sparsty' .*Cure: did you mean sparsity"),
        ("distillation", {"method": "tailor"}, "there is no method 'tailor'. Cure: did you mean taylor"),
        ("distillation", {"teacher": "math:pi"}, "setting teacher: expected Module or none, got 3.14"),
        ("laconic.tasks:Classification", {}, "is the class Classification, and no method"),
        ("laconic.methods:Method", {}, "Can't instantiate abstract class Method"),
        ("laconic.methods:ScorePruning", {}, "ScorePruning needs a setting score. Cure: score=VALUE"),
    ],
)
def test_names_that_cannot_be(method: str, settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        stage_of(method, **settings)
