"""``laconic run``, ``bench`` and ``export``: arrays, batches and paths that cannot be."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.cli import main
from laconic.records import Graph, Node, PackedModel, RawTensor, ValueSpec

X = np.array([[-1, 0, 2]], np.float32)


def _saved(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array), allow_pickle=True)
    return stream.getvalue()


def _zipped() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=X)
    return stream.getvalue()


def _huge() -> bytes:
    """A header that claims more than any memory."""
    return _saved(X).replace(b"'shape': (1, 3), }" + 12 * b" ", b"'shape': (9999999999999,), }  ", 1)


BROKEN: dict[str, Callable[[], bytes]] = {
    "empty": bytes,
    "text": lambda: b"1 2 3\n",
    "cut short": lambda: _saved(X)[:-3],
    "header cut short": lambda: _saved(X)[:40],
    "header that is no Python": lambda: _saved(X).replace(b"{'descr'", b"{{(descr", 1),
    "zip that is none": lambda: b"PK\x03\x04 not really",
    "archive under the name of an array": _zipped,
    "objects": lambda: _saved([{}, None]),
    "more than any memory": _huge,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_run_refuses_an_array_that_is_none(
    kind: str, relu: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(BROKEN[kind]())
    assert main(["run", relu, str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"laconic: InputError: {path} is ")
    assert "Cure: numpy.save(name, array)" in err
    assert "pickle" not in err
    assert len(err.splitlines()) == 1


@pytest.fixture
def difference(tmp_path: Path) -> str:
    """A network of two inputs by name, which takes the second from the first."""
    inputs = (ValueSpec("float32", (None, 3), "left"), ValueSpec("float32", (None, 3), "right"))
    graph = Graph(inputs, (Node("sub", (0, 1), {}),), (2,))
    path = tmp_path / "difference.lac"
    pack.write(path, PackedModel((), graph))
    return str(path)


@pytest.mark.parametrize("kind", ["by name", "by position", "both", "two archives"])
def test_run_takes_archives_of_named_arrays(
    kind: str, difference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = np.float32([[5, 6, 7]]), np.float32([[1, 2, 4]])
    paths = [tmp_path / "1.npz", tmp_path / "2.npz"]
    if kind == "by name":
        np.savez(paths[0], right=b, left=a)
    elif kind == "by position":
        np.savez(paths[0], a, b)
    else:
        paths[0] = tmp_path / "1.npy" if kind == "both" else paths[0]
        if kind == "both":
            np.save(paths[0], a)
        else:
            np.savez(paths[0], left=a)
        np.savez(paths[1], right=b)
    given = [str(path) for path in paths if path.exists()]
    assert main(["run", difference, *given, "--out", str(tmp_path / "y.npy")]) == 0
    assert np.load(tmp_path / "y.npy").tolist() == [[4, 4, 3]]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"left": 1}, r"input 'right' is missing; the inputs are, in order: left, right\. Cure: right=array"),
        (
            {"left": 1, "wrong": 1},
            r"'wrong' is no input; .* in order: left, right\. Cure: left=array, or leave 'wrong' out",
        ),
        ({}, r"x\.npz holds no array\. Cure: numpy\.savez"),
        ({"arr_0": 1}, r"input 'right' is missing"),
    ],
)
def test_run_names_what_does_not_fit_in_an_archive(
    arrays: dict[str, int], told: str, difference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", **dict.fromkeys(arrays, X))  # type: ignore[arg-type]
    assert main(["run", difference, str(tmp_path / "x.npz")]) == 2
    assert re.search(told, capsys.readouterr().err)


def test_run_refuses_archives_that_are_none_or_name_an_input_twice(
    difference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.npz"
    for kind in ("empty", "text", "zip that is none"):
        path.write_bytes(BROKEN[kind]())
        assert main(["run", difference, str(path)]) == 2
        err = capsys.readouterr().err
        assert f"InputError: {path} is no whole archive of numbers" in err and "Cure: numpy.savez" in err
    np.savez(path, left=X)
    assert main(["run", difference, str(path), str(path)]) == 2
    assert "input 'left' is in an earlier file, too. Cure: leave one out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["y", "y.txt", "y.npz", "y.npy.gz"])
def test_run_writes_npy_files_only(
    name: str, relu: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", X)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert main(["run", relu, str(tmp_path / "x.npy"), "--out", str(tmp_path / name)]) == 2
    assert f"{name} should end in .npy. Cure: --out y" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_run_writes_exactly_the_file_that_was_named(relu: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    before = {p.name for p in tmp_path.iterdir()}
    assert main(["run", relu, str(tmp_path / "x.npy"), "--out", str(tmp_path / "y.npy")]) == 0
    assert {p.name for p in tmp_path.iterdir()} - before == {"y.npy"}
    assert np.load(tmp_path / "y.npy").tolist() == [[0, 0, 2]]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--batch", "0"], "bench: a batch must be at least 1, got 0. Cure: --batch 1 64"),
        (["--batch", "4", "-3"], "bench: a batch must be at least 1, got -3. Cure"),
        (["--threads", "0"], "threads must be in 1.."),
        (["--threads", "-2"], "threads must be in 1.."),
        (["--threads", "1000000"], "threads must be in 1.."),
    ],
)
def test_bench_needs_batches_and_threads(
    words: list[str], complaint: str, relu: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", relu, *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"laconic: InputError: {complaint}" in said.err


@pytest.mark.parametrize("command", ["inspect", "verify", "run", "bench", "export"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("absent.lac", "No such file or directory. Cure: check the path"),
        (".", "it is a folder. Cure: the file in it (of a run: model.lac)"),
    ],
)
def test_every_reader_says_the_same_of_a_file_it_cannot_read(
    command: str,
    name: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    more = {"verify": ["--data", "digits"], "run": ["x.npy"], "export": ["m.onnx"]}
    assert main([command, name, *more.get(command, [])]) == 2
    assert capsys.readouterr().err == f"laconic: ReadError: cannot read {name}: {why}\n"


def test_verify_says_why_torch_was_imported(
    relu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torch_loaders.py").write_text(
        "import torch\ndef loaders(): return [], [(torch.eye(3), torch.arange(3))]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["verify", relu, "--data", "torch_loaders:loaders"]) == 0
    assert (
        "torch imported: yes, by code of your own (--data, --task).\nThe file itself needs no PyTorch"
        in capsys.readouterr().out
    )


def test_inspect_names_a_tensor_that_was_kept_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its note stands below where both do not fit the column; a short name has it beside itself."""
    named = [RawTensor(name, np.ones(3, np.float32)) for name in ("classifier.weight", "fc.bias")]
    pack.write(tmp_path / "m.lac", PackedModel(tuple(named), None))
    assert main(["inspect", str(tmp_path / "m.lac")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = (k for k, line in enumerate(lines) if line.startswith("classifier.weight"))
    assert lines[row].split()[:2] == ["classifier.weight", "3"]
    assert lines[row + 1] == "  (raw float32)"
    assert any(line.startswith("fc.bias (raw float32)") for line in lines)
    assert max(map(len, lines[: row + 4])) <= 80


@pytest.mark.parametrize("command", ["inspect", "verify", "run"])
def test_a_file_of_another_kind_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"verify": ["--data", "digits"], "run": ["x.npy"]}.get(command, [])
    (tmp_path / "net.py").write_text("import torch")
    assert main([command, str(tmp_path / "net.py"), *more]) == 2
    told = capsys.readouterr().err
    assert "net.py" in told and "not start with the bytes of a .lac file. Cure: a file that laconic" in told
