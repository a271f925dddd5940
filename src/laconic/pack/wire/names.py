"""The names section: state-dict names, each module path written once (FORMAT.md, "Names")."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from laconic.errors import CorruptFileError, InputError
from laconic.records.limits import DEFAULT, Limits
from laconic.varint import Reader, Writer

# Closed table: token k >= 1 stands for these names of one module, in this order. Append, never change.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("weight",),
    ("weight", "bias"),
    ("bias",),
    ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    ("weight", "bias", "running_mean", "running_var"),
    ("running_mean", "running_var", "num_batches_tracked"),
    ("running_mean", "running_var"),
    ("running_mean",),
    ("running_var",),
    ("num_batches_tracked",),
    ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"),
    ("weight_ih_l0", "weight_hh_l0"),
    ("weight_ih_l1", "weight_hh_l1", "bias_ih_l1", "bias_hh_l1"),
    ("weight_ih_l0_reverse", "weight_hh_l0_reverse", "bias_ih_l0_reverse", "bias_hh_l0_reverse"),
    ("in_proj_weight", "in_proj_bias"),
    ("in_proj_weight",),
)


def _split(name: str) -> tuple[str, str]:
    """Module path and last part; a name without a path is all last part."""
    path, dot, last = name.rpartition(".")
    return (path, last) if path and dot else ("", name)


def _joined(path: str, last: str) -> str:
    return f"{path}.{last}" if path else last


def _token(names: Sequence[str], path: str) -> int:
    """The token of the longest group of the table that matches the next names; 0 when none does."""
    fits = [
        k + 1
        for k, group in enumerate(GROUPS)
        if list(names[: len(group)]) == [_joined(path, last) for last in group]
    ]
    return max(fits, key=lambda token: len(GROUPS[token - 1]), default=0)


def put_names(out: Writer, names: Sequence[str]) -> None:
    """Groups of a front-coded module path and a token (or the name's last part in full)."""
    before, at = b"", 0
    while at < len(names):
        path, last = _split(names[at])
        token = _token(names[at:], path)
        text = _utf8(path)
        shared = sum(1 for _ in takewhile(lambda ab: ab[0] == ab[1], zip(before, text, strict=False)))
        _put_lengths(out, shared, len(text) - shared)
        out.raw(text[shared:])
        out.byte(token)
        if token == 0:
            out.block(_utf8(last))
        before = text
        at += len(GROUPS[token - 1]) if token else 1


def get_names(source: Reader, n: int, limits: Limits = DEFAULT) -> tuple[str, ...]:
    """The inverse of :func:`put_names` for ``n`` names; they must be unique."""
    names: list[str] = []
    before, total = b"", 0
    while len(names) < n:
        shared, fresh = _get_lengths(source)
        if shared > len(before):
            raise CorruptFileError(f"names: a path shares {shared} bytes with one of {len(before)}")
        before = before[:shared] + source.raw(fresh)
        path, token = _text(before), source.byte()
        if token > len(GROUPS):
            raise CorruptFileError(f"names: no group has token {token}")
        lasts = GROUPS[token - 1] if token else (_text(source.block("letters")),)
        total += len(before) * len(lasts) + sum(map(len, lasts))
        limits.check("bytes of names", total, limits.name_bytes)
        names += [_joined(path, last) for last in lasts]
    if len(names) != n or len(set(names)) != n:
        raise CorruptFileError("names: wrong number of names, or a name twice")
    return tuple(names)


def _put_lengths(out: Writer, shared: int, fresh: int) -> None:
    """Two lengths in one byte; a nibble of 15 says that the rest follows as a varint."""
    out.byte(min(shared, 15) << 4 | min(fresh, 15))
    for value in (shared, fresh):
        if value >= 15:
            out.varint(value - 15)


def _get_lengths(source: Reader) -> tuple[int, int]:
    head = source.byte()
    shared = head >> 4 if head >> 4 < 15 else 15 + source.varint()
    fresh = head & 15 if head & 15 < 15 else 15 + source.varint()
    return shared, fresh


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"the tensor name {text!r} is not valid Unicode text. Cure: rename it, without lone surrogates"
        ) from None


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CorruptFileError("names: a name is not UTF-8") from None
