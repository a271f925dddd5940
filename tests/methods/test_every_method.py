"""Every registered method on a plain, a residual, a depthwise, a recurrent and an attention network.

A method is found by its registry row, so a new one needs no line here. Its settings are its defaults with
schedules that end within six steps. Where those do not fit, the method's own test file has ``QUICK``, a
mapping of its settings: ``tests/methods/test_sparse_vd.py`` for ``laconic/methods/sparse_vd.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from laconic.methods import Method
from laconic.methods.registry import find_method, method_names
from laconic.schedules import WarmUp
from laconic.sparsify.scores import l2_groups
from laconic.testing import check_method
from tests.helpers.five_networks import FIVE
from tests.helpers.method_suite import digits

# Of every method that has such a field: its work is done within an epoch of six steps.
AT_ONCE: dict[str, Any] = {"warm_up": WarmUp(0.0, 0.5), "every": 2, "epochs": 1.0}
# What has no default, or does more than is needed here.
NEEDED: dict[str, dict[str, Any]] = {"score": {"score": l2_groups}, "post-training": {"trials": 2}}


def _own_settings(kind: type) -> Mapping[str, Any]:
    """``QUICK`` of the method's own test file."""
    name = f"tests.methods.test_{kind.__module__.rpartition('.')[2]}"
    if importlib.util.find_spec(name) is None:
        return {}
    return getattr(importlib.import_module(name), "QUICK", {})


def quick(name: str) -> Method:
    """The method with settings by which its work is done within six steps."""
    entry = find_method(name)
    fitting = {field: value for field, value in AT_ONCE.items() if field in entry.fields}
    method: Method = entry.kind(**{**fitting, **NEEDED.get(name, {}), **_own_settings(entry.kind)})
    return method


@pytest.mark.parametrize("network", FIVE)
@pytest.mark.parametrize("name", method_names())
def test_a_method_keeps_its_promises_on_every_kind_of_network(
    name: str, network: str, tmp_path: Path
) -> None:
    small = check_method(quick(name), FIVE[network], tmp_path)
    for tensor in small.tensors.values():
        assert np.isfinite(tensor.values()).all(), tensor.name
    assert all(torch.isfinite(t).all() for t in small.module.state_dict().values() if t.is_floating_point())
    with torch.no_grad():
        assert torch.isfinite(small.module(digits()[0][:64])).all()
