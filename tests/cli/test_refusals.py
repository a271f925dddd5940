"""Names, numbers and files that cannot be: one line that says what and the cure, and status 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic.cli import main


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["compress", "lenet6"], "there is no network 'lenet6'. Cure: did you mean lenet5?"),
        (["compress"], "name one network"),
        (["compress", "digits-mlp", "--model", "a:b"], "name one network"),
        (["compress", "--model", "a:b"], "--model needs --data"),
        (
            ["compress", "digits-mlp", "--method", "magic"],
            "there is no method 'magic'. Cure: one of apoz, bayesian-compression, distillation",
        ),
        (["compress", "digits-mlp", "--data", "minst"], "no data set is called 'minst'. Cure: one of digits"),
        (["compress", "lenet5", "--data", "digits"], "(2, 1, 8, 8) does not fit: layer 'conv2'"),
        (
            ["compress", "digits-mlp", "--preset", "huge"],
            "no preset is called 'huge'. Cure: one of demo, full",
        ),
        (["compress", "digits-mlp", "--target", "0.3x"], "target '0.3x' is not understood. Cure: 0.3 (in"),
        (["compress", "digits-mlp", "--target=-1pt"], "target '-1pt' is negative: it is how much worse"),
        (["compress", "digits-mlp", "--target=-1"], "metric may become. Cure: 1, or 0 for no loss"),
        (["compress", "digits-mlp", "--target=-5kB"], "target '-5kB' is no length of a file"),
        (["compress", "digits-mlp", "--target", "0.4B"], "target '0.4B' is no length of a file"),
        (["compress", "digits-mlp", "--target", "5e300kB"], "target '5e300kB' is no length of a file"),
        (["compress", "digits-mlp", "--target", "xkB"], "is not understood"),
        (
            ["compress", "digits-mlp", "--set", "fit.epoch=3"],
            "(from fit.epoch=3). Cure: did you mean epochs?",
        ),
        (["compress", "digits-mlp", "--set", "colour=3"], "method sparse-vd has no setting 'colour'"),
        (["compress", "digits-mlp", "--set", "threshold.x=3"], "'threshold' of SparseVD has no parts"),
        (
            ["compress", "digits-mlp", "--set", "fit.epochs=many"],
            "setting fit.epochs: expected int, got 'many'",
        ),
        (["compress", "digits-mlp", "--set", "epochs"], "--set 'epochs' should read KEY=VALUE"),
        (["compress", "digits-mlp", "--set", "data.size=3"], "no setting is called 'data.size'"),
        (["compress", "digits-mlp", "--set", "data.batch_size=x"], "data.batch_size: expected int, got 'x'"),
        (
            ["compress", "digits-mlp", "--set", "kl_weight=0.00081"],
            "kl_weight=0.00081 looks like 1/data_size",
        ),
        (["compress", "digits-mlp", "--seed", "-1"], "seed must be in 0..2^63-1, got -1"),
        (["compress", "digits-mlp", "--threads", "0"], "threads must be in 1.."),
        (["compress", "--config", "absent.toml"], "run file absent.toml"),
        (["inspect", "absent.lac"], "cannot read absent.lac"),
        (
            ["verify", "absent.lac", "--data", "digits"],
            "cannot read absent.lac: No such file or directory. Cure",
        ),
        (["verify", "absent.lac", "--data", "minst"], "cannot read absent.lac"),
        (["run", "absent.lac", "x.npy"], "cannot read absent.lac: No such file or directory. Cure"),
        (["bench", "absent.lac"], "cannot read absent.lac: No such file or directory. Cure"),
        (["export", "absent.lac", "m.onnx"], "cannot read absent.lac: No such file or directory. Cure"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line_and_status_2(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--set", "reference.epochs=1"] if words[0] == "compress" else words) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("laconic: ")
    assert complaint in err[-1]
    assert "Traceback" not in "".join(err)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("metod = 'vnq'", "unknown name 'metod'. Cure: did you mean method?"),
        ("seed = 'one'", "seed must be int, got 'one'"),
        ("data = 3", "data must be str, got 3"),
        ("network = ", "run file run.toml"),
        ("settings = 3", "settings must be one table, got 3. Cure: a line [settings]"),
        ("[[settings]]", "settings must be one table, got [{}]. Cure: a line [settings]"),
        ("seed = 1979-05-27", "seed must be int, got datetime.date(1979, 5, 27). Cure: seed = 3"),
        ("[settings]\nhold_from = 1979-05-27", "hold_from: expected float or none, got datetime.date"),
        ("[settings]\nfit.epochs = 07:32:00", "fit.epochs: expected int, got datetime.time"),
        ("[[settings.grid]]", "setting grid: expected GridChoice, got [{}]. Cure: grid.PART=VALUE"),
        ("seed = 9223372036854775808", "seed must be in 0..2^63-1"),
        ("threads = 100000", "threads must be in 1.."),
        ("\xff", "run file run.toml is not UTF-8 text"),
    ],
)
def test_a_run_file_that_cannot_be_is_refused(
    text: str,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(text, encoding="latin-1")
    assert main(["compress", "digits-mlp", "--config", "run.toml"]) == 2
    assert complaint in capsys.readouterr().err


def test_a_damaged_file_is_one_line_for_every_reader(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(Path(model).read_bytes())
    data[len(data) // 2] ^= 4
    broken = tmp_path / "broken.lac"
    broken.write_bytes(data)
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    for words in (
        ["inspect", str(broken)],
        ["verify", str(broken), "--data", "digits"],
        ["run", str(broken), str(tmp_path / "x.npy")],
        ["bench", str(broken)],
        ["export", str(broken), str(tmp_path / "m.onnx")],
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith("laconic: ")
    assert not (tmp_path / "m.onnx").exists()


def test_inputs_and_outputs_that_cannot_be(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    np.save(tmp_path / "wrong.npy", np.zeros((1, 1, 9, 8), np.float32))
    good, wrong = str(tmp_path / "x.npy"), str(tmp_path / "wrong.npy")
    for words, complaint in (
        (["run", model, str(tmp_path / "absent.npy")], "absent.npy: No such file"),
        (["run", model, wrong], "must have shape"),
        (
            ["run", model, good, "--out", str(tmp_path / "no" / "y.npy")],
            "y.npy': No such file or directory; an existing file is unchanged. Cure: make the folder",
        ),
        (["export", model, str(tmp_path / "m.txt")], "should end in .onnx"),
        (["export", model, str(tmp_path / "no" / "m.onnx")], "could not write"),
        (["bench", model, "--threads", "0"], "threads must be in 1.."),
        (["verify", model, "--data", "minst"], "no data set is called 'minst'"),
    ):
        assert main(words) == 2
        assert complaint in capsys.readouterr().err


def test_words_that_are_no_command_are_refused_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["squeeze"], ["inspect"], ["compress", "digits-mlp", "--seed", "x"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("laconic 0.")
