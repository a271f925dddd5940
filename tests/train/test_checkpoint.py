from __future__ import annotations

import errno
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from laconic.errors import RunFolderError, WriteError
from laconic.train.checkpoint import load_checkpoint, save_checkpoint


def signed(data: bytes) -> bytes:
    """``data`` with the checksum that belongs to it: what nobody but a forger writes."""
    return data + hashlib.blake2b(data, digest_size=16).digest() + b"laconic1"


def _full(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_checkpoint_holds_tensors_and_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    assert load_checkpoint(path) is None
    save_checkpoint(path, {"w": torch.arange(3.0), "epoch": 7})
    state = load_checkpoint(path)
    assert state is not None
    assert torch.equal(state["w"], torch.arange(3.0))
    assert state["epoch"] == 7
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_on_a_full_disk_the_old_one_stands(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"epoch": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, moment, _full)
        with pytest.raises(
            WriteError, match=r"checkpoint\.pt': No space left.*Cure: free space, then --resume"
        ):
            save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_on_a_disk_that_fills_while_writing_the_old_one_stands(tmp_path: Path) -> None:
    """A file-size limit of the process makes the system itself refuse half-way."""
    import resource
    import signal

    path = tmp_path / "c.pt"
    save_checkpoint(path, {"epoch": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(WriteError, match="Cure"):
            save_checkpoint(path, {"epoch": 2, "w": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert load_checkpoint(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"w": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunFolderError, match=r"c\.pt cannot be read: .*Cure: delete it and --resume"):
        load_checkpoint(path)


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path) -> None:
    """``torch.load`` itself lets more than half of them through, as other weights or none the wiser."""
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"w": torch.arange(200.0), "epoch": 3})
    whole = path.read_bytes()
    draws = np.random.default_rng(0)
    for bit in draws.choice(8 * len(whole), 300, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        with pytest.raises(RunFolderError, match=r"c\.pt cannot be read: it .*Cure: delete it and --resume"):
            load_checkpoint(path)


def test_a_checkpoint_that_is_cut_short_or_has_no_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"w": torch.zeros(10)})
    whole = path.read_bytes()
    for length in (0, 1, 23, 24, len(whole) - 24, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(RunFolderError, match=r"has no checksum: it was cut short, or an older version"):
            load_checkpoint(path)
    torch.save({"w": torch.zeros(10)}, path)
    with pytest.raises(RunFolderError, match=r"has no checksum.*Cure: delete it and --resume"):
        load_checkpoint(path)


def test_any_version_of_torch_reads_a_checkpoint_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"w": torch.arange(3.0)})
    assert torch.equal(torch.load(path, weights_only=True)["w"], torch.arange(3.0))


def test_what_is_no_state_or_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, torch.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(RunFolderError, match=r"c\.pt holds a Tensor, no state\. Cure"):
        load_checkpoint(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(RunFolderError, match=r"c\.pt cannot be read: .*Cure"):
        load_checkpoint(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(RunFolderError, match=r"c\.pt cannot be read: .*not a file.*Cure"):
        load_checkpoint(path)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "c.pt"
    path.write_bytes(signed(pickle.dumps({"w": Bomb()}, protocol=2)))
    with pytest.raises(RunFolderError, match="cannot be read"):
        load_checkpoint(path)
    save_checkpoint(path, {"w": Bomb()})
    with pytest.raises(RunFolderError, match="cannot be read: Weights only load failed"):
        load_checkpoint(path)
    assert not (tmp_path / "harm").exists()
