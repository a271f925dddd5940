"""What needs no network is refused before torch is imported, and each refusal names the cure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from laconic.cli import main
from laconic.cli.array_checks import check_file
from laconic.cli.array_files import check_arguments
from laconic.cli.fields import check_value
from laconic.errors import DataError, InputError
from laconic.methods import PostTraining
from laconic.methods.layerwise.refining import Refine
from laconic.networks.probe import check_model
from laconic.own import did_you_mean
from tests.cli.test_request import request
from tests.helpers.fresh import run_fresh

OWN = ["--model", "a:b", "--calibrate", "c:d", "--target", "1nats"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*OWN, "--set", "refine.stps=3"], r"Refine has no setting 'stps' .* Cure: did you mean steps\?"),
        (
            [*OWN, "--set", "refine.steps=abc"],
            "setting refine.steps: expected int, got 'abc'. Cure: refin",
        ),
        ([*OWN, "--set", "refine.what=al"], "expected all or scales, got 'al'"),
        ([*OWN, "--set", "second_order.multiples=1,x"], "second_order.multiples: expected float values"),
        ([*OWN, "--set", "grid.max_kl=0.1"], "Cure: --target 0.1nats, which is what it measures here"),
        ([*OWN, "--set", "sparsity=0.5"], "leave it out; it is one of magnitude"),
        (["digits-mlp", "--set", "refine.steps=3"], "Cure: --calibrate INPUTS, without --method"),
        (
            ["digits-mlp", "--set", "fit.lr=abc"],
            "setting fit.lr: expected float, got 'abc'. Cure: fit.lr",
        ),
        (["digits-mlp", "--set", "reference.epochs=x"], "setting reference.epochs: expected int"),
        (["digits-mlp", "--set", "warm_up.nd=3"], r"WarmUp has no setting 'nd' .* did you mean end\?"),
        (["digits-mlp", "--set", "log_var_bounds=1"], r"expected 2 values \(float, float\)"),
    ],
)
def test_settings_are_checked_before_anything_is_imported(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        request(*words)


def test_no_torch_is_needed_to_refuse(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones((3, 2)), b=np.ones((2, 2)))
    np.save(tmp_path / "y.npy", np.ones((3, 2)))
    code = "from laconic.cli import main; import sys; sys.stderr = sys.stdout\n" + "".join(
        f"print(main({words!r}))\n"
        for words in (
            ["compress", *OWN, "--set", "refine.stps=3"],
            ["compress", *OWN[:2], "--calibrate", f"{tmp_path}/x.npz", "--target", "1kB"],
            ["compress", *OWN[:2], "--calibrate", f"{tmp_path}/y.npy", "--target", "0.01"],
        )
    )
    said = run_fresh(code, without_torch=True)
    assert said.count("\n2\n") == 3
    for part in ("Refine has no setting", "3 examples in 'a' and 2 in 'b'", "Cure: --target 0.01nats"):
        assert part in said


@pytest.mark.parametrize("key", ["prior.scale", "prior", "schedule.nothing", "divergence", "nothing"])
def test_what_cannot_be_told_from_the_file_is_left_alone(key: str) -> None:
    for place in ("laconic.methods.sparse_vd:METHOD", "laconic.methods.post_training:METHOD"):
        check_value(place, key, "a:b", key, {"prior": None, "schedule": None})


def test_heads_of_files_that_are_not_whole_are_left_to_the_reader(tmp_path: Path) -> None:
    for name in ("x.npy", "x.npz"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 none")
        check_file(str(tmp_path / name))
    np.save(tmp_path / "t.npy", np.array(["a"]))
    with pytest.raises(InputError, match="the array is of type <U1"):
        check_file(str(tmp_path / "t.npy"))
    np.save(tmp_path / "e.npy", np.ones((0, 3)))
    with pytest.raises(DataError, match=r"e\.npy' of shape \(0, 3\) holds no example"):
        check_file(str(tmp_path / "e.npy"))


def test_bounds_have_a_cure() -> None:
    for settings in ({"steps": -3}, {"rate": 0.0}, {"mix": 2.0}):
        with pytest.raises(InputError, match=r"Cure: refine\."):
            Refine(**settings)
    for settings in ({"trials": 0}, {"temperature": 0.0}, {"held_out": 1.0}):
        with pytest.raises(InputError, match="Cure: "):
            PostTraining(**settings)


def test_a_target_that_needs_labels_is_refused_before_the_network_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "early_nets.py").write_text(
        "import torch\ndef inputs():\n    return [torch.ones(2, 2)]\ndef net():\n    raise KeyError('made')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    own = ["--model", "early_nets:net", "--calibrate", "early_nets:inputs"]
    assert main(["compress", *own, "--target", "2pt", "--out", "run"]) == 2
    assert "labels only" in capsys.readouterr().err


def test_many_names_are_not_listed() -> None:
    names = [f"resnet{k}" for k in range(900)] + ["vit"]
    said = did_you_mean("nosuch", names)
    assert said.startswith("one of 901 names, the nearest of which are ") and said.count(",") == 3
    assert did_you_mean("x", names[:3]) == "one of resnet0, resnet1, resnet2"


class _Options(nn.Module):
    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return input_ids


def test_options_of_a_librarys_network_are_no_inputs() -> None:
    batches = [{"ids": torch.ones(1)}]
    check_arguments("a.npz", batches, _Options())
    with pytest.raises(InputError, match=r"_Options's forward has no parameter 'ids'. Cure: one of"):
        check_arguments("a.npz", batches, _Options(), pretrained=True)


def test_whole_numbers_where_floating_point_numbers_belong() -> None:
    net = nn.Conv2d(3, 4, 3)
    for kind, told in ((torch.uint8, "uint8"), (torch.int64, "int64")):
        with pytest.raises(InputError, match=f"whole numbers .{told}., .* x.float.., scaled as in"):
            check_model(net, torch.ones(2, 3, 8, 8, dtype=kind))
    with pytest.raises(InputError, match="does not fit"):
        check_model(net, torch.ones(2, 5, 8, 8, dtype=torch.uint8))


def test_images_in_bytes_are_told_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "byte_nets.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Conv2d(3, 4, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    np.save("images.npy", np.zeros((20, 3, 8, 8), np.uint8))
    own = ["--model", "byte_nets:net", "--calibrate", "images.npy"]
    assert main(["compress", *own, "--target", "1kB", "--out", "run"]) == 2
    said = capsys.readouterr().err
    assert "images.npy is of type uint8" in said
    assert "Cure: array.astype('float32'), scaled as in training (bytes of images often by 1 / 255)" in said


def test_few_inputs_are_told_of_below_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few_nets.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(6, 3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    np.save("few.npy", np.random.default_rng(0).standard_normal((3, 6)))
    own = ["--model", "few_nets:net", "--calibrate", "few.npy", "--no-picture", "--set", "trials=2"]
    assert main(["compress", *own, "--target", "1nats", "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert out.index("bits a weight") < out.index("note: the divergence was measured on 1 input only")


def test_a_folder_that_holds_a_run_is_refused_before_the_users_modules_are_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "model.lac").write_bytes(b"")
    before = sorted(path.name for path in tmp_path.iterdir())
    words = ["compress", "--model", "no_such_module:net", "--data", "no_such_module:data"]
    assert main([*words, "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "RunFolderError" in told and "holds a run already. Cure: --resume" in told
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "lock") == before
    assert main([*words, "--out", str(tmp_path / "new")]) == 2
    assert "no_such_module" in capsys.readouterr().err and not (tmp_path / "new").exists()
