"""What a network was made from, small enough to be kept and sent: its file's bytes, and how to run them."""

from __future__ import annotations

from dataclasses import replace

from laconic.pack.wire.limits import Limits
from laconic.records import PackedModel, Record, record
from laconic.runtime.engines.assembly import Options
from laconic.runtime.int8.precision import Precision, with_precision


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
            model = pack.decode(model, limits=self.limits)
        return with_precision(model, self.precision)

    def sendable(self) -> Origin:
        """The same with bytes."""
        from laconic import pack

        return self if isinstance(self.source, bytes) else replace(self, source=pack.encode(self.source))
