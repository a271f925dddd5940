"""Ranges chosen by the outputs: values with heavy tails, values without, a network that does not run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from laconic.errors import EngineError
from laconic.pack.graph.ops import make_node
from laconic.records import Graph, PackedModel, RawTensor, ValueSpec
from laconic.runtime import LeastError, LeastOutputError, MinMax, Network, Percentile, calibrate, emulate
from laconic.runtime.calibration import range_search
from laconic.runtime.calibration.range_choice import RangeChoice

F32 = np.float32
Floats = npt.NDArray[np.float32]


def model() -> PackedModel:
    """Two layers; the tanh between them makes little of how large a large sum is."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(16, 8)).astype(F32), rng.normal(size=(4, 16)).astype(F32)
    spec = ValueSpec("float32", (None, 8))
    nodes = (make_node("linear", (0, -1)), make_node("tanh", (1,)), make_node("linear", (2, -2)))
    return PackedModel((RawTensor("a", first), RawTensor("b", second)), Graph((spec,), nodes, (3,)))


def heavy(seed: int, rows: int = 1024) -> Floats:
    """Inputs of Student's t distribution, 1.5 degrees of freedom: a few are hundreds of times as large."""
    return np.random.default_rng(seed).standard_t(1.5, size=(rows, 8)).astype(F32)


def even(seed: int, rows: int = 1024) -> Floats:
    return np.random.default_rng(seed).uniform(-0.2, 0.2, size=(rows, 8)).astype(F32)


def ranges(choice: RangeChoice | LeastOutputError, x: Floats) -> Any:
    graph = calibrate(model(), [(x[k : k + 256],) for k in range(0, len(x), 256)], choice, threads=1).graph
    assert graph is not None
    return graph.ranges


def output_error(choice: RangeChoice | LeastOutputError, x: Floats, new: Floats) -> tuple[float, float]:
    """|y_int8 - y_float32|^2 / |y_float32|^2 on new inputs, in the runtime and in the emulation."""
    ready = calibrate(model(), [(x,)], choice, threads=1)
    wanted = np.asarray(Network.from_packed(model(), 1)(new))
    nets = (Network.from_packed(ready, 1, engine="onnxruntime"), emulate(ready))
    runtime, emulation = (np.square(np.asarray(net(new)) - wanted).sum() for net in nets)
    return float(runtime / np.square(wanted).sum()), float(emulation / np.square(wanted).sum())


def test_heavy_tails_cost_less_than_with_the_extremes() -> None:
    extremes = output_error(MinMax(), heavy(0), heavy(1))
    found = output_error(LeastOutputError(), heavy(0), heavy(1))
    assert found[0] < 0.1 * extremes[0]
    assert found[1] < 0.1 * extremes[1]


def test_where_nothing_is_to_be_cut_the_default_loses_nothing() -> None:
    extremes = output_error(MinMax(), even(0), even(1))
    assert output_error(LeastOutputError(), even(0), even(1))[0] <= 1.05 * extremes[0]


def test_the_candidate_of_least_output_error_is_taken() -> None:
    x = heavy(0)
    rules = (Percentile(60.0), LeastError(1.0), LeastError(2.0), MinMax())
    errors = [output_error(rule, x, x)[0] for rule in rules]
    assert output_error(LeastOutputError(rules), x, x)[0] <= min(errors) < 0.1 * max(errors)


def test_same_batches_give_the_same_ranges() -> None:
    x = heavy(2)
    assert ranges(LeastOutputError(), x) == ranges(LeastOutputError(), x.copy())


def test_one_candidate_is_that_candidate() -> None:
    x = heavy(3)
    for rule in (MinMax(), LeastError(1.5)):
        found = ranges(LeastOutputError((rule,)), x)
        assert found[:-1] == ranges(rule, x)[:-1]
        assert found[-1] == ranges(MinMax(), x)[-1]  # the network's output is not cut off


def test_where_int8_does_not_run_the_first_candidate_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Network):
        @classmethod
        def from_packed(cls, model: PackedModel, *args: Any, **named: Any) -> Network:
            if model.graph is not None and model.graph.ranges:
                raise EngineError("no kernel")
            return Network.from_packed(model, *args, **named)

    monkeypatch.setattr(range_search, "Network", Refusing)
    x = heavy(4)
    assert ranges(LeastOutputError((MinMax(), LeastError(1.0))), x) == ranges(MinMax(), x)


def test_about_so_many_examples_are_run() -> None:
    held = [(np.full((64, 2), k, F32),) for k in range(16)]
    assert [int(batch[0][0, 0]) for batch in range_search.evenly_chosen(held, 256)] == [0, 4, 8, 12]
    assert len(range_search.evenly_chosen(held, 1)) == 1
    assert len(range_search.evenly_chosen(held, 10**6)) == 16
