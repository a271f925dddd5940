"""The normal prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from laconic.errors import InputError


@dataclass(frozen=True)
class Normal:
    """Independent normals with one mean and one standard deviation: a proper prior, KL is a code length.

    >>> Normal(std=0.1).improper
    False
    """

    improper: ClassVar[bool] = False
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise InputError(
                f"a normal prior needs a finite mean and std > 0, got {self.mean} and {self.std}"
            )
