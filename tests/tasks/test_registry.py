"""Tasks by name, from this library, from an installed package, and from a module of the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from laconic import tasks
from laconic.errors import InputError
from laconic.tasks import (
    Classification,
    Regression,
    Task,
    TaskEntry,
    find_task,
    make_task,
    task_entries,
    task_names,
)

OWN = '''"""Tasks of a package of a user's own."""
from dataclasses import dataclass
from laconic.tasks import Classification

@dataclass(frozen=True)
class Ranking(Classification):
    """Which of several is best; metric: error in %."""
    depth: int = 3

NOT_A_TASK = 3
'''
Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """A package with tasks of its own, installed as pip leaves it; returns the module's name."""

    def make(module: str, **points: str) -> str:
        (tmp_path / f"{module}.py").write_text(OWN)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = [f"{name.replace('_', '-')} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[laconic.tasks]", *lines]))
        monkeypatch.syspath_prepend(tmp_path)
        return module

    return make


def test_every_task_of_the_room_is_registered_under_a_name() -> None:
    assert set(task_names()) == {
        "binary",
        "classification",
        "language-modelling",
        "multi-label",
        "regression",
        "segmentation",
        "sequence-labelling",
    }
    kinds = {k for k in vars(tasks).values() if isinstance(k, type) and issubclass(k, Task)}
    assert {entry.kind for entry in task_entries().values()} == kinds - {Task, tasks.PlainLoss}


@pytest.mark.parametrize("name", task_names())
def test_a_row_says_what_help_needs(name: str) -> None:
    entry = find_task(name)
    assert entry.name == name and isinstance(make_task(name), entry.kind)
    assert "metric:" in entry.help and entry.help.endswith(".") and len(entry.help) < 110
    assert {"target", "inputs"} <= set(entry.fields)


def test_settings() -> None:
    assert make_task("regression", {"noise": 0.5, "unit": "mm"}) == Regression(0.5, unit="mm")
    with pytest.raises(InputError, match="task regression has no setting 'nosie'. Cure: did you mean noise?"):
        make_task("regression", {"nosie": 0.5})


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="there is no task 'segmentaton'. Cure: did you mean segmentation?"):
        find_task("segmentaton")
    with pytest.raises(InputError, match="there is no task 'x'. Cure: one of binary, classification, "):
        find_task("x")


def test_a_task_of_an_installed_package(install: Install) -> None:
    module = install("own_ranking_a", own_ranking="own_ranking_a:Ranking")
    assert "own-ranking" in task_names()
    entry = task_entries()["own-ranking"]
    assert (entry.help, entry.kind.__module__) == ("Which of several is best; metric: error in %.", module)
    assert repr(make_task("own-ranking", {"depth": 5})) == (
        "Ranking(target=None, inputs=None, batch_axis=0, ignore=None, depth=5)"
    )


def test_a_task_by_its_module_and_class(install: Install) -> None:
    install("own_ranking_b")
    assert issubclass(find_task("own_ranking_b:Ranking").kind, Classification)
    with pytest.raises(InputError, match="task own_ranking_b:NOT_A_TASK is of type int, and no task"):
        find_task("own_ranking_b:NOT_A_TASK")
    with pytest.raises(InputError, match="own_ranking_b has no Rankin. Cure: did you mean Ranking"):
        find_task("own_ranking_b:Rankin")


def test_a_name_taken_twice_is_refused(install: Install) -> None:
    install("own_ranking_c", regression="own_ranking_c:Ranking")
    with pytest.raises(
        InputError,
        match="'regression' is registered twice, by laconic.tasks.regression and by own_ranking_c:Ran",
    ):
        find_task("classification")


def test_a_broken_package_spoils_its_own_task_alone(install: Install) -> None:
    install("own_ranking_d", own_broken="own_ranking_missing:Ranking")
    assert find_task("classification").kind is Classification
    with pytest.raises(InputError, match="task own-broken, own_ranking_missing:Ranking: No module named"):
        find_task("own-broken")


def test_an_abstract_task_is_named() -> None:
    with pytest.raises(InputError, match="task laconic.tasks:Task: Can't instantiate abstract class"):
        make_task("laconic.tasks:Task")


def test_a_class_without_words_has_an_empty_help() -> None:
    class Wordless(Classification):
        pass

    Wordless.__doc__ = None
    assert TaskEntry("wordless", Wordless).help == ""
