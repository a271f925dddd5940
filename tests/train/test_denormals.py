"""Denormal floats are zero within a command that trains, on all of torch's threads, and only there."""

import subprocess
import sys

import torch

from laconic.train.denormals import are_zero, denormals_as_zero

TINY = 1e-40  # below the least normal float32, 1.2e-38

THREADS = f"""
import torch
from laconic.train.denormals import denormals_as_zero
torch.set_num_threads(4)
with denormals_as_zero():
    print(int((torch.full((4_000_000,), {TINY}) * 1.0).count_nonzero()))
"""


def test_they_are_zero_inside_alone():
    assert not are_zero()
    with denormals_as_zero():
        assert are_zero()
        assert torch.full((3,), TINY).mul(1.0).count_nonzero() == 0
    assert not are_zero()
    assert torch.full((3,), TINY).mul(1.0).count_nonzero() == 3


def test_what_was_set_before_comes_back():
    torch.set_flush_denormal(True)
    try:
        with denormals_as_zero():
            pass
        assert are_zero()
    finally:
        torch.set_flush_denormal(False)


def test_threads_that_torch_starts_inside_have_it_too():
    ran = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "0"


def test_a_command_trains_with_it(tmp_path, monkeypatch):
    from laconic.cli import compress, main

    seen = []
    make_reference = compress.make_reference
    monkeypatch.setattr(
        compress, "make_reference", lambda request: (seen.append(are_zero()), make_reference(request))[1]
    )
    words = ["compress", "digits-mlp", "--data", "digits", "--method", "magnitude", "--preset", "demo"]
    words += ["--set", "fit.epochs=1", "--set", "reference.epochs=1", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert seen == [True]
    assert not are_zero()
