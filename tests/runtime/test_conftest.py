"""Fixtures of the runtime need no torch to be imported: under an emulator that takes a minute."""

from __future__ import annotations

from tests.helpers.fresh import run_fresh


def test_fixtures_import_no_torch() -> None:
    said = run_fresh("import sys; import tests.runtime.conftest; print('torch' in sys.modules)")
    assert said.strip() == "False"
