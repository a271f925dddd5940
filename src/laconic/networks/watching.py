"""Observe a network: every call of a torch function, with its arguments and its result.

The only use of :class:`torch.overrides.TorchFunctionMode` in the library; callers hand in functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Call:
    """One call of a torch function.

    Args:
        function: The function, method or a property's getter.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        result: What it returned; None before it ran.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any = None

    @property
    def name(self) -> str:
        """The function's plain name; for a property's getter, the property's."""
        name = str(getattr(self.function, "__name__", self.function))
        return str(self.function.__self__.__name__) if name == "__get__" else name  # type: ignore[attr-defined]

    @property
    def looks_at_values(self) -> bool:
        """Whether it does more than ask tensors for their form (shape, type, device)."""
        return self.name not in _FORM

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or by name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments, in order."""
        return [t for t in tree_leaves((self.args, dict(self.kwargs))) if isinstance(t, Tensor)]

    def results(self) -> list[Tensor]:
        """All tensors among the results, in order."""
        return [t for t in tree_leaves(self.result) if isinstance(t, Tensor)]


_FORM = frozenset(
    (
        *("shape", "dim", "size", "ndim", "numel", "stride", "is_contiguous", "layout", "__len__"),
        *("dtype", "device", "is_floating_point", "is_complex", "is_cuda", "is_sparse", "requires_grad"),
    )
)


def _ignored(call: Call) -> None:
    """The default: do nothing."""


class Watching(TorchFunctionMode):
    """Within the block, every call of a torch function is passed to the functions that are handed in.

    Args:
        before: Called with each call before it runs, which may write into its arguments.
        after: Called with each call and its result.
        instead: By torch function, what runs in its place: from the call to its result.

    >>> import torch
    >>> seen, x = [], torch.ones(2)
    >>> with Watching(after=lambda call: seen.append((call.name, call.result))):
    ...     _ = x.sum()
    >>> seen
    [('sum', tensor(2.))]
    """

    def __init__(
        self,
        before: Callable[[Call], None] = _ignored,
        after: Callable[[Call], None] = _ignored,
        instead: Mapping[Any, Callable[[Call], Any]] | None = None,
    ) -> None:
        super().__init__()
        self._before, self._after, self._instead = before, after, instead or {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Pass on the call, run it, pass on its result."""
        kwargs = kwargs or {}
        self._before(Call(func, args, kwargs))
        if func in self._instead:
            return self._instead[func](Call(func, args, kwargs))
        result = func(*args, **kwargs)
        self._after(Call(func, args, kwargs, result))
        return result
