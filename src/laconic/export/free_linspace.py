"""``torch.linspace`` over a free size: PyTorch's own requires an int and would fix the axis."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_REAL = (None, torch.float32, torch.float64, torch.float16, torch.bfloat16)


class FreeLinspace(TorchFunctionMode):
    r"""While it is entered, n numbers from a to b are :math:`a + k (b - a) / \max(n - 1, 1)`, k = 0 .. n - 1.

    That holds for a number n that a trace leaves free; all other calls go to PyTorch.

    >>> with FreeLinspace():
    ...     torch.linspace(0, 1, 3).tolist()
    [0.0, 0.5, 1.0]
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace the call where its number of steps is a free size."""
        kwargs = kwargs or {}
        if func is torch.linspace and kwargs.get("dtype") in _REAL and "out" not in kwargs:
            given = dict(zip(("start", "end", "steps"), args, strict=False)) | kwargs
            if isinstance(given.get("steps"), torch.SymInt):
                return _linspace(**given)
        return func(*args, **kwargs)


def _linspace(start: Any, end: Any, steps: Any, dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
    places = torch.arange(steps, dtype=dtype or torch.get_default_dtype())
    gaps = torch.sym_max(steps - 1, 1)  # type: ignore[no-untyped-call]
    spread: torch.Tensor = start + places * ((end - start) / gaps)
    return spread
