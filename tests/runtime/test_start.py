"""A fresh process imports what running a file takes and no more; the rest is there when asked for."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import numpy as np
import pytest

from laconic import pack, records, runtime
from laconic.records import Graph, IntTensor, Node, PackedModel, UniformGrid, ValueSpec
from laconic.runtime.engines.workers import Workers
from tests.helpers.fresh import run_fresh

LATER = [
    "laconic.pack.file.choose",
    "laconic.pack.file.inspection",
    "laconic.runtime.calibration.from_batches",
    "laconic.runtime.onnx_model.int8_layers",
    "laconic.runtime.facts.float32_facts",
    "laconic.runtime.emulation",
    "laconic.runtime.kernels",
    "concurrent.futures.thread",
    "json",
    "numpy.random",
    "numpy.typing",
    "onnx",
    "pathlib",
    "torch",
]
LOOK = """
import sys
import numpy as np
from laconic.runtime import load
y = load(bytes.fromhex({data!r}))(np.ones((1, 3), np.float32))
print(y.tolist(), sorted(set({later!r}) & set(sys.modules)))
"""


def a_file() -> bytes:
    weight = IntTensor("fc.weight", np.array([[1, 0, 2], [0, -1, 0]], np.int32), UniformGrid(0.5))
    graph = Graph((ValueSpec("float32", (None, 3)),), (Node("linear", (0, -1)),), (1,))
    return pack.encode(PackedModel((weight,), graph))


def test_a_prediction_imports_no_more_than_it_needs() -> None:
    assert run_fresh(LOOK.format(data=a_file().hex(), later=LATER)) == "[[1.5, -0.5]] []\n"


def test_the_look_would_see_a_module() -> None:
    said = run_fresh("import laconic.pack.file.choose" + LOOK.format(data=a_file().hex(), later=LATER))
    assert said == "[[1.5, -0.5]] ['laconic.pack.file.choose']\n"


@pytest.mark.parametrize("module", ["laconic.pack", "laconic.runtime"])
def test_every_public_name_is_there_in_a_fresh_process(module: str) -> None:
    names = importlib.import_module(module).__all__
    assert (
        run_fresh(f"import {module} as m; print(all(getattr(m, n) is not None for n in {names!r}))")
        == "True\n"
    )


def test_calibrate_is_the_function_whatever_is_imported_when() -> None:
    code = (
        "import laconic.runtime.calibration.from_batches, laconic.runtime as r; print(callable(r.calibrate))"
    )
    assert run_fresh(code) == "True\n"


@pytest.mark.parametrize("module", [pack, records, runtime])
def test_an_unknown_name_is_an_attribute_error(module: Any) -> None:
    with pytest.raises(AttributeError, match="no attribute 'decoed'"):
        module.decoed  # noqa: B018


def test_workers_start_with_the_first_work() -> None:
    before, done = threading.active_count(), threading.Event()
    workers = Workers(1)
    assert threading.active_count() == before
    workers.submit(done.set).result(timeout=30)
    assert done.is_set()
    assert threading.active_count() == before + 1
