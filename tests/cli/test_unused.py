"""What a user sets is obeyed, refused with a cure, or told of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic.cli import main
from laconic.cli.choices import make_job
from laconic.errors import InputError
from tests.cli.test_request import request
from tests.helpers.commands import compress

OWN = ["--model", "a:b", "--calibrate", "c:d", "--target", "1kB"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["digits-mlp", "--target", "0.5", "--set", "grid.max_kl=0.001"],
            r"grid\.max_kl=0\.001: --target 0\.5 takes its place\. Cure: leave one of them out",
        ),
        (
            ["digits-mlp", "--target", "5kB", "--set", "grid.max_nll_ratio=1.2"],
            r"max_nll_ratio=1\.2: --target 5kB",
        ),
        (["digits-mlp", "--target", "1", "--set", "grid.max_drop=0.2"], r"max_drop=0\.2: --target 1 takes"),
        (
            ["digits-mlp", "--set", "grid.max_kl=0.001", "--set", "grid.max_drop=0.2"],
            r"grid\.max_drop=0\.2: grid\.max_kl=0\.001 takes its place",
        ),
        (
            [*OWN, "--set", "max_kl=0.002"],
            r"max_kl=0\.002: --target 1kB takes .* or --target 0\.002nats alone",
        ),
        ([*OWN, "--set", "refine.rate=0.1"], r"no refinement without steps\. Cure: --set refine\.steps=300"),
        ([*OWN, "--set", "data.batch_size=9"], r"data\.batch_size is for built-in data; c:d makes its own"),
    ],
)
def test_a_setting_whose_place_another_takes_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        request(*words)


def test_batches_of_a_file_have_their_own_size(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((4, 2), np.float32))
    with pytest.raises(InputError, match=r"x\.npy makes its own batches\. Cure: leave data\.batch_size out$"):
        request(
            "--model",
            "a:b",
            "--calibrate",
            f"{tmp_path}/x.npy",
            "--target",
            "1kB",
            "--set",
            "data.batch_size=9",
        )


def test_what_is_looked_at_is_not_refused(tmp_path: Path) -> None:
    request("digits-mlp", "--target", "0.5", "--set", "grid.max_nll_ratio=1.2")
    request(*OWN, "--set", "refine.rate=0.1", "--set", "refine.steps=9")
    path = tmp_path / "run.toml"
    path.write_text(
        'network = "digits-mlp"\ntarget = "5kB"\n'
        '[[stage]]\nmethod = "magnitude"\ngrid.max_kl = 0.01\n[[stage]]\nmethod = "magnitude"\n'
    )
    assert make_job(request("--config", str(path))).stages[0].method.grid.max_kl == 0.01
    with pytest.raises(InputError, match="--target 0.5 takes its place"):
        request("--config", str(path), "--target", "0.5")


def test_a_presets_allowances_give_way() -> None:
    """LeNet-5's preset allows a divergence, a drop and a ratio; a divergence that is there decides alone."""

    def allowances(*words: str) -> tuple[float | None, float | None, float]:
        grid = make_job(request("lenet5", *words)).stages[0].method.grid
        return grid.max_kl, grid.max_drop, grid.max_nll_ratio

    assert allowances() == (0.001, 0.05, 1.08)
    assert allowances("--target", "0.3") == (None, None, 1.08)
    assert allowances("--target", "5kB") == (None, None, 1.15)
    assert allowances("--set", "grid.max_drop=0.2") == (None, 0.2, 1.08)
    assert allowances("--set", "grid.max_kl=0.01") == (0.01, None, 1.15)


def test_an_allowance_is_met_or_missed_below_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--set", "reference.epochs=1", "--set", "fit.epochs=1", "--no-picture"]
    for value, word in (("1e-9", "note: grid: max_kl=1e-09 missed: "), ("9", "grid: max_kl=9 met: ")):
        words = compress("magnitude", tmp_path / value)
        assert main([*words, *few, "--set", f"grid.max_kl={value}"]) == 0
        lines = capsys.readouterr().out.splitlines()
        (told,) = [k for k, line in enumerate(lines) if line.startswith(word)]
        assert told > max(k for k, line in enumerate(lines) if "bits a weight" in line)
