"""What a network was made from, small enough to be kept and sent: its file's bytes, and how to run them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from laconic.errors import InputError
from laconic.records import PackedModel, Record, record
from laconic.records.limits import Limits
from laconic.runtime.precision import Precision, with_precision

Engine = Literal["auto", "fastest", "onnxruntime", "sparse", "openvino"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


@record
class Options(Record):
    """How a network is to be run.

    Args:
        engine: What runs it, as :func:`laconic.runtime.load` explains.
        threads: The most cores that reading the file and a call take; None for all.
        batch: Samples of a usual call.
        faster: Whether a network that can run in int8 runs in float32 where that was measured to be faster.

    Raises:
        InputError: For an unknown engine, or a count below 1.
    """

    engine: Engine = "auto"
    threads: int | None = None
    batch: int = 1
    faster: bool = False

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(
                f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}. Cure: engine='auto'"
            )
        if self.threads is not None and self.threads < 1:
            raise InputError(
                f"threads must be at least 1 (or None for one per core), got {self.threads}. Cure: threads=1"
            )
        if self.batch < 1:
            raise InputError(f"batch must be at least 1, got {self.batch}. Cure: batch=1")


@record
class Origin(Record):
    """A file's bytes (or its records, which are encoded when they are sent) and the arguments of ``load``."""

    source: bytes | PackedModel
    precision: Precision
    options: Options
    limits: Limits

    def model(self) -> PackedModel:
        """The records, in the precision that was asked for."""
        from laconic import pack

        model = self.source
        if isinstance(model, bytes):
            model = pack.decode(model, limits=self.limits, threads=self.options.threads)
        return with_precision(model, self.precision)

    def sendable(self) -> Origin:
        """The same with bytes."""
        from laconic import pack

        return self if isinstance(self.source, bytes) else replace(self, source=pack.encode(self.source))
