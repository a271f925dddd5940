"""Error messages for networks that cannot be captured: a cure per operation, and PyTorch's trace errors."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

import torch
from torch.nn.utils.rnn import PackedSequence

_ALONE = "pack the weights alone and load them with laconic.restore"
_FIXED_SIZE = "keep the size fixed and mark entries with torch.where"
_CURES: tuple[tuple[str, str], ...] = (
    (r"_?fft|stft", "a linear layer or conv1d whose weights are the transform's cosines and sines"),
    (r"view_as_|complex|real$|imag$", "keep real and imaginary parts in tensors of their own"),
    (r"_?linalg|inverse|lu_|cholesky|svd|qr$", "compute it outside of the network, or in closed form"),
    (r"_?unique|nonzero|masked_select|bincount|histc", f"its size depends on the data; {_FIXED_SIZE}"),
    (r"cumprod|cummax|cummin|logcumsumexp", "torch.cumsum (for products, of logarithms)"),
    (r"_?pdist", "torch.cdist(x, x)"),
    (r"as_strided", "Tensor.unfold, slices or reshape"),
    (r"embedding_renorm", "rescale the rows once after training and set max_norm=None"),
    (r"_?embedding_bag", "nn.Embedding of a matrix of indices, then sum, mean or amax over dimension 1"),
    (r"max_pool\d?d_with_indices|max_unpool", "nn.Upsample or nn.ConvTranspose2d in place of unpooling"),
    (r"rand|normal|bernoulli|multinomial", "draw only in training, or take the noise as an input"),
)  # fmt: skip
_PACKED = (
    "pad the batch, run the layer over the padded batch, and take each sequence's last output by "
    "torch.gather at its length - 1 (the same outputs for one direction; for two, run a reversed copy)"
)


def cure_for(operation: str) -> str:
    """The cure for an operation that has no rule: what to use in its place.

    >>> cure_for("pdist")
    'Cure: torch.cdist(x, x), or pack the weights alone and load them with laconic.restore'
    """
    found = next((cure for pattern, cure in _CURES if re.match(pattern, operation)), None)
    return f"Cure: {found or 'rewrite it with covered operations'}, or {_ALONE}"


def untraceable(network: str, error: Exception) -> str:
    """Why PyTorch cannot trace a network, where in its code, and what to do."""
    frames = list(_frames(error))
    place = _place(frames)
    if any(isinstance(value, PackedSequence) for frame in frames for value in frame.f_locals.values()):
        return f"{network} packs sequences{place}, which has no rule. Cure: {_PACKED}; or {_ALONE}"
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if "data-dependent" in text.lower() or "DataDependent" in kind or "Unbacked" in kind:
        return (
            f"{network} takes a different path for different values{place} "
            f"(data-dependent control flow). Cure: {_ALONE}, or rewrite the branch with torch.where"
        )
    return f"PyTorch cannot trace {network}{place} ({kind}: {_first_sentence(text)}). Cure: {_ALONE}"


_MARKED = re.compile(r"You marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)")
_EQUAL = re.compile(r"The values of (\w+) = \S+ and (\w+) = \S+ must always be equal")
_GUARD = re.compile(r"Not all values of (\w+) = .*? satisfy the generated guard (.+)")
_SIZE = re.compile(r"L\['\w+'\]\[\d+\]\.size\(\)\[\d+\]")
_ITEM = re.compile(r"^  - ", re.MULTILINE)


def cannot_be_free(error: Exception, places: Mapping[str, str]) -> str | None:
    """The message for free axes that the network fixes, with a cure; None for an error of another kind.

    ``places``: for each named axis, the input and the dimension.

    >>> said = "You marked t as dynamic but your code specialized it to be a constant (7). If you're using .."
    >>> error = ValueError(f"Constraints violated (t)!\\n  - {said}\\nSuggested fixes:\\n  t = 7")
    >>> cannot_be_free(error, {"t": "axis 1 of 'x', 7 in the example"}).split(":")[0]
    "'t' (axis 1 of 'x', 7 in the example) cannot be free"
    """
    head, *items = _ITEM.split(str(error).partition("Suggested fixes")[0])
    if not places or not items or "onstraint" not in head:
        return None
    told = dict.fromkeys(_one_axis(" ".join(item.split()), places) for item in items)
    return "; ".join(told)


def _one_axis(said: str, places: Mapping[str, str]) -> str:
    """PyTorch's message about one axis, with the user's names."""
    fixed, equal, guard = _MARKED.search(said), _EQUAL.search(said), _GUARD.search(said)
    if fixed:
        name, size = fixed.groups()
        return (
            f"{_named(name, places)} cannot be free: the network works at the size {size} alone, because of "
            "a layer, a reshape or a table of that width, a Python loop over the axis, or int() or len() "
            f"of it. Cure: leave {name!r} out of dynamic, or write that part for any size"
        )
    if equal:
        both = " and ".join(_named(name, places) for name in equal.groups())
        return f"{both} must be equal in every call. Cure: give both axes one name in dynamic"
    if guard:
        name, condition = guard.groups()
        where = _SIZE.sub(name, condition).rstrip(". ")
        return (
            f"{_named(name, places)} cannot be free: the network works only where {where}. "
            f"Cure: leave {name!r} out of dynamic, or write that part for any size"
        )
    return f"{_first_sentence(said)}. Cure: leave that axis out of dynamic, or give equal axes one name"


def _named(name: str, places: Mapping[str, str]) -> str:
    return f"{name!r} ({places.get(name, 'an axis')})"


def _frames(error: BaseException | None) -> Iterator[FrameType]:
    """The frames of an error and of the errors that caused it; the innermost last."""
    while error is not None:
        yield from (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        error = error.__cause__ or error.__context__


def _place(frames: list[FrameType]) -> str:
    """File and line of the innermost ``forward`` that is neither in PyTorch nor in laconic."""
    libraries = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")
    for frame in reversed(frames):
        file, name = Path(frame.f_code.co_filename), frame.f_code.co_name
        if not (str(file).startswith(libraries) or "sympy" in file.parts or name == "<module>"):
            return f" at {file.name}:{frame.f_lineno} in {name}"
    return ""


def _first_sentence(text: str) -> str:
    """The message of an error up to PyTorch's advice on its own tools."""
    return re.split(r"(?<=[.!]) (?:For more information|Suggested|The following|To fix)", text)[0][:200]
