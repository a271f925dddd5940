"""Fixtures of the packing tests."""

from __future__ import annotations

import pytest

from laconic.pack.file import choose


@pytest.fixture
def without_mixing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer chooses among codecs 1 and 2, as one without compiled code does with large tensors."""
    monkeypatch.setattr(choose, "is_mixable", lambda *given: False)
