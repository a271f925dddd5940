"""A user's own objects by name, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from laconic.errors import DataError, InputError
from laconic.own import own_object


@pytest.mark.parametrize("text", ["math", "math:", ":pi", ""])
def test_another_form(text: str) -> None:
    with pytest.raises(InputError, match="should read package.module:name"):
        own_object(text, "--data")


def test_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_here.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))  # puts sys.path back afterwards
    monkeypatch.chdir(tmp_path)
    assert own_object("own_here:answer", "--data") == 42


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        (
            "1 / 0",
            InputError,
            "--data own_bad:x: importing own_bad raised ZeroDivisionError: division by zero",
        ),
        ("import not_there", InputError, "--data own_bad:x: No module named 'not_there'"),
        ("None.x", InputError, "importing own_bad raised AttributeError"),
        ("from laconic.errors import DataError; raise DataError('mine')", DataError, "^mine$"),
        ("y = 1", InputError, "own_bad has no x. Cure: one of y"),
        ("_y = 1", InputError, "own_bad has no x. Cure: no name is registered"),
    ],
)
def test_a_module_that_fails(
    line: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_bad.py").write_text(line + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own_bad", raising=False)
    with pytest.raises(error, match=message):
        own_object("own_bad:x", "--data")
