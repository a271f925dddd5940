"""``laconic pack`` and ``laconic unpack``: files, messages, exit statuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic.checkpoints.safetensors import SafetensorsFile, write_safetensors
from laconic.cli import main

WEIGHT = np.random.default_rng(0).normal(size=(100, 200)).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    data = {"fc.weight": WEIGHT, "fc.bias": WEIGHT[0]}
    rows = [(name, array.shape, "float32") for name, array in data.items()]
    write_safetensors(path, rows, lambda name: data[name].reshape(-1).view(np.uint8), {"format": "pt"})
    return path


def test_there_and_back(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, back = tmp_path / "model.lac", tmp_path / "back.safetensors"
    assert main(["pack", str(source), "--target", "3.5bits", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "fc.weight" in said
    assert f"{out}: " in said
    assert out.stat().st_size <= 3.5 * (WEIGHT.size + 200) / 8
    assert max(map(len, said.splitlines()[:-1])) <= 80
    assert main(["unpack", str(out), "--out", str(back)]) == 0
    with SafetensorsFile(back) as file:
        found = file.read("fc.weight").view("<f4").reshape(WEIGHT.shape)
        assert file.metadata == {"format": "pt"}
    assert np.square(found - WEIGHT).mean() < 0.02
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    assert "x smaller than its tensors, 80.8 kB" in capsys.readouterr().out


def test_lossless_and_a_parent(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, back = tmp_path / "one.lac", tmp_path / "two.lac", tmp_path / "back.safetensors"
    assert main(["pack", str(source), "--lossless", "--out", str(one)]) == 0
    assert main(["pack", str(source), "--lossless", "--parent", str(one), "--out", str(two)]) == 0
    assert two.stat().st_size < 200
    assert main(["unpack", str(two), "--parent", str(one), "--out", str(back)]) == 0
    with SafetensorsFile(back) as file:
        assert file.read("fc.weight").tobytes() == WEIGHT.tobytes()
    capsys.readouterr()
    assert main(["unpack", str(two), "--out", str(back)]) == 2
    assert "Cure: laconic.pack.open(path, parent=...), or laconic unpack --parent" in capsys.readouterr().err
    assert main(["pack", str(source), "--bits", "4", "--out", str(tmp_path / "other.lac")]) == 0
    assert main(["unpack", str(two), "--parent", str(tmp_path / "other.lac"), "--out", str(back)]) == 2
    assert "other.lac is not the parent of" in capsys.readouterr().err
    assert main(["inspect", str(two)]) == 0
    assert "of the parent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "0.3pt"], "has no unit of a checkpoint. Cure: 3.5bits, or 10MB"),
        (["--target", "xbits"], "no number of bits"),
        (["--target", "100B"], "cannot be at most 100 bytes: the shortest that was tried has"),
        (["--bits", "-1"], "finite number above 0"),
        (["--bits", "3", "--keep", "fc.wieght"], "no tensor is called 'fc.wieght'"),
        (["--bits", "3", "--threads", "0"], "threads must be in"),
        (["--bits", "3", "--parent", "absent.lac"], "cannot read absent.lac"),
    ],
)
def test_refusals(
    source: Path, tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", str(source), *options, "--out", str(tmp_path / "x.lac")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x.lac").exists()


def test_what_is_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.bin").write_bytes(b"PK" + bytes(100))
    assert main(["pack", str(tmp_path / "x.bin"), "--bits", "4", "--out", str(tmp_path / "x.lac")]) == 2
    assert "x.bin is no safetensors file" in capsys.readouterr().err
    assert main(["unpack", str(tmp_path / "x.bin"), "--out", str(tmp_path / "y")]) == 2
    assert "NotALaconicFileError" in capsys.readouterr().err


def test_one_rate_is_asked_for(source: Path, tmp_path: Path) -> None:
    for rates in ([], ["--bits", "3", "--lossless"]):
        with pytest.raises(SystemExit):
            main(["pack", str(source), *rates, "--out", str(tmp_path / "x.lac")])


def test_the_parent_may_be_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nine million zeros are refused by default, with a cure that the command has."""
    zeros, out, child = np.zeros(72_000_000, np.uint8), tmp_path / "x.lac", tmp_path / "y.lac"
    write_safetensors(tmp_path / "x.safetensors", [("w", (3000, 3000), "float64")], lambda _: zeros, {})
    assert main(["pack", str(tmp_path / "x.safetensors"), "--lossless", "--out", str(out)]) == 0
    assert "note: readers who do not trust the file refuse 1 tensor" in capsys.readouterr().out
    again = ["pack", str(tmp_path / "x.safetensors"), "--lossless", "--parent", str(out), "--out", str(child)]
    assert main(again) == 2
    assert "Cure: if you trust the file, --trusted\n" in capsys.readouterr().err
    assert main([*again, "--trusted"]) == 0
    assert "as in the parent" in capsys.readouterr().out


def test_a_listing_decodes_one_tensor_at_a_time(tmp_path: Path) -> None:
    """Integers and values of all three would be more than the file allows."""
    some = np.tile(np.random.default_rng(0).normal(size=(64, 2048)).astype(np.float32), (32, 1))
    write_safetensors(
        tmp_path / "x.safetensors",
        [(name, some.shape, "float32") for name in ("u", "v")],
        lambda name: (some + (name == "v")).view(np.uint8).reshape(-1),
        {},
    )
    out = tmp_path / "x.lac"
    assert main(["pack", str(tmp_path / "x.safetensors"), "--bits", "3.5", "--out", str(out)]) == 0
    assert main(["inspect", str(out)]) == 0


def test_what_an_option_takes_is_said(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.lac"
    pack = ["pack", str(source), "--bits", "3", "--out", str(out)]
    assert main([*pack, "--keep", "fc", "--all"]) == 0  # a layer's name
    assert "3.0" not in capsys.readouterr().out
    assert main([*pack, "--keep", "fc.wieght"]) == 2
    assert "Cure: a name such as fc.weight" in capsys.readouterr().err
    assert main(["unpack", str(out), "--out", str(tmp_path / "x.pt")]) == 2
    assert "should end in .safetensors" in capsys.readouterr().err
    assert main(["unpack", str(source), "--out", str(tmp_path / "x.safetensors")]) == 2
    assert f"Cure: laconic pack {source} --bits 4" in capsys.readouterr().err
    for command in (["run", str(out), "x.npy"], ["export", str(out), str(tmp_path / "x.onnx")]):
        assert main(command) == 2
        assert f"Cure: laconic unpack {out} --out model.safetensors" in capsys.readouterr().err
    (tmp_path / "mix.pt").write_bytes(b"PK" + bytes(100))
    assert main(["pack", str(tmp_path / "mix.pt"), "--bits", "4", "--out", str(out)]) == 2
    assert "Cure: safetensors.torch.save_file(torch.load(path" in capsys.readouterr().err


def test_a_model_that_is_a_file_has_a_cure(capsys: pytest.CaptureFixture[str]) -> None:
    for name, cure in (
        ("cnn.onnx", "Cure: laconic pack cnn.onnx"),
        ("cnn.pt", "builds the network and loads"),
    ):
        assert main(["compress", "--model", name, "--data", "digits", "--method", "magnitude"]) == 2
        assert cure in capsys.readouterr().err


def test_an_empty_tensor_has_no_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, [("w", (0, 4), "float32")], lambda _: np.zeros(0, np.uint8), {})
    assert main(["pack", str(path), "--bits", "3", "--out", str(tmp_path / "x.lac")]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("w "))
    assert row.split()[1:3] == ["0", "-"]
