"""int8 or float32: ``auto`` takes the faster of the two, measured once on a machine, in a bounded time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.errors import InputError
from laconic.pack.graph.ops import make_node
from laconic.records import ActivationRange, Graph, PackedModel, RawTensor, ValueSpec
from laconic.runtime import Network, load
from laconic.runtime.engines import arithmetic, cache
from laconic.runtime.engines.assembly import Assembly
from laconic.runtime.engines.work import Work, work_of
from laconic.runtime.precision import Precision, with_precision

F32 = np.float32


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))


def model(width: int = 8, size: int | None = None) -> PackedModel:
    weight = RawTensor("w", np.random.default_rng(0).normal(size=(width, 8)).astype(F32))
    ranges = (ActivationRange(0, float(F32(0.05)), 0), ActivationRange(1, float(F32(0.2)), 0))
    spec = ValueSpec("float32", (None, 8) if size is None else (None, size, 8))
    return PackedModel((weight,), Graph((spec,), (make_node("linear", (0, -1)),), (1,), ranges))


X = np.random.default_rng(1).normal(size=(4, 8)).astype(F32)


def kept() -> dict[str, dict[str, float]]:
    """What was measured so far on this machine, as it lies in the cache."""
    return cache.read_choices(cache.cache_file())


ASKED = "int8: as asked for, not measured against float32; in float32: no layer"


@pytest.mark.parametrize(("precision", "other"), [("int8", "fp32"), ("fp32", "int8")])
def test_auto_takes_the_faster(precision: Precision, other: str) -> None:
    """The times that were measured are replaced by others: the choice is made by these."""
    data = pack.encode(model())
    load(data, threads=1)
    ((key, times),) = kept().items()
    assert set(times) == {"int8", "fp32"}
    cache.keep_choices(cache.cache_file(), {key: {precision: 1e-6, other: 2e-6}})
    network = load(data, threads=1)
    said = {"int8": "int8 1, fp32 2", "fp32": "int8 2, fp32 1"}[precision].split(", ")
    assert network.notes == (f"{precision}: measured, us: {', '.join(sorted(said))}",)
    assert network.notes[0] in network.describe()
    wanted = load(data, threads=1, precision=precision)
    assert np.array_equal(network(X), wanted(X))
    assert wanted.notes == (() if precision == "fp32" else (ASKED,))


def test_it_is_measured_once_for_each_structure() -> None:
    first = load(pack.encode(model()), threads=1)
    measured = kept()
    assert load(pack.encode(model()), threads=1).notes == first.notes
    assert kept() == measured, "not measured again"
    load(pack.encode(model()), threads=1, batch=3)
    assert len(kept()) == 2 and measured.items() <= kept().items()
    load(pack.encode(model(width=9)), threads=1)
    assert len(kept()) == 3
    load(pack.encode(model()), threads=1, precision="int8")
    load(pack.encode(with_precision(model(), "fp32")), threads=1)
    assert len(kept()) == 3  # nothing to choose


@pytest.mark.parametrize(("saturating", "precision"), [(True, "fp32"), (False, "int8")])
def test_a_long_call_is_not_measured(
    saturating: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "int8_saturates", lambda: saturating)
    monkeypatch.setattr(Assembly, "run", lambda *_: pytest.fail("measured"))
    network = load(pack.encode(model(size=2**20)), threads=1)
    assert network.notes[0].startswith(f"{precision}: unmeasured, a call is too long")


def test_what_fails_on_made_up_values_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise InputError("no noise")

    monkeypatch.setattr(Assembly, "run", fails)
    assert "does not run on example values" in load(pack.encode(model()), threads=1).notes[0]


def test_work_of_convolutions_and_recurrent_layers() -> None:
    """By hand: 2 x 5 filters of 3 x 3 x 3 on 6 x 6; 4 gates of 3 units, 2 inputs, 7 steps."""
    conv = Graph((ValueSpec("float32", (None, 3, 8, 8)),), (make_node("conv", (0, -1)),), (1,))
    work = work_of(PackedModel((RawTensor("w", np.ones((5, 3, 3, 3), F32)),), conv), 2)
    assert work is not None and work.products - 2 * 5 * 36 * 27 == 0
    tensors = tuple(
        RawTensor(f"t{k}", np.ones(s, F32)) for k, s in enumerate([(12, 2), (12, 3), (12,), (12,)])
    )
    nodes = (make_node("lstm", (0, None, None, -1, -2, -3, -4), time_major=True),)
    lstm = Graph((ValueSpec("float32", (7, None, 2)),), nodes, (1,))
    work = work_of(PackedModel(tensors, lstm), 10)
    assert work is not None and 7 * 10 * 12 * 5 <= work.products < 2 * 7 * 10 * 12 * 5
    assert Work(1, 2, 3).within(Work(1, 2, 3)) and not Work(1, 2, 4).within(Work(9, 9, 3))


def test_from_packed_insists() -> None:
    """Records with ranges run in int8; ``load`` alone chooses."""
    assert Network.from_packed(model(), 1).notes == (ASKED,)
    step = 0.1
    float_net = Network.from_packed(with_precision(model(), "fp32"), 1)
    assert 0 < np.abs(np.asarray(Network.from_packed(model(), 1)(X)) - float_net(X)).max() < step * 8
