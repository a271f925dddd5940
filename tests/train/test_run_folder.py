from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from laconic.errors import RunFolderError, WriteError
from laconic.train.checkpoint import save_checkpoint
from laconic.train.run_folder import CHECKPOINT, open_run

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


def test_a_run_that_cannot_go_on_is_not_told_to(tmp_path: Path) -> None:
    _finish(tmp_path, {"seed": 0})
    with (
        pytest.raises(RunFolderError, match=r"holds a run already\. Cure: name another folder") as told,
        open_run(tmp_path, {"seed": 0}, goes_on=False),
    ):
        pass
    assert "--resume" not in str(told.value)


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
    _finish(tmp_path, {})
    for text in ("{half", "[1, 2]", "[]", "[" * 100_000, '{"a":' * 100_000, "9" * 5000):
        (tmp_path / "settings.json").write_text(text)
        with (
            pytest.raises(RunFolderError, match=r"settings\.json is not JSON"),
            open_run(tmp_path, {}, resume=True),
        ):
            pass


def test_a_log_on_a_full_disk_is_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_run(tmp_path, {}) as folder, monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(WriteError, match=r"log\.txt': No space left.*Cure: free space, then run again"):
            folder.log("epoch 1")
        assert not folder.work(), "nothing was left that would have to be resumed"


def test_on_a_full_disk_the_cure_is_the_one_that_works(tmp_path: Path) -> None:
    """Before the first checkpoint the folder is removed; with one, the run goes on from there."""
    root, state = tmp_path / "run", {"weights": torch.zeros(20_000)}
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for kept, cure in ((False, "run again"), (True, "--resume")):
        with pytest.raises(WriteError, match=f"Cure: free space, then {cure}$"), open_run(root, {}) as folder:
            if kept:
                save_checkpoint(folder.path(CHECKPOINT), {})
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
            try:
                save_checkpoint(folder.path(CHECKPOINT), state)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert root.exists() == kept
    signal.signal(signal.SIGXFSZ, before)


def test_links_in_the_folder_are_not_followed(tmp_path: Path) -> None:
    root, victim = tmp_path / "run", tmp_path / "victim"
    root.mkdir()
    victim.write_text("precious")
    for name in ("settings.json.part", "record.json.part", "settings.json", "log.txt"):
        (root / name).symlink_to(victim)
    (root / "log.txt").unlink()
    with open_run(root, {"seed": 0}) as folder:
        folder.path("log.txt").symlink_to(victim)
        with pytest.raises(WriteError, match=r"log\.txt': .*Cure: remove the symbolic link"):
            folder.log("epoch 1")
        folder.write_json("record.json", {})
    for path in (root / "settings.json", root / "record.json"):
        assert path.is_file()
        assert not path.is_symlink()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("there", [True, False])
def test_a_lock_that_is_a_link_is_refused(there: bool, tmp_path: Path) -> None:
    root, victim = tmp_path / "run", tmp_path / "victim"
    root.mkdir()
    if there:
        victim.write_text("precious")
    (root / "lock").symlink_to(victim)
    with pytest.raises(RunFolderError, match=r"cannot use .*run as a run folder.*Cure"), open_run(root, {}):
        pass
    assert victim.exists() == there
    assert not there or victim.read_text() == "precious"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_removed_midway_is_a_named_error(replaced: bool, tmp_path: Path) -> None:
    root = tmp_path / "run"
    with (
        pytest.raises(RunFolderError, match=r"run was removed or replaced while .*Cure: run again"),
        open_run(root, {}) as folder,
    ):
        folder.log("epoch 1")
        shutil.rmtree(root)
        if replaced:
            _finish(root, {"seed": 2})
        folder.log("epoch 2")
    if replaced:  # the other run's files are not touched
        assert json.loads((root / "settings.json").read_text()) == {"seed": 2}
        assert "epoch 2" not in (root / "log.txt").read_text()


def test_a_folder_that_cannot_be_written_is_a_named_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*args: object, **kwargs: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with (
            pytest.raises(
                RunFolderError, match=r"cannot use .*: .*Read-only file system.*Cure: name another"
            ),
            open_run(tmp_path, {}),
        ):
            pass


def test_what_a_failed_run_made_is_removed_with_it(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "er" / "run"
    with pytest.raises(ZeroDivisionError), open_run(root, {"data": "digts"}):
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "notes.txt").write_text("mine")
    with pytest.raises(ZeroDivisionError), open_run(tmp_path / "deep", {}):
        1 / 0  # noqa: B018
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["notes.txt"]


def test_a_run_killed_before_it_left_anything_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "settings.json").write_text('{"seed": 1}')
    (tmp_path / ".settings.json.0123456789abcdef.part").write_text('{"se')
    with open_run(tmp_path, {"seed": 2}):
        assert json.loads((tmp_path / "settings.json").read_text()) == {"seed": 2}
    assert not list(tmp_path.glob(".*.part"))


def test_work_of_which_nobody_knows_the_run_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    for resume in (False, True):
        with (
            pytest.raises(RunFolderError, match=r"holds checkpoint\.pt and no settings\.json.*Cure"),
            open_run(tmp_path, {}, resume=resume),
        ):
            pass
    assert (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("worked", [False, True])
def test_an_interruption_says_resume_only_where_there_is_something(worked: bool, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, open_run(tmp_path / "run", {}) as folder:
        if worked:
            folder.log("epoch 1")
        raise KeyboardInterrupt
    note = f"go on with --resume --out {tmp_path / 'run'}"
    assert getattr(caught.value, "__notes__", []) == ([note] if worked else [])
    assert (tmp_path / "run").exists() == worked


def test_a_folder_without_locks_is_not_blamed_on_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(RunFolderError, match=r"cannot be locked .*Cure: --out"), open_run(tmp_path, {}):
        pass


@pytest.mark.parametrize("name", ["with space", "größe 音", "-x", "a\nb"])
def test_strange_names_are_names(name: str, tmp_path: Path) -> None:
    _finish(tmp_path / name, {"seed": 0})
    assert "epoch 1" in (tmp_path / name / "log.txt").read_text()


@pytest.mark.parametrize("name", ["a\0b", "a" * 256])
def test_names_that_cannot_be_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="cannot use .*Cure"), open_run(tmp_path / name, {}):
        pass
