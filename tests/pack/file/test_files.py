"""Files on disk: whole or untouched, whatever happens while writing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from laconic.errors import ChecksumError, NotALaconicFileError, ReadError, TruncatedFileError, WriteError
from laconic.pack import encode, read, write
from laconic.records import IntTensor, PackedModel, UniformGrid
from tests.pack.strategies import assert_same

MODEL = PackedModel((IntTensor("w", np.arange(50, dtype=np.int32), UniformGrid(0.5)),))


def test_write_then_read(tmp_path: Path) -> None:
    path = tmp_path / "model.lac"
    assert write(path, MODEL) == path.stat().st_size
    assert path.read_bytes() == encode(MODEL)
    assert_same(read(path), MODEL)
    assert os.listdir(tmp_path) == ["model.lac"]


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write(tmp_path / "model.lac", MODEL)
    assert (tmp_path / "model.lac").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "model.lac"
    path.write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(WriteError, match=r"model\.lac.*No space left.*Cure: free space"):
        write(path, MODEL)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.lac"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data[:7])))
    write(tmp_path / "model.lac", MODEL)
    assert (tmp_path / "model.lac").read_bytes() == encode(MODEL)


def test_an_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "model.lac", MODEL)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="Cure"):
        write(tmp_path / "nowhere" / "model.lac", MODEL)


KILLED = """
    import os, signal, sys
    from tests.pack.file.test_files import MODEL
    from laconic.pack import write
    real = os.write
    def half(handle, data):
        real(handle, bytes(data[: len(data) // 2]))
        os.kill(os.getpid(), signal.SIGKILL)
    os.write = half
    write(sys.argv[1], MODEL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.lac"
    path.write_bytes(b"old")
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(path)], cwd=root)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_reading_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(b"something else")
    with pytest.raises(NotALaconicFileError, match=r"other\.bin.*Cure: a file that laconic.save"):
        read(path)
    with pytest.raises(ReadError, match=r"it is a folder\. Cure: the file in it \(of a run: model\.lac\)"):
        read(tmp_path)
    path.write_bytes(encode(MODEL)[:-1] + b"\0")
    with pytest.raises(ChecksumError, match=r"other\.bin.* is damaged\. Cure: another copy of the file"):
        read(path)
    path.write_bytes(encode(MODEL)[:-5])
    with pytest.raises(TruncatedFileError, match=r"Cure: another copy of the file") as caught:
        read(path)
    assert str(caught.value).count("Cure:") == 1
