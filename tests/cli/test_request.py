"""Flags over the run file over the defaults, and settings that nothing would look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from laconic.cli import main
from laconic.cli.arguments import make_parser
from laconic.cli.choices import make_job, make_reference
from laconic.cli.request import Request, parse_request
from laconic.cli.run_file_help import HELP
from laconic.errors import InputError
from laconic.methods import Distillation, MagnitudePruning
from laconic.methods.common.grid_choice import GridChoice
from laconic.schedules import Iterative, LinearDecay
from laconic.tasks import Classification
from laconic.train.optimizers import SGD


def request(*words: str) -> Request:
    return parse_request(make_parser().parse_args(["compress", *words]))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["digits-mlp", "--data", "a:b", "--set", "data.batch_size=7"],
            r"setting data\.batch_size is for built-in data; a:b makes its own batches\. Cure",
        ),
        (["--model", "a:b", "--data", "c:d", "--set", "data.size=7"], r"setting data\.size is for built-in"),
        (
            ["--model", "a:b", "--data", "digits", "--set", "reference.epochs=7"],
            r"setting reference\.epochs is for training a built-in network; --model a:b is trained",
        ),
    ],
)
def test_a_setting_that_nothing_would_look_at_is_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        request(*words)


def test_a_presets_own_settings_may_stand_unused() -> None:
    asked = request("--model", "a:b", "--data", "c:d", "--preset", "demo", "--method", "magnitude")
    assert asked.preset == "demo"
    assert make_reference(asked) is None
    assert make_job(asked).stages[0].fit.epochs == 8


@pytest.mark.parametrize(
    ("in_file", "flags", "network", "model"),
    [
        ("network = 'digits-mlp'", ["--model", "a:b"], None, "a:b"),
        ("model = 'a:b'", ["digits-mlp"], "digits-mlp", None),
        ("network = 'digits-mlp'", ["digits-cnn"], "digits-cnn", None),
        ("model = 'a:b'", ["--model", "c:d"], None, "c:d"),
        ("model = 'a:b'", [], None, "a:b"),
    ],
)
def test_a_network_on_the_command_line_wins_over_the_run_files(
    in_file: str, flags: list[str], network: str | None, model: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f"{in_file}\ndata = 'digits'\n")
    asked = request("--config", str(path), *flags)
    assert (asked.network, asked.model) == (network, model)


def test_two_networks_in_one_place_are_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("network = 'digits-mlp'\nmodel = 'a:b'\ndata = 'digits'\n")
    for words in (["--config", str(path)], ["digits-mlp", "--model", "a:b"]):
        with pytest.raises(InputError, match="name one network"):
            request(*words)


def test_the_helps_run_file_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compress", "--help"])
    assert HELP.rstrip() in capsys.readouterr().out
    path = tmp_path / "run.toml"
    first, stages = HELP.partition("\n\n")[2].split("several methods")
    path.write_text(first.replace("task.ignore = 255", "task.ignore = 9"))
    asked = request("--config", str(path))
    job = make_job(asked)
    (stage,) = job.stages
    assert stage.method == MagnitudePruning(0.9, grid=GridChoice(steps=(0.5, 1.0)), schedule=Iterative(3))
    assert (stage.fit.epochs, stage.fit.optimizer, stage.fit.schedule) == (20, SGD(), LinearDecay(0.3))
    assert job.task == Classification(ignore=9)
    reference = make_reference(asked)
    assert reference is not None
    assert reference.epochs == 30
    path.write_text('network = "digits-mlp"\n' + stages.partition("\n\n")[2])
    one, two = make_job(request("--config", str(path), "--set", "stage2.fit.epochs=3")).stages
    assert (one.method, one.fit.epochs, one.rewind_to) == (Distillation(), 5, None)
    assert (two.method, two.fit.epochs, two.rewind_to) == (MagnitudePruning(0.9), 3, 0)


def test_the_number_of_threads_identifies_a_run() -> None:
    """Sums of floats depend on it, so a run that goes on with another one would not end in the same file."""
    one, all_of_them = (request("digits-mlp", *words) for words in (["--threads", "1"], []))
    records = []
    for asked in (one, all_of_them):
        records.append(asked.record(make_job(asked), make_reference(asked)))
    assert {k for k in records[0] if records[0][k] != records[1][k]} == {"threads"}
