"""Options and defaults of every test run."""

from __future__ import annotations

import os
import tempfile

import pytest

# Set before torch is imported: tests run side by side, so each gets one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a test run measures of this machine is not kept for others.
os.environ.setdefault("LACONIC_CACHE", tempfile.mkdtemp(prefix="laconic-tests-"))

collect_ignore = ["tests/user_package"]  # its modules are imported where it is installed
OPTIONAL = {"network": "fetches from the network", "slow": "takes minutes"}


def pytest_addoption(parser: pytest.Parser) -> None:
    for name, what in OPTIONAL.items():
        parser.addoption(f"--{name}", action="store_true", help=f"also run tests marked {name}: each {what}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for name in OPTIONAL:
        if not config.getoption(f"--{name}"):
            skip = pytest.mark.skip(reason=f"needs --{name}")
            for item in items:
                if item.get_closest_marker(name):
                    item.add_marker(skip)
