"""``laconic methods`` and ``laconic tasks``, and names that are misspelt."""

from __future__ import annotations

import re

import pytest

from laconic.cli import main
from laconic.cli.lists import arguments_of, one_of
from laconic.cli.settings import build
from laconic.errors import InputError
from laconic.methods.registry import find_method, method_names
from laconic.registry import METHOD_CHOICES, METHODS, POSTERIORS, PRIORS, TASKS, Registry
from laconic.rows import described, row_keyword, settings_of
from laconic.tasks import Regression
from tests.helpers.fresh import run_fresh


@pytest.mark.parametrize("name", method_names())
def test_what_is_read_without_importing_is_what_is_there(name: str) -> None:
    entry = find_method(name)
    place = METHODS.place(name)
    assert settings_of(place) == entry.fields
    assert described(place) == entry.help
    assert row_keyword(place, "paper") == entry.paper != ""


def test_the_lists_need_no_torch_and_fit_80_columns() -> None:
    code = "from laconic.cli import main; print(main(['methods']), main(['tasks']))"
    said = run_fresh(code, without_torch=True)
    for name in (*METHODS.names(), *TASKS.names()):
        assert f"\n{name}\n" in f"\n{said}"
    assert "Molchanov, Ashukha & Vetrov" in said
    assert max(map(len, said.splitlines())) <= 80


def test_one_method_and_one_task_with_their_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "sparse-vd"]) == 0
    out = capsys.readouterr().out
    for line in ("  threshold = 3.0", "  grid.steps = 0.5,0.7,1.0,1.4", "preset demo, lenet5:", "ICML 2017"):
        assert line in out
    assert main(["tasks", "segmentation"]) == 0
    assert "  ignore = -100" in capsys.readouterr().out
    assert main(["methods", "tailor"]) == 2
    assert "there is no method 'tailor'. Cure: did you mean taylor?" in capsys.readouterr().err


@pytest.mark.parametrize("registry", [METHODS, TASKS, PRIORS, POSTERIORS], ids=lambda r: r.what)
def test_each_field_is_explained_with_the_words_of_its_docstring(registry: Registry) -> None:
    for name in registry.names():
        lines = one_of(registry, name).split("fields and defaults:\n")[1].split("\n\n")[0].splitlines()
        fields = [k for k, line in enumerate(lines) if re.match(r"  \S", line)]
        for k, following in zip(fields, [*fields[1:], len(lines)], strict=True):
            said = [line for line in lines[k + 1 : following] if not line.startswith("    names: ")]
            assert said or lines[k] == "  none", (name, lines[k])


def test_fields_within_fields_and_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "post-training"]) == 0
    out = capsys.readouterr().out
    assert "  refine.steps = 0\n    Training steps at each price, >= 0; 0: no refinement.\n" in out
    assert "  examples = 1000\n    How many inputs are used, the first of the batches.\n" in out
    assert out.count("How many inputs are used") == 1 and "Raises" not in out
    assert "presets full and demo, any network:\n  fit.epochs=0 (no training with the method)\n" in out


def test_arguments_of_a_base_class_are_known() -> None:
    class Own(Regression):
        """One's own.

        Args:
            noise: In metres,
                or none.
        """

    found = arguments_of(Own)
    assert found["noise"] == "In metres, or none." and set(found) > {"noise", "metric_name"}


def test_priors_and_posteriors_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "sparse-vd"]) == 0
    out = capsys.readouterr().out
    names = (
        "gaussian-mixture, half-cauchy, laplace, log-uniform, normal, scale-mixture, sparse-mixture, "
        "spike-and-slab, spikes, student-t"
    )
    assert f" prior: LogUniform names: {names} " in " ".join(out.split())
    assert "  posterior = none\n    names: gaussian, multiplicative, scaled\n" in out
    assert main(["posteriors"]) == 0
    assert "multiplicative\n    Multiplicative noise around each present weight." in capsys.readouterr().out
    for words, said in (
        ("prior=log-unifrm", "there is no prior 'log-unifrm'. Cure: did you mean log-uniform?"),
        ("posterior=gausian", "there is no posterior 'gausian'. Cure: did you mean gaussian?"),
        ("posterior.per=unit", "posterior=NAME as well, one of gaussian, multiplicative, scaled"),
    ):
        assert main(["compress", "digits-mlp", "--set", words]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prior", "posterior"),
    [
        ({"prior": "log-uniform"}, {}),
        ({"prior": "normal", "prior.std": 0.2}, {"posterior": "multiplicative", "posterior.per": "unit"}),
        ({"prior": "laplace", "prior.scale": 0.3}, {}),
        ({"prior": "student-t", "prior.df": 5.0, "prior.scale": 0.2}, {"posterior": "multiplicative"}),
        ({"prior": "spike-and-slab", "prior.slab.std": 0.5, "prior.spike_share": 0.7}, {}),
        ({"prior": "scale-mixture"}, {"posterior": "scaled", "posterior.inner.init_log_var": -6}),
        ({"prior": "spikes", "prior.levels": [-0.2, 0, 0.2]}, {"posterior": "gaussian"}),
    ],
)
def test_settings_make_the_named_prior_and_posterior(
    prior: dict[str, object], posterior: dict[str, object]
) -> None:
    method = build(find_method("sparse-vd").kind, {**prior, **posterior}, choices=METHOD_CHOICES)
    assert type(method.prior) is PRIORS.find(str(prior["prior"]))
    for key, value in {**prior, **posterior}.items():
        found = method
        for name in key.split("."):
            found = getattr(found, name)
        if "." in key:
            assert found == (tuple(value) if isinstance(value, list) else value)
        elif key == "posterior":
            assert type(found) is POSTERIORS.find(str(value))


def test_commands_and_options_that_are_misspelt(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["compres"], "there is no 'compres'. Cure: did you mean compress?"),
        (["compress", "lenet5", "--taget", "1"], "unknown argument --taget. Cure: did you mean --target?"),
        (["verify", "m.lac", "--dta", "digits"], "--data"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["compress", "inspect", "verify", "run", "bench", "cost", "export", "tasks"]
)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    out = capsys.readouterr().out
    assert "example" in out and f"  laconic {command}" in out
    assert "NAMES" not in out


def test_formulas_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    for command, registry in (("tasks", TASKS), ("priors", PRIORS), ("posteriors", POSTERIORS)):
        for name in registry.names():
            assert main([command, name]) == 0
            out = capsys.readouterr().out
            assert "\\" not in out and "math::" not in out, name
    assert main(["tasks", "regression"]) == 0
    out = capsys.readouterr().out
    assert "\nsum_n 1/2 log 2 pi s^2 + 1/2 ((f(x_n) - y_n) / s)^2\n" in out
    assert "1 - sum_n r_n^2 / sum_n (y_n - y_bar)^2" in out


def test_a_setting_that_a_method_always_refuses_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A subclass has all fields of its base; those that it cannot take are no settings of it."""
    assert main(["methods", "improved-bayesian-compression"]) == 0
    out = capsys.readouterr().out
    assert "  kl_weight = 1.0" in out
    assert not re.search(r"^  (prior|posterior)\b", out, re.MULTILINE)
    for name in ("prior", "posterior"):
        words = ["--method", "improved-bayesian-compression", "--set", f"{name}=normal"]
        assert main(["compress", "digits-mlp", *words]) == 2
        told = capsys.readouterr().err
        assert f"has no setting {name!r}" in told
        assert "Cure: leave it out; it is one of" in told and "sparse-vd" in told


@pytest.mark.parametrize("name", method_names())
def test_a_method_takes_a_prior_or_says_how_to_use_one(name: str) -> None:
    """Where ``prior`` is listed it is taken; elsewhere the refusal names the methods that take one."""
    kind, prior = find_method(name).kind, PRIORS.find("laplace")()
    if "prior" in find_method(name).fields:
        assert kind(prior=prior).prior == prior
        return
    with pytest.raises(InputError, match=r"has no setting 'prior'.*Cure: leave it out, or .*sparse-vd"):
        kind(prior=prior)


def test_a_misspelt_setting_of_a_method_is_told_in_python() -> None:
    for given, said in (
        ("thresold", "did you mean threshold?"),
        ("sparsity", "leave it out, or .*magn"),
    ):
        with pytest.raises(InputError, match=f"SparseVD has no setting '{given}'. Cure: {said}"):
            find_method("sparse-vd").kind(**{given: 1.0})
