"""One's own loaders are looked at before anything is trained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from laconic.cli import main
from laconic.cli.arguments import make_parser
from laconic.cli.loaders import make_loaders
from laconic.cli.own import call_own, own_function
from laconic.cli.request import parse_request
from laconic.errors import DownloadError, InputError
from laconic.tasks import Classification

_OWN = """
import numpy as np
import torch
from laconic.errors import DownloadError

batches = [(torch.randn(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))]
arrays = [(np.zeros((4, 1, 8, 8), np.float32), np.zeros(4, np.int64))]


def number(): return 7, batches
def no_validation(): return batches, None
def number_test(): return batches, batches, 3
def generator(): return (b for b in batches), batches
def mapped(): return batches, map(tuple, batches)
def iterator(): return batches, batches, iter(batches)
def numpy_train(): return arrays, batches
def numpy_validation(): return batches, arrays
def numpy_test(): return batches, batches, arrays
def empty_train(): return [], batches
def empty_test(): return batches, batches, []
def tensor_test(): return batches, batches, [torch.zeros(3)]
def triple(): return [(1, 2, 3)], batches
def one(): return batches
def pair(): return batches, batches
def none(): return batches, batches, None
def needs(path): return batches, batches
def divides(): return 1 // 0
def exits(): raise KeyError("no\\nkey")
def download(): raise DownloadError("no network. Cure: connect")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    name = f"loaders_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(_OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("number", "InputError: --data {own}: the training loader is a int, which gives no batches. Cure"),
        ("no_validation", "InputError: --data {own}: the validation loader is a NoneType, which gives no"),
        ("number_test", "InputError: --data {own}: the test loader is a int, which gives no batches. Cure"),
        (
            "generator",
            "DataError: --data {own}: the training loader: batches come from a generator, which",
        ),
        (
            "mapped",
            "DataError: --data {own}: the validation loader: batches come from a map, which",
        ),
        (
            "iterator",
            "DataError: --data {own}: the test loader: batches come from a list_iterator, which",
        ),
        (
            "numpy_train",
            "the training loader: the input of a batch is a ndarray, no tensor. Cure: torch.as_tensor",
        ),
        ("numpy_validation", "the validation loader: the input of a batch is a ndarray, no tensor"),
        ("numpy_test", "the test loader: the input of a batch is a ndarray, no tensor"),
        ("empty_train", "DataError: --data {own}: the training loader: it is empty. Cure"),
        ("empty_test", "DataError: --data {own}: the test loader: it is empty. Cure"),
        ("tensor_test", "the test loader: a batch is a Tensor, not (inputs, target)"),
        ("triple", "the training loader: the target of a batch is a int, no tensor"),
        ("one", "should return (train, validation) or (train, validation, test), got a list. Cure"),
        (
            "needs",
            "InputError: --data {own} raised TypeError: needs() missing 1 required positional argument",
        ),
        (
            "divides",
            "InputError: --data {own} raised ZeroDivisionError: integer division or modulo by zero. Cure",
        ),
        ("exits", "InputError: --data {own} raised KeyError: 'no\\nkey'. Cure"),
        ("download", "laconic: DownloadError: no network. Cure: connect"),
    ],
)
def test_a_loader_that_cannot_be_is_refused_before_training(
    name: str, complaint: str, own: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("laconic.cli.compress.fit", lambda *args, **kwargs: pytest.fail("it trained"))
    assert main(["compress", "digits-mlp", "--data", f"{own}:{name}", "--out", "run"]) == 2
    err = capsys.readouterr().err
    assert complaint.replace("{own}", f"{own}:{name}") in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("targets", "task", "complaint"),
    [
        (
            "torch.rand(4)",
            [],
            "fit targets (4,) float32 under Classification. Cure: outputs (N, C) with C >= 2",
        ),
        ("torch.zeros(4, 3, dtype=torch.int64)", [], "fit targets (4, 3) int64 under Classification"),
        ("torch.full((4,), -3)", [], "label -3 is out of range"),
        ("torch.zeros(4)", ["--task", "multi-label"], "fit targets (4,) float32 under MultiLabel"),
        ("torch.rand(4, 5)", ["--task", "segmentation"], "fit targets (4, 5) float32 under Segmentation"),
        ("torch.zeros(4)", ["--task", "language-modelling"], "under LanguageModelling"),
    ],
    ids=["numbers", "one-hot", "negative", "one axis", "no pixels", "no tokens"],
)
def test_targets_that_do_not_fit_are_refused_before_a_network_is_made(
    targets: str,
    task: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A network of the user's own is often trained by the function that returns it."""
    name = f"targets_{abs(hash(targets + str(task)))}"
    (tmp_path / f"{name}.py").write_text(
        "import torch\n"
        f"def data(): return [(torch.zeros(4, 2), {targets})], [(torch.zeros(4, 2), {targets})]\n"
        "def model(): raise SystemExit('it was made')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["compress", "--model", f"{name}:model", "--data", f"{name}:data", "--method", "magnitude"]
    assert main([*words, *task, "--out", "run"]) == 2
    assert f"--data {name}:data: the training loader: " in (err := capsys.readouterr().err)
    assert complaint in err


def test_the_test_loader_may_be_none_or_left_out(own: str) -> None:
    for name in ("pair", "none"):
        words = ["compress", "digits-mlp", "--data", f"{own}:{name}"]
        loaders = make_loaders(parse_request(make_parser().parse_args(words)), Classification())
        assert loaders.test is None
        assert len(loaders.train) == len(loaders.validation) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "raised"),
    [
        ("def broken(:", SyntaxError),
        ("1 + 'a'", TypeError),
        ("int('x')", ValueError),
        ("absent", NameError),
        ("import no_such_module_at_all", ModuleNotFoundError),
    ],
)
def test_a_module_that_does_not_import_is_told_and_kept_as_the_cause(
    source: str, raised: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_{raised.__name__.lower()}"
    (tmp_path / f"{name}.py").write_text(source + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(InputError, match=rf"--data {name}:f.*Cure: ") as caught:
        own_function(f"{name}:f", "--data")
    assert isinstance(caught.value.__cause__, raised)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["./m:f", "..m:f", "m.py:f", "a//b:f", "a..b:f"])
def test_a_name_that_is_no_module(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(InputError, match=r"--model .*Cure: "):
        own_function(text, "--model")


def test_what_a_function_raised_stays_the_cause(own: str) -> None:
    with pytest.raises(InputError) as caught:
        call_own(f"{own}:divides", "--model")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(DownloadError):
        call_own(f"{own}:download", "--model")
