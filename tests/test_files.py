"""The one place that writes: whole or untouched, no link followed, and a cure that fits the error."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from laconic.errors import WriteError
from laconic.files import append_text, open_lock, read_file, replacing, user_cache, write_bytes, write_text


def test_what_comes_in_pieces_is_whole_or_untouched(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as stream:
        stream.write(b"new")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    with replacing(path) as stream:
        stream.write(b"one ")
        stream.write(b"two")
    assert path.read_text() == "one two"
    assert os.listdir(tmp_path) == ["numbers"]


def test_a_link_is_replaced_and_what_it_points_to_stands(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "model.lac"
    victim.write_text("precious")
    path.symlink_to(victim)
    assert write_bytes(path, b"new") == 3
    assert victim.read_text() == "precious"
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()


def test_a_log_and_a_lock_follow_no_link(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    append_text(path, "one\n")
    append_text(path, "two\n")
    assert path.read_text() == "one\ntwo\n"
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(WriteError, match="link': .*Cure: remove the symbolic link"):
        append_text(tmp_path / "link", "three\n")
    with pytest.raises(OSError, match="symbolic links"):
        open_lock(tmp_path / "link")
    assert path.read_text() == "one\ntwo\n"


def test_a_name_as_long_as_there_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 127)
    write_bytes(path, b"x")
    assert os.listdir(tmp_path) == [path.name]
    with pytest.raises(WriteError, match="Cure: choose a shorter name"):
        write_bytes(tmp_path / ("a" * 256), b"x")


def test_a_pipe_a_device_and_a_folder_are_no_files(tmp_path: Path) -> None:
    """A file put in the place of a device would be root's ruin; reading a pipe would wait for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (lambda: write_bytes(pipe, b"x"), lambda: append_text(pipe, "x")):
        with pytest.raises(WriteError, match="Cure: choose the name of a file"):
            write()
    with pytest.raises(OSError, match="not a file"):
        read_file(pipe)
    with pytest.raises(WriteError, match="Cure: choose a name that no folder has"):
        write_bytes(tmp_path, b"x")
    with pytest.raises(WriteError, match="Cure: choose a folder: a part of this path is a file"):
        write_bytes(Path(__file__) / "model.lac", b"x")
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EDQUOT, "free space"),
        (errno.EROFS, "choose a folder that can be written"),
        (errno.EACCES, "choose a folder that can be written"),
    ],
)
def test_the_cure_fits_the_error(
    number: int, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(WriteError, match=f"{os.strerror(number)}; .* Cure: {cure}, then run again"):
        write_bytes(tmp_path / "x", b"x")
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_half_way(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_bytes(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(WriteError, match="File too large.*Cure: free space"):
            write_bytes(path, bytes(20_000))
        with pytest.raises(WriteError, match="Cure: free space"), replacing(path) as stream:
            stream.write(bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert user_cache() == "/somewhere/.cache/laconic"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert user_cache() is None
