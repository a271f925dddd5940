"""Packs a checkpoint tensor by tensor: at no time are two of its tensors in memory."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from numbers import Real
from typing import NamedTuple

from laconic.checkpoints.forms import Form, Rate, exact, in_16_bits, is_quantised, quantised
from laconic.checkpoints.increments import FROM_PARENT, against
from laconic.checkpoints.sources import Source, files_of, opened
from laconic.errors import InputError, at
from laconic.files import AnyPath, check_out
from laconic.pack import TensorFile, writing
from laconic.pack import open as open_file
from laconic.pack.file.streaming import FileWriter
from laconic.pack.wire.notes import Notes, Parent
from laconic.patterns import matching
from laconic.progress import steps
from laconic.records import AnyArray
from laconic.records.element_types import ByteArray
from laconic.text import counted

_TRIES = 5
_LEAST_BITS, _MOST_BITS = 0.02, 64.0  # of a weight on a grid, and of one that may be exact
_VECTOR_BYTES = 24  # of overhead of a tensor that is kept
_TABLE_BYTES = 40  # of a header with its table
_MARGIN = 0.999  # of the bytes that are left: sampled entropies are not exact


@dataclass(frozen=True)
class TensorReport:
    """What became of a tensor.

    Attributes:
        name: Its name.
        weights: Its elements.
        form: How it is stored, in words.
        bytes: In the file.
        error: Root mean square of its errors over that of its values; 0 where it is exact.

    >>> TensorReport("w", 100, "3.50 bits, one step", 44, 0.1).bytes
    44
    """

    name: str
    weights: int
    form: str
    bytes: int
    error: float


@dataclass(frozen=True)
class CheckpointReport:
    """What became of a checkpoint.

    Attributes:
        bytes: Of the file.
        original_bytes: Of all tensors.
        tensors: Each that is stored, in the file's order.
        aliases: Names of tensors that are equal to another, with the other's name.
        notes: What a user should know of the file: that readers refuse it who do not trust it, or that it
            shares nothing with its parent.

    >>> row = TensorReport("w", 100, "3.50 bits, one step", 44, 0.1)
    >>> CheckpointReport(60, 400, (row,), {}).bits_per_weight
    4.8
    """

    bytes: int
    original_bytes: int
    tensors: tuple[TensorReport, ...]
    aliases: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """Elements of all stored tensors."""
        return sum(row.weights for row in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits of the whole file for each element."""
        return 8 * self.bytes / max(1, self.weights)


def pack_checkpoint(
    source: AnyPath | Mapping[str, AnyArray],
    out: AnyPath,
    *,
    bits: float | None = None,
    step: float | None = None,
    max_bytes: int | None = None,
    max_bits: float | None = None,
    lossless: bool = False,
    keep: str | Sequence[str] = (),
    parent: AnyPath | TensorFile | None = None,
    threads: int | None = None,
) -> CheckpointReport:
    """Pack a checkpoint of any architecture, tensor by tensor, without data.

    Floating matrices (float32, float16, bfloat16, float64; two dimensions or more) become integers on uniform
    grids; float32 vectors become float16 where that rounds them by 2^-11 at most; all else is kept bit for
    bit. Equal tensors are stored once.

    Args:
        source: A safetensors file, the index of several (``model.safetensors.index.json``), or a mapping from
            names to NumPy arrays.
        out: The .lac file; an existing one is replaced.
        bits: Entropy-coded bits a weight of each matrix.
        step: Instead: the step of each matrix in units of its root mean square.
        max_bytes: Instead: bytes of the whole file, spread evenly over the matrices' weights.
        max_bits: Instead: bits of the whole file for each weight.
        lossless: Instead: keep every tensor bit for bit.
        keep: Names, layers, or patterns with ``*``, of tensors (one, or several) that are kept bit for bit.
        parent: A .lac file of an earlier state: only what differs is stored, and reading needs that file.
        threads: Threads that code a tensor's chunks; None: one per processor.

    Returns:
        Sizes and errors of the file and of each tensor.

    Raises:
        ReadError: The checkpoint cannot be opened.
        InputError: It is no safetensors file, the output is the checkpoint or the parent, no rate or more
            than one is given, a name in ``keep`` matches nothing, or the target cannot be met; then the
            message says the smallest file.
        WriteError: The file cannot be written; an existing one is unchanged.

    Example:
        >>> import tempfile, numpy as np
        >>> from laconic.pack import open
        >>> w = np.random.default_rng(0).normal(size=(64, 128)).astype(np.float16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = pack_checkpoint({"w": w, "b": w[0]}, f"{folder}/w.lac", bits=3.0)
        ...     back = open(f"{folder}/w.lac")
        ...     print(report.bytes < w.nbytes / 4, back["w"].dtype, (back["b"] == w[0]).all())
        True float16 True
    """
    one_of = {"bits": bits, "step": step, "max_bytes": max_bytes, "max_bits": max_bits}
    _check_rate(one_of, lossless)
    if not isinstance(source, Mapping):
        for needed in files_of(source):
            check_out(out, needed, "the checkpoint")
    with opened(source) as checkpoint:
        old = parent if isinstance(parent, TensorFile) or parent is None else open_file(parent)
        if old is not None:
            for each in old.lineage():
                check_out(out, each, "the parent")
        names = (keep,) if isinstance(keep, str) else keep
        job = _Job(checkpoint, matching(names, checkpoint.entries, "tensor"), old, lossless)
        if max_bytes is None and max_bits is None:
            with writing(out, threads=threads) as file:
                report = job.run(file, Rate(bits, step), None)
        else:
            limit = max_bytes if max_bytes is not None else math.floor((max_bits or 0) * job.weights / 8)
            report = _within(job, out, limit, threads)
        return replace(report, notes=_notes(report, out, old))


def _notes(report: CheckpointReport, out: AnyPath, parent: TensorFile | None) -> tuple[str, ...]:
    """What a user should know of a file that was written."""
    notes = []
    if parent is not None:
        shared = sum(row.form in FROM_PARENT for row in report.tensors)
        needed = f"reading needs the parent {parent.path} as well, {os.path.getsize(parent.path)} bytes"
        nothing = (
            f"no tensor is stored as what differs from the parent, and {needed}. "
            "Cure: no parent, or the file that this checkpoint was trained from"
        )
        notes.append(needed if shared else nothing)
    beyond = open_file(out, parent=parent, check=False).beyond_limits()
    if beyond:
        name, why = next(iter(beyond.items()))
        notes.append(
            f"readers who do not trust the file refuse {counted(len(beyond), 'tensor')}, the first {name!r}: "
            f"{why.partition('. Cure:')[0]}. It is read with "
            "laconic.pack.open(path, limits=laconic.pack.Limits.trusted()), or laconic unpack --trusted"
        )
    return tuple(notes)


def _within(job: _Job, out: AnyPath, limit: int, threads: int | None) -> CheckpointReport:
    """A file of at most so many bytes; one that is longer is not written, but made again from fewer."""
    budget = float(limit)
    for _ in range(_TRIES):
        try:
            with writing(out, threads=threads) as file:
                report = job.run(file, Rate(), budget)
                if report.bytes > limit:
                    raise _TooLong
                return report
        except _TooLong:
            budget -= report.bytes - limit + limit / 1000
    raise InputError(
        f"the file cannot be at most {limit} bytes: the shortest that was tried has {report.bytes}. "
        f"Cure: {report.bytes} bytes, or fewer tensors that are kept"
    )


class _TooLong(Exception):
    """The file is longer than the target; it is not written."""


def _check_rate(one_of: Mapping[str, float | None], lossless: bool) -> None:
    given = [name for name, value in one_of.items() if value is not None] + ["lossless"] * lossless
    if len(given) != 1:
        said = ", ".join(given) or "none"
        raise InputError(
            f"one rate must be given, got {said}. Cure: bits, step, max_bytes, max_bits, or lossless=True"
        )
    for name, value in one_of.items():
        if value is None:
            continue
        number = isinstance(value, Real) and not isinstance(value, bool) and 0 < value < math.inf
        if not number or (name == "max_bytes" and value != int(value)):
            whole = " and whole" if name == "max_bytes" else ""
            raise InputError(f"{name} is {value!r}. Cure: a finite{whole} number above 0")


class _Job:
    """A checkpoint, and how it is to be packed."""

    def __init__(
        self, source: Source, kept: frozenset[str], parent: TensorFile | None, lossless: bool
    ) -> None:
        self._source, self._kept, self._parent, self._lossless = source, kept, parent, lossless
        entries = source.entries
        self._order = sorted(entries, key=lambda name: (entries[name].begin, name))
        self.weights = sum(math.prod(entry.shape) for entry in entries.values())
        self._digest = None if parent is None else parent.digest()

    def run(self, file: FileWriter, rate: Rate, budget: float | None) -> CheckpointReport:
        """Append all tensors; ``budget``: bytes of the whole file, in place of a rate."""
        file.notes = self._notes()
        rows: list[TensorReport] = []
        seen: dict[bytes, TensorReport] = {}
        left = _Left(self._claims(), budget)
        with steps("packing", total=len(self._order)) as advance:
            for name in self._order:
                advance(name)
                entry = self._source.entries[name]
                on_grid, reserved = self._on_grid(name), self._reserve(name)
                weights = self._size(name) if on_grid else 0
                data = self._source.read(name)
                head = f"{entry.shape} {entry.type} {on_grid} ".encode()
                key = sha256(head + sha256(data.data).digest()).digest()
                if key in seen and (seen[key].error == 0 or not self._is_exact(name)):
                    file.aliases[name] = seen[key].name
                    left.take(weights, reserved, 0)
                    continue
                own = Rate(left.bits()) if budget is not None and on_grid else rate
                with at(f"tensor {name!r}"):
                    form = self._form(name, data, own)
                    del data
                    taken = file.add(form.tensor)
                left.take(weights, reserved, taken)
                seen[key] = TensorReport(name, self._size(name), form.words, taken, form.error)
                rows.append(seen[key])
        original = sum(entry.end - entry.begin for entry in self._source.entries.values())
        return CheckpointReport(file.size(), original, tuple(rows), dict(file.aliases))

    def _is_exact(self, name: str) -> bool:
        """Whether a tensor must be kept bit for bit."""
        return self._lossless or name in self._kept

    def _on_grid(self, name: str) -> bool:
        entry = self._source.entries[name]
        return not self._is_exact(name) and is_quantised(entry.shape, entry.type)

    def _form(self, name: str, data: ByteArray, rate: Rate) -> Form:
        entry = self._source.entries[name]
        if self._on_grid(name):
            form = quantised(name, data, entry.shape, entry.type, rate)
        elif self._is_exact(name):
            form = exact(name, data, entry.shape, entry.type)
        else:
            form = in_16_bits(name, data, entry.shape, entry.type)
        return form if self._parent is None else against(self._parent, form, data, entry.shape, entry.type)

    def _notes(self) -> Notes:
        metadata = tuple(sorted(self._source.metadata.items()))
        if self._parent is None or self._digest is None:
            return Notes(None, metadata)
        return Notes(Parent(self._digest, os.path.basename(self._parent.path)), metadata)

    def _claims(self) -> _Claims:
        """What the tensors on grids and all others take before any is written."""
        names = 64 + sum(len(name.encode()) + 4 for name in self._order)
        on_grid = sum(self._size(name) for name in self._order if self._on_grid(name))
        return _Claims(on_grid, names + sum(map(self._reserve, self._order)))

    def _size(self, name: str) -> int:
        return math.prod(self._source.entries[name].shape)

    def _reserve(self, name: str) -> int:
        """Bytes that a tensor takes besides those of weights on a grid, at most."""
        entry = self._source.entries[name]
        if self._on_grid(name):
            return _TABLE_BYTES
        rounded = entry.type == "float32" and len(entry.shape) < 2 and name not in self._kept
        return (entry.end - entry.begin) // (2 if rounded else 1) + _VECTOR_BYTES


class _Claims(NamedTuple):
    """Weights on grids, and bytes of all else."""

    weights: int
    others: float


class _Left:
    """What is left of a budget while tensors are written."""

    def __init__(self, claims: _Claims, budget: float | None) -> None:
        self._weights, self._others = claims
        self._bytes = math.inf if budget is None else budget

    def bits(self) -> float:
        """Bits for each weight on a grid that is still to come."""
        bits = 8 * _MARGIN * (self._bytes - self._others) / max(1, self._weights)
        return max(_LEAST_BITS, min(_MOST_BITS, bits))

    def take(self, weights: int, reserved: int, taken: int) -> None:
        """A tensor was written: its weights on a grid, what was reserved for it, its bytes."""
        self._bytes -= taken
        self._others -= reserved
        self._weights -= weights
