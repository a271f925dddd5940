"""Importing the package and its torch-free rooms imports no torch, and works where there is none."""

from __future__ import annotations

import pytest

import laconic
from tests.helpers.fresh import run_fresh

TORCH_FREE = [
    "laconic",
    "laconic.errors",
    "laconic.records",
    "laconic.pack",
    "laconic.runtime",
    "laconic.tasks",
    "laconic.data",
    "laconic.cost",
    "laconic.costing",
]


@pytest.mark.parametrize("module", TORCH_FREE)
def test_no_torch_is_imported(module: str) -> None:
    assert run_fresh(f"import sys, {module}; print('torch' in sys.modules)") == "False\n"


def test_the_torch_free_rooms_import_where_there_is_no_torch() -> None:
    code = f"import {', '.join(TORCH_FREE)}, laconic.cli; print(laconic.__version__)"
    assert run_fresh(code, without_torch=True) == f"{laconic.__version__}\n"


def test_the_embedded_digits_load_where_there_is_no_torch() -> None:
    code = "from laconic.data import load; print(len(load('digits').test_labels))"
    assert run_fresh(code, without_torch=True) == "360\n"


def test_the_wall_is_a_wall() -> None:
    with pytest.raises(AssertionError, match="the wall: no torch here"):
        run_fresh("import torch", without_torch=True)


def test_a_verb_without_torch_names_the_cure() -> None:
    with pytest.raises(AssertionError, match=r"laconic\.prepare needs torch.*pip install 'laconic\[train\]'"):
        run_fresh("import laconic; laconic.prepare", without_torch=True)


@pytest.mark.parametrize("name", laconic.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(laconic, name) is not None
    assert name in dir(laconic)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prepair'"):
        laconic.prepair  # type: ignore[attr-defined]  # noqa: B018
