"""All exceptions that the library raises.

Messages are built at two levels. Internal code raises a short message where it finds the fault; public
functions add the stage, the layer and the usual cure with :func:`at`. All classes derive from
:class:`LaconicError`, so ``except laconic.errors.LaconicError`` catches the library's own errors and nothing
else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

_ANOTHER_COPY = "another copy of the file, or write it again with laconic.save or laconic compress"


class LaconicError(Exception):
    """Base of all errors that the library raises on purpose.

    ``cure`` is what :func:`at` adds to a message that names none.
    """

    cure: ClassVar[str] = ""


# --- arguments of the caller --------------------------------------------------------------


class ModelError(LaconicError):
    """The network cannot be used: NaN weights, no parameters, prepared or converted twice."""


class NotPreparedError(ModelError):
    """A function that needs a prepared network was called with a plain one."""


class InputError(LaconicError, ValueError):
    """An argument, an example input or a setting is wrong (shape, range, type)."""


class DataError(LaconicError):
    """A data set or loader is wrong: empty, labels out of range, a wrong checksum."""


class DownloadError(DataError):
    """A data set is not cached and could not be downloaded."""


class ScaleError(InputError):
    """The ELBO's scale is wrong (data size, batch size or KL weight)."""


class NoKLRuleError(LaconicError, NotImplementedError):
    """No rule is registered for KL(posterior type || prior type)."""


class CaptureError(LaconicError):
    """The graph of a network cannot be captured; a file of weights alone is still possible."""


# --- faults while running -------------------------------------------------------------------


class NonFiniteError(LaconicError, ArithmeticError):
    """A NaN or an infinity appeared during training; the message names the layer."""


class RunFolderError(LaconicError):
    """A run folder is in use, unfinished, or belongs to other settings."""


class ReadError(InputError, OSError):
    """A file cannot be read: it does not exist, or opening it is not permitted."""


class WriteError(LaconicError, OSError):
    """A file could not be written (disk full, no permission); an existing file is unchanged."""


class EngineError(LaconicError):
    """An engine cannot run a network of a valid file: names the engine, its option, the processor."""


class IsolatedError(LaconicError):
    """The child process of an isolated network ended, took too long, or sent an invalid reply."""


# --- faults of a .lac file ------------------------------------------------------------------


class FileFormatError(LaconicError):
    """Base of all faults of a .lac file."""


class NotALaconicFileError(FileFormatError):
    """The magic bytes are missing."""


class UnsupportedVersionError(FileFormatError):
    """The file was written by a format version that this library does not know."""


class TruncatedFileError(FileFormatError):
    """The file ends before its declared content does."""

    cure = _ANOTHER_COPY


class ChecksumError(FileFormatError):
    """Stored and computed checksums differ: the file was damaged."""

    cure = _ANOTHER_COPY


class CorruptFileError(FileFormatError):
    """A field holds an invalid value (a code, an order or a count that no writer produces)."""

    cure = _ANOTHER_COPY


class LimitError(FileFormatError):
    """A section claims more elements or bytes than its content or the caller's limit allows."""


class WeightsOnlyError(LaconicError):
    """The file holds weights without a graph: it can be restored into a module, not run."""


class RestoreError(LaconicError):
    """The file's tensors do not fit the module that they are restored into."""


def uncured(error: Exception) -> str:
    """An error's message without its cure, for what knows a better one or is read from a damaged file.

    >>> uncured(InputError("step is 0. Cure: step=0.01"))
    'step is 0'
    """
    return str(error).partition(". Cure:")[0]


@contextmanager
def at(place: str, cure: str = "") -> Iterator[None]:
    """Add the place (stage, layer, field) and the usual cure to a library error that leaves the block.

    The usual cure is ``cure``, or without one that of the error's class.

    The error keeps its class, so callers can still tell kinds apart.

    >>> from laconic.errors import at, InputError
    >>> with at("packing layer 'fc1'", "retrain it"):
    ...     raise InputError("step is 0")
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: packing layer 'fc1': step is 0. Cure: retrain it
    """
    try:
        yield
    except LaconicError as error:
        text = f"{place}: {error}"
        usual = cure or error.cure
        if usual and "Cure:" not in text:
            text = f"{text.rstrip('.')}. Cure: {usual}"
        raise type(error)(text) from error
