"""The verb: files, modules and converted networks; measured beside estimated; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic import pack
from laconic.cost.show import as_data, layer_table, side_by_side, verdict
from laconic.errors import CaptureError, InputError, WeightsOnlyError
from laconic.methods import MagnitudePruning
from laconic.records import Graph, IntTensor, Node, PackedModel, RawTensor, UniformGrid, ValueSpec
from tests.helpers.fresh import run_fresh


def ternary(zeros: int = 60) -> PackedModel:
    """One linear layer, 4 x 25 weights of -1 and 1, the first ones zero."""
    integers = np.resize(np.array([1, -1], np.int32), 100)
    integers[:zeros] = 0
    weight = IntTensor("fc.weight", np.ascontiguousarray(integers.reshape(4, 25)), UniformGrid(0.5))
    graph = Graph((ValueSpec("float32", (None, 25)),), (Node("linear", (0, -1, -2)),), (1,))
    return PackedModel((weight, RawTensor("fc.bias", np.zeros(4, np.float32))), graph)


def test_a_file_its_bytes_and_its_records_cost_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.lac"
    size = pack.write(path, ternary())
    cost = laconic.cost_of(path)
    assert cost == laconic.cost_of(path.read_bytes()) == laconic.cost_of(ternary())
    assert cost.file_bytes == size
    assert (cost.macs, cost.macs_nonzero) == (100, 40)
    assert cost.macs_by_bits == {(2, 32): 100}
    assert cost.weights_few_bit_bytes == (25 + 4) + 16
    assert cost.weights_stored_bytes == cost.weights_few_bit_bytes  # 40 x 18 bits and five pointers are more
    assert (cost.estimated, cost.measured) == (None, None)


def test_codes_of_a_uniform_grid_multiply_as_integers_on_eight_bit_activations() -> None:
    cost = laconic.cost_of(ternary(), activation_bits=8, device="cortex-m7")
    assert cost.macs_by_bits == {(2, 8): 100}
    assert cost.estimated is not None
    assert cost.estimated.layers[0].arithmetic == "int8"
    assert cost.estimated.layers[0].arithmetic_fj == 100 * 300


def test_a_file_is_costed_where_there_is_no_torch(tmp_path: Path) -> None:
    pack.write(tmp_path / "m.lac", ternary())
    code = f"import laconic; c = laconic.cost_of({str(tmp_path / 'm.lac')!r}, device='cortex-m7', runs=3); "
    code += "print(c.macs, c.estimated.fits_all, c.measured.seconds > 0)"
    assert run_fresh(code, without_torch=True) == "100 True True\n"


def test_a_module_takes_the_shapes_of_its_example() -> None:
    cost = laconic.cost_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), torch.zeros(5, 1, 6, 7))
    assert cost.input_shapes == ((5, 1, 6, 7),)
    assert cost.macs == 5 * 2 * 4 * 5 * 9


def test_before_and_after_a_method() -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    example = torch.zeros(1, 20)
    method = MagnitudePruning(sparsity=0.5)
    net = laconic.prepare(model, method, example, data_size=10)
    laconic.step(net, terms=1)
    small = laconic.convert(net)
    before, after = laconic.cost_of(model, example), laconic.cost_of(small)
    assert before.macs == after.macs == 750
    assert after.macs_nonzero < before.macs_nonzero == 750
    assert after.weights_stored_bytes < before.weights_stored_bytes
    text = side_by_side(before, after)
    assert f"{after.macs_nonzero / 750:.3f}" in text
    assert "MACs not by zero" in text


def test_measured_is_a_field_of_its_own() -> None:
    cost = laconic.cost_of(ternary(), runs=9, device="x86-server")
    assert cost.measured is not None
    assert cost.estimated is not None
    assert 0 < cost.measured.low_seconds <= cost.measured.seconds <= cost.measured.high_seconds
    assert (cost.measured.runs, cost.measured.threads) == (9, 1)


def test_the_median_is_one() -> None:
    """Calls of 3, 1, 9, 4, ... seconds by a clock that a test winds up."""
    from laconic.cost import measure

    seconds = [3, 1, 9, 4, 2, 7, 8, 6, 5, 10]
    ticks = iter([t for k, s in enumerate(seconds) for t in (100.0 * k, 100.0 * k + s)])
    calls: list[int] = []
    cost = measure(
        laconic.cost_of(ternary()), lambda: calls.append(1), threads=2, runs=10, clock=lambda: next(ticks)
    )
    assert len(calls) == 3 + 10
    assert cost.measured is not None
    assert (cost.measured.low_seconds, cost.measured.seconds, cost.measured.high_seconds) == (2, 5.5, 9)
    assert cost.measured.threads == 2
    with pytest.raises(InputError, match="at least one run, got 0"):
        measure(cost, lambda: None, threads=1, runs=0)


def test_tables_add_up() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    cost = laconic.cost_of(model.eval(), torch.zeros(1, 1, 6, 6), device="cortex-m4f")
    parts = [part.splitlines() for part in layer_table(cost).split("\n\n")]  # 80 columns hold half of it each
    assert max(len(row) for part in parts for row in part) <= 80
    (counts, time), totals = (
        [[row.split() for row in part[2:-2]] for part in parts],
        [part[-1].split() for part in parts],
    )
    # layer, operation, output, bits, then MACs, non-zero
    assert [sum(int(c[k]) for c in counts) for k in (4, 5)] == [int(n) for n in totals[0][1:]]
    # layer, other, moved, live, path (not for all), us, nJ
    assert [sum(int(c[k]) for c in time) for k in (1, 2)] == [int(n) for n in totals[1][1:3]]
    assert max(int(c[3]) for c in time) == int(totals[1][3])
    assert sum(float(c[-2]) for c in time) == pytest.approx(float(totals[1][-2]), abs=0.001 * len(time))
    assert sum(float(c[-1]) for c in time) == pytest.approx(float(totals[1][-1]), abs=0.001 * len(time))
    assert "flatten" not in layer_table(cost)


def test_the_verdict_says_what_is_missing() -> None:
    cost = laconic.cost_of(nn.Linear(1000, 1000), torch.zeros(1, 1000), device="cortex-m7")
    assert cost.estimated is not None
    text = verdict(cost.estimated)
    missing = 4 * 1_001_000 - 1_048_576
    assert f"DOES NOT FIT: weights take 4004000 of 1048576 bytes of flash, {missing} bytes too many" in text
    assert "fits: activations take 8000 of 327680 bytes of SRAM, 319680 bytes to spare" in text


def test_data_is_json() -> None:
    data = json.loads(json.dumps(as_data(laconic.cost_of(ternary(), device="gpu-a100"))))
    assert data["macs"] == sum(layer["macs"] for layer in data["layers"]) == 100
    assert data["macs_by_bits"] == {"2x32": 100}
    assert data["estimated"]["seconds"] == sum(layer["seconds"] for layer in data["estimated"]["layers"])
    assert data["measured"] is None


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) if x.sum() > 0 else x


def test_what_cannot_be_costed_is_refused() -> None:
    with pytest.raises(InputError, match=r"needs an example input .* Cure: cost_of\(model, example\)"):
        laconic.cost_of(nn.Linear(3, 3))
    with pytest.raises(
        InputError, match="takes a .lac file, a PyTorch module or a converted network, got int"
    ):
        laconic.cost_of(3)  # type: ignore[arg-type]
    with pytest.raises(CaptureError, match="cost_of: "):
        laconic.cost_of(Branches(), torch.zeros(1, 3))
    with pytest.raises(InputError, match="cost_of: .*3"):
        laconic.cost_of(nn.Linear(3, 3), torch.zeros(1, 4))
    with pytest.raises(WeightsOnlyError, match="cannot be counted. Cure"):
        laconic.cost_of(PackedModel((RawTensor("w", np.zeros(3, np.float32)),)))
    with pytest.raises(InputError, match="8, 16 or 32 bits, got 4"):
        laconic.cost_of(ternary(), activation_bits=4)
    with pytest.raises(OSError, match="absent"):
        laconic.cost_of("absent.lac")
