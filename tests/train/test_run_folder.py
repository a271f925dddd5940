from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from laconic.errors import RunFolderError, WriteError
from laconic.train.run_folder import open_run, write_text

_HOLDER = """
import sys
from pathlib import Path
from laconic.train.run_folder import open_run

with open_run(Path(sys.argv[1]), {"seed": 0}) as folder:
    folder.log("at work")
    print("in", flush=True)
    sys.stdin.read()
"""


def _finish(root: Path, settings: dict[str, object]) -> None:
    with open_run(root, settings) as folder:
        folder.log("epoch 1")


def test_a_new_folder_gets_its_settings_and_a_log(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "run"
    with open_run(root, {"seed": 3, "levels": (1, 2)}) as folder:
        folder.log("one")
        folder.log("two")
        folder.write_json("record.json", {"b": 1, "a": [2]})
        assert folder.read_json("record.json") == {"a": [2], "b": 1}
        assert folder.read_json("other.json") is None
    assert json.loads((root / "settings.json").read_text()) == {"seed": 3, "levels": [1, 2]}
    assert [line.split(" ", 2)[2] for line in (root / "log.txt").read_text().splitlines()] == ["one", "two"]


def test_another_process_in_the_folder_is_named_and_its_end_frees_it(tmp_path: Path) -> None:
    root = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        for resume in (False, True):
            with (
                pytest.raises(RunFolderError, match=r"another run is at work in .*run\. Cure: .*--out"),
                open_run(root, {"seed": 0}, resume=resume),
            ):
                pass
    finally:
        holder.kill()
        holder.wait()
    with open_run(root, {"seed": 0}, resume=True) as folder:
        assert "at work" in folder.path("log.txt").read_text()


def test_two_runs_of_one_process_do_not_share_a_folder_either(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, {}),
        pytest.raises(RunFolderError, match="another run is at work"),
        open_run(tmp_path, {}, resume=True),
    ):
        pass


def test_a_folder_that_holds_a_run_asks_for_resume(tmp_path: Path) -> None:
    _finish(tmp_path, {"seed": 0})
    with (
        pytest.raises(RunFolderError, match=r"holds a run already\. Cure: --resume"),
        open_run(tmp_path, {"seed": 0}),
    ):
        pass
    with open_run(tmp_path, {"seed": 0}, resume=True):
        pass


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ({"seed": 1, "lr": 0.1}, "seed=0, not 1"),
        ({"seed": 0}, "lr=0.1, not None"),
        ({"seed": 0, "lr": 0.1, "x": 5}, "x=None, not 5"),
    ],
)
def test_other_settings_are_refused_by_name(now: dict[str, object], named: str, tmp_path: Path) -> None:
    _finish(tmp_path, {"seed": 0, "lr": 0.1})
    with (
        pytest.raises(RunFolderError, match=f"holds a run with {named}. Cure"),
        open_run(tmp_path, now, resume=True),
    ):
        pass


def test_a_run_that_fails_before_it_left_anything_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_run(tmp_path, {"data": "digts"}):
        1 / 0  # noqa: B018
    with open_run(tmp_path, {"data": "digits"}):
        pass


def test_a_run_that_fails_later_keeps_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_run(tmp_path, {"seed": 0}) as folder:
        folder.log("epoch 1")
        1 / 0  # noqa: B018
    with pytest.raises(RunFolderError, match="holds a run already"), open_run(tmp_path, {"seed": 0}):
        pass


def test_a_file_in_the_way_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunFolderError, match=r"cannot use .*file as a run folder.*Cure"),
        open_run(tmp_path / "file", {}),
    ):
        pass


def test_settings_that_are_no_json_are_refused(tmp_path: Path) -> None:
    for text in ("{half", "[1, 2]"):
        (tmp_path / "settings.json").write_text(text)
        with (
            pytest.raises(RunFolderError, match=r"settings\.json is not JSON"),
            open_run(tmp_path, {}, resume=True),
        ):
            pass


def test_a_text_is_old_or_new_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_text(path, "old")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WriteError, match=r"record\.json: .*No space left.*Cure: free some space"):
            write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_log_on_a_full_disk_is_a_named_error(tmp_path: Path) -> None:
    with open_run(tmp_path, {}) as folder:
        folder.path("log.txt").symlink_to("/dev/full")
        with pytest.raises(WriteError, match=r"log\.txt: .*No space left.*Cure"):
            folder.log("epoch 1")
