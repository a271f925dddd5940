"""``laconic methods`` and ``laconic tasks``, and names that are misspelt."""

from __future__ import annotations

import pytest

from laconic.cli import main
from laconic.methods.registry import find_method, method_names
from laconic.registry import METHODS, TASKS
from laconic.rows import described, row_keyword, settings_of
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
