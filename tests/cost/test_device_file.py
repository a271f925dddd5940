"""Device files: the shipped ones load, and what is wrong in one's own is named with its field."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from laconic.cost import device_names, read_device
from laconic.errors import InputError

GOOD = """
name = "board"
clock_hz = 1e6
active_watts = 0.5
seconds_per_operation = 0
sparse_macs_per_cycle = 0
source = "made up"

[[memory]]
name = "all"
holds = "both"
bytes = 1000
bytes_per_second = 1e6
fj_per_byte = 10
source = "made up"

[[arithmetic]]
name = "fp32"
weight_bits = 32
activation_bits = 32
macs_per_cycle = 1
fj_per_mac = 100
source = "made up"
"""
FIELDS = [line.split(" = ")[0] for line in GOOD.splitlines() if " = " in line]


@pytest.fixture
def board(tmp_path: Path) -> Path:
    path = tmp_path / "board.toml"
    path.write_text(GOOD)
    return path


def test_the_shipped_devices() -> None:
    assert device_names() == ("cortex-a72", "cortex-m4f", "cortex-m7", "gpu-a100", "x86-server")


@pytest.mark.parametrize("name", device_names())
def test_a_shipped_device_loads_and_takes_floats_and_bytes(name: str) -> None:
    device = read_device(name)
    assert device.arithmetic(8, 8).name == "int8"
    assert device.arithmetic(32, 32).name == "fp32"
    assert device.arithmetic(8, 8).fj_per_mac == 300  # Horowitz: 0.2 pJ the product, 0.1 pJ the sum
    assert device.arithmetic(32, 32).fj_per_mac == 4600  # 3.7 pJ and 0.9 pJ
    assert device.arithmetic(8, 8).macs_per_cycle > device.arithmetic(32, 32).macs_per_cycle
    sizes = sorted(device.memories, key=lambda m: m.bytes)
    both = [m for m in sizes if m.holds == "both"]
    assert [m.bytes_per_second for m in both] == sorted((m.bytes_per_second for m in both), reverse=True)


@pytest.mark.parametrize("name", device_names())
def test_every_number_of_a_shipped_device_has_a_source(name: str) -> None:
    content = tomllib.loads((files("laconic.cost") / "devices" / f"{name}.toml").read_text())
    for part in (content, *content["memory"], *content["arithmetic"]):
        assert re.search(
            r"Horowitz|datasheet|typical|measured|interpolated|O'Connor|NVIDIA|ST |Arm", part["source"]
        )


def test_ones_own_file_loads_by_its_path(board: Path) -> None:
    device = read_device(board)
    assert (device.name, device.clock_hz, device.memories[0].bytes) == ("board", 1e6, 1000)
    assert read_device(str(board)) == device


@pytest.mark.parametrize("index", range(len(FIELDS)), ids=lambda k: f"{k}-{FIELDS[k]}")
def test_every_field_is_needed(index: int, board: Path) -> None:
    lines = GOOD.splitlines()
    where = [k for k, line in enumerate(lines) if " = " in line][index]
    board.write_text("\n".join(lines[:where] + lines[where + 1 :]))
    with pytest.raises(InputError) as caught:
        read_device(board)
    place = "" if index < 6 else "memory[0]." if index < 12 else "arithmetic[0]."
    assert f"device file {board}: field {place}{FIELDS[index]} is missing. Cure: add" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("clock_hz = 1e6", "clock_hz = 168", "clock_hz must be in 10000 .. 1e+11 hertz, got 168"),
        ("clock_hz = 1e6", 'clock_hz = "1 MHz"', "clock_hz must be a number in hertz, got '1 MHz'"),
        ("clock_hz = 1e6", "clock_hz = true", "clock_hz must be a number in hertz, got True"),
        ("clock_hz = 1e6", "clock_hz = nan", "clock_hz must be in"),
        ("active_watts = 0.5", "active_watts = -0.5", "must be in 1e-06 .. 100000 watts, got -0.5"),
        ("bytes = 1000", "bytes = 1000.5", "memory[0].bytes must be a whole number in bytes, got 1000.5"),
        ("bytes = 1000", "bytes = 0", "memory[0].bytes must be in 1 .."),
        ("fj_per_byte = 10", "fj_per_byte = -1", "memory[0].fj_per_byte must be in 0 .. 1e+09 femtojoules"),
        ('holds = "both"', 'holds = "data"', "[0].holds must be one of weights, activations, both"),
        ('holds = "both"', "holds = 3", "memory[0].holds must be a text, got 3"),
        ('holds = "both"', 'holds = "weights"', "no memory holds activations. Cure: a [[memory]]"),
        ('name = "board"', 'name = ""', "name must be a text, got ''"),
        ("fj_per_mac = 100", "fj_per_max = 100", "fj_per_max is unknown. Cure: did you mean fj_per_mac?"),
        ("[[arithmetic]]", "[arithmetic]", "arithmetic must be a list of tables. Cure: at least one table"),
        ("[[arithmetic]]", "[[memory]]", "memory[1].weight_bits is unknown"),
        ("clock_hz = 1e6", "clock_hz = ", "is not valid TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_field(old: str, new: str, complaint: str, board: Path) -> None:
    assert old in GOOD
    board.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_device(board)
    assert f"device file {board}" in str(caught.value)
    assert complaint in str(caught.value)
    assert "Cure: " in str(caught.value)


def test_a_file_without_memories(board: Path) -> None:
    start, end = GOOD.index("[[memory]]"), GOOD.index("[[arithmetic]]")
    board.write_text(GOOD[:start] + GOOD[end:])
    with pytest.raises(
        InputError, match=r"field memory is missing. Cure: at least one table under \[\[memory\]\]"
    ):
        read_device(board)


def test_bytes_that_are_no_text(board: Path) -> None:
    board.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not valid TOML"):
        read_device(board)


def test_unknown_names_and_absent_files() -> None:
    with pytest.raises(InputError, match=r"no device is called 'cortex-m8'; there are cortex-a72, .* Cure"):
        read_device("cortex-m8")
    with pytest.raises(InputError, match=r"cannot read device file absent.toml: No such file .* Cure"):
        read_device("absent.toml")
