"""Settings are of their field's type before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from laconic.cli import main
from laconic.cli.choices import METHODS, make_job, parse_target, preset
from laconic.cli.settings import MAX_SEED, MAX_THREADS, check_seed, check_threads, configure, parse_value
from laconic.errors import InputError
from laconic.methods import VNQ, SparseVD
from laconic.train.fit import FitConfig


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


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("name", ["full", "demo"])
@pytest.mark.parametrize("network", ["lenet5", "lenet300", None])
def test_every_preset_is_of_its_types(method: str, name: str, network: str | None) -> None:
    job = make_job(method, preset(name, method, network), "5kB", seed=3)
    assert job.fit.seed == job.seed == 3


@pytest.mark.parametrize("text", ["infkB", "nanB", "1e400B", "-infB", "infpt", "nanpt", "kB"])
def test_a_target_is_a_finite_number(text: str) -> None:
    with pytest.raises(InputError, match=r"is not understood\. Cure: 0\.3pt"):
        parse_target(text)


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
    with pytest.raises(InputError, match="setting sampling: expected local or mixed or weights, got 'once'"):
        configure(SparseVD(), {"sampling": "once"})


def test_the_demo_s_preset_makes_a_job() -> None:
    from laconic.cli.choices import make_job, make_reference, preset

    settings = preset("demo", "sparse-vd", "lenet5")
    assert make_job("sparse-vd", settings, None, 0).method.sampling == "mixed"
    assert make_reference("lenet5", settings, 0).epochs == 2
