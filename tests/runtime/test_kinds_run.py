"""Networks whose weights are of every kind run, and restore, to the values that the file stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic import pack, runtime
from laconic.pack.graph.ops import make_node
from laconic.records import (
    ActivationRange,
    Codebook,
    Graph,
    HashedTensor,
    IntTensor,
    PackedModel,
    ProductTensor,
    RandomCodeTensor,
    RawTensor,
    SharedCode,
    SharedCodeTensor,
    Tensor,
    UniformGrid,
    ValueSpec,
)

ROWS, COLUMNS = 24, 40
RNG = np.random.default_rng(5)
STEPS = tuple(float(s) for s in RNG.uniform(0.1, 2, ROWS).astype(np.float32))
COLUMN_STEPS = tuple(float(s) for s in RNG.uniform(0.1, 2, COLUMNS).astype(np.float32))


def whole(low: int, high: int, *shape: int) -> np.ndarray:
    return RNG.integers(low, high + 1, shape).astype(np.int32)


def books() -> Codebook:
    levels = (np.unique(RNG.normal(size=4).astype(np.float32)).tolist() for _ in range(ROWS))
    return Codebook(tuple(tuple(own) for own in levels), 0)


WEIGHTS: dict[str, Tensor] = {
    "step by row, 2 bits": IntTensor("weight", whole(-1, 1, ROWS, COLUMNS), UniformGrid(STEPS, 0)),
    "step by row, 4 bits": IntTensor("weight", whole(-7, 7, ROWS, COLUMNS), UniformGrid(STEPS, 0)),
    "step by row, 8 bits": IntTensor("weight", whole(-120, 120, ROWS, COLUMNS), UniformGrid(STEPS, 0)),
    "step by column": IntTensor("weight", whole(-7, 7, ROWS, COLUMNS), UniformGrid(COLUMN_STEPS, 1)),
    "codebook by row": IntTensor("weight", whole(0, 3, ROWS, COLUMNS), books()),
    "hashed": HashedTensor(
        "weight", (ROWS, COLUMNS), 9, RawTensor("", RNG.normal(size=50).astype(np.float32))
    ),
    "random codes": RandomCodeTensor(
        "weight", (ROWS, COLUMNS), 9, 8, IntTensor("", whole(0, 999, 120), UniformGrid(1.0)), STEPS
    ),
    "shared codes": SharedCodeTensor(
        "weight", (ROWS, COLUMNS), SharedCode(9, 970, 10, whole(0, 1023, 90)), 3, 0, 0.5
    ),
    "shared codes, tied": SharedCodeTensor(
        "weight", (ROWS, COLUMNS), SharedCode(9, 80, 10, whole(0, 1023, 9)), 3, 70, 0.5
    ),
    "product": ProductTensor(
        "weight",
        IntTensor("", whole(-3, 3, ROWS, 3), UniformGrid(0.25)),
        RawTensor("", RNG.normal(size=(3, COLUMNS)).astype(np.float32)),
    ),
}
BIAS = RawTensor("bias", RNG.normal(size=ROWS).astype(np.float32))
X = RNG.normal(size=(7, COLUMNS)).astype(np.float32)


def file_of(weight: Tensor, ranges: tuple[ActivationRange, ...] = ()) -> bytes:
    graph = Graph((ValueSpec("float32", (None, COLUMNS)),), (make_node("linear", (0, -1, -2)),), (1,), ranges)
    return pack.encode(PackedModel((weight, BIAS), graph))


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_runtime_multiplies_by_the_values(name: str) -> None:
    weight = WEIGHTS[name].values().astype(np.float64)
    y = runtime.load(file_of(WEIGHTS[name]))(X)
    assert np.allclose(y, X @ weight.T + BIAS.array, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", WEIGHTS)
def test_restore_fills_in_the_values(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.lac"
    path.write_bytes(file_of(WEIGHTS[name]))
    net = laconic.restore(path, nn.Linear(COLUMNS, ROWS))
    assert np.array_equal(net.weight.detach().numpy(), WEIGHTS[name].values())


@pytest.mark.parametrize("name", WEIGHTS)
def test_int8_is_as_near_as_its_rounding(name: str) -> None:
    """Half a unit of the output, and what half units of the inputs and of the weights come to."""
    weight, x = WEIGHTS[name].values().astype(np.float64), X.astype(np.float64)
    exact = x @ weight.T + BIAS.array
    unit, out = 2.0**-5, float(2.0 ** np.ceil(np.log2(np.abs(exact).max() / 127)))
    ranges = (ActivationRange(0, unit, 0), ActivationRange(1, out, 0))
    y = runtime.load(file_of(WEIGHTS[name], ranges), precision="int8")(X)
    rounding = np.abs(x).sum(1, keepdims=True) * np.abs(weight).max(1) / 254
    bound = 0.51 * out + 0.51 * unit * np.abs(weight).sum(1) + 1.02 * rounding
    assert np.all(np.abs(y - exact) <= bound)


@pytest.mark.parametrize("kind", ["hashed", "codebook by row", "step by row, 4 bits"])
def test_save_takes_given_tensors_of_a_kind(kind: str, tmp_path: Path) -> None:
    net = nn.Linear(COLUMNS, ROWS)
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(WEIGHTS[kind].values()))
    from laconic.export import save

    save(net, {"weight": WEIGHTS[kind]}, tmp_path / "m.lac", torch.from_numpy(X))
    stored = {t.name: t for t in pack.read(tmp_path / "m.lac").tensors}
    assert type(stored["weight"]) is type(WEIGHTS[kind])
    with torch.no_grad():
        assert np.allclose(runtime.load(tmp_path / "m.lac")(X), net(torch.from_numpy(X)), atol=1e-4)
