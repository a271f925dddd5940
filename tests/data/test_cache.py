"""The cache: checked on every way in and out, whole files only, and clear about what to do."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from laconic.data import FASHION_MNIST, MNIST, DataSpec, images, load
from laconic.data.cache import CACHE_VARIABLE, cache_folder, md5, obtain
from laconic.data.sources import SourceError
from laconic.data.spec import DataFile
from laconic.errors import DataError, DownloadError, InputError, WriteError


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


FILES = {
    "train-images": idx(np.arange(6 * 4).reshape(6, 2, 2)),
    "train-labels": idx(np.array([0, 1, 2, 3, 4, 9])),
    "test-images": idx(np.full((3, 2, 2), 255)),
    "test-labels": idx(np.array([7, 8, 9])),
}


class Shelf:
    """A source that hands over what is in it, and counts how often it was asked."""

    def __init__(self, name: str, files: dict[str, bytes] | str) -> None:
        self.name, self.files, self.asked = name, files, []

    def __str__(self) -> str:
        return self.name

    def fetch(self, names: Sequence[str]) -> dict[str, bytes]:
        self.asked.append(list(names))
        if isinstance(self.files, str):
            raise SourceError(self.files)
        return {name: self.files[name] for name in names}


def spec_of(*sources: Shelf) -> DataSpec:
    return DataSpec("toy", *(DataFile(name, md5(data)) for name, data in FILES.items()), sources=sources)


def test_fetched_once_then_read_from_the_cache(tmp_path: Path) -> None:
    shelf = Shelf("shelf", FILES)
    assert obtain(spec_of(shelf), tmp_path / "toy") == FILES
    assert obtain(spec_of(shelf), tmp_path / "toy") == FILES
    assert shelf.asked == [list(FILES)]
    assert sorted(os.listdir(tmp_path / "toy")) == sorted(FILES)


def test_only_what_is_missing_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "test-labels").write_bytes(FILES["test-labels"])
    shelf = Shelf("shelf", FILES)
    assert obtain(spec_of(shelf), tmp_path) == FILES
    assert shelf.asked == [["train-images", "train-labels", "test-images"]]


def test_the_next_source_is_asked_when_one_fails_or_lies(tmp_path: Path) -> None:
    dead = Shelf("dead", "no route to host")
    liar = Shelf("liar", {**FILES, "test-labels": b"something else"})
    good = Shelf("good", FILES)
    assert obtain(spec_of(dead, liar, good), tmp_path) == FILES
    assert [len(s.asked) for s in (dead, liar, good)] == [1, 1, 1]


def test_no_source_works(tmp_path: Path) -> None:
    liar = Shelf("liar", {**FILES, "train-images": b"x"})
    with pytest.raises(DownloadError) as caught:
        obtain(spec_of(Shelf("dead", "no route to host"), liar), tmp_path)
    text = str(caught.value)
    assert "dead: no route to host" in text
    assert f"liar: train-images: wrong MD5 {md5(b'x')}" in text
    assert f"into {tmp_path} by hand" in text
    for name, data in FILES.items():
        assert f"{name}  MD5 {md5(data)}" in text
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("damage", [b"", FILES["train-labels"][:-1], FILES["train-labels"][:-1] + b"\1"])
def test_a_damaged_file_is_named_and_not_replaced(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "train-labels"
    path.write_bytes(damage)
    shelf = Shelf("shelf", FILES)
    with pytest.raises(DataError) as caught:
        obtain(spec_of(shelf), tmp_path)
    text = str(caught.value)
    assert str(path) in text
    assert f"expected MD5 {md5(FILES['train-labels'])}, found {md5(damage)}" in text
    assert "delete it" in text
    assert shelf.asked == []
    assert path.read_bytes() == damage


def test_what_a_killed_process_left_behind_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".train-images.4711.part").write_bytes(FILES["train-images"][:10])
    assert obtain(spec_of(Shelf("shelf", FILES)), tmp_path) == FILES


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"could not write .*train-images.*No space left.*LACONIC_DATA"):
        obtain(spec_of(Shelf("shelf", FILES)), tmp_path)
    assert os.listdir(tmp_path) == []


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "laconic" / "data"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"
    assert cache_folder("given") == Path("given")


def test_load_reads_the_four_files_into_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = dataclasses.replace(spec_of(Shelf("shelf", FILES)), name="mnist")
    monkeypatch.setattr(images, "MNIST", toy)
    data = load("mnist", cache=tmp_path)
    assert data.train_images.tolist() == np.arange(24).reshape(6, 2, 2).tolist()
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 9]
    assert data.test_images.shape == (3, 2, 2)
    assert data.test_labels.tolist() == [7, 8, 9]
    assert (data.name, data.classes, data.scale) == ("mnist", 10, 255)
    assert (tmp_path / "mnist" / "train-images").exists()


@pytest.mark.network
@pytest.mark.parametrize("spec", [MNIST, FASHION_MNIST], ids=lambda spec: spec.name)
def test_the_real_sets_arrive_from_some_source(spec: DataSpec, tmp_path: Path) -> None:
    data = load(spec.name, cache=tmp_path)
    assert data.train_images.shape == (60_000, 28, 28)
    assert data.test_images.shape == (10_000, 28, 28)
    assert np.bincount(data.test_labels).sum() == 10_000


@pytest.mark.network
@pytest.mark.parametrize("spec", [MNIST, FASHION_MNIST], ids=lambda spec: spec.name)
def test_each_source_gives_the_right_bytes_or_says_why_not(spec: DataSpec) -> None:
    for source in spec.sources:
        try:
            fetched = source.fetch([file.name for file in spec.files])
        except SourceError as error:
            assert str(error)
            continue
        assert {name: md5(data) for name, data in fetched.items()} == {f.name: f.md5 for f in spec.files}


def test_without_a_folder_what_is_fetched_is_used_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shelf = Shelf("shelf", FILES)
    for _ in range(2):
        assert obtain(spec_of(shelf), None) == FILES
    assert len(shelf.asked) == 2
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DownloadError, match=f"(?s)toy is not in a cache .*no {CACHE_VARIABLE}.*Cure"):
        obtain(spec_of(Shelf("dead", "no route")), None)


def test_a_user_without_a_home_has_no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache_folder() is None
    monkeypatch.setenv(CACHE_VARIABLE, "~nobody-of-that-name/data")
    with pytest.raises(InputError, match=f"unknown user's home. Cure: a path without ~, as {CACHE_VARIABLE}"):
        cache_folder()


def test_a_link_laid_in_the_cache_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "toy"
    folder.mkdir()
    for name in FILES:
        (folder / f".{name}.{os.getpid()}.part").symlink_to(victim)
    assert obtain(spec_of(Shelf("shelf", FILES)), folder) == FILES
    assert victim.read_text() == "precious"


def test_a_cache_in_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=f"cannot read .*or set {CACHE_VARIABLE} to another folder"):
        obtain(spec_of(Shelf("shelf", FILES)), tmp_path / "file" / "toy")
