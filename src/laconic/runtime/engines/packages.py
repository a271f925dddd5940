"""The packages that running a network takes, where they are not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from laconic.errors import EngineError

RUNNERS = ("onnx", "onnxruntime")


@contextmanager
def runners_needed() -> Iterator[None]:
    """Say what to install when a network is to be run and ONNX or ONNX Runtime is not there.

    Raises ``EngineError``, which names the package and what goes without it.

    >>> from laconic.errors import EngineError
    >>> try:
    ...     with runners_needed():
    ...         raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
    ... except EngineError as error:
    ...     print(str(error).partition(":")[0])
    running a network takes the package onnxruntime, which is not installed
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in RUNNERS:
            raise
        raise EngineError(
            f"running a network takes the package {package}, which is not installed: there may be none for "
            "this platform (musl Linux, Macs with Intel's processors). Cure: pip install it where it has a "
            "wheel; laconic.pack.read gives a file's tensors without"
        ) from error
