"""The exceptions of the library.

An error is raised with a short fact where it is found; the public functions add the stage, the layer and the
usual cure by :func:`at`. All classes derive from
:class:`LaconicError`, so ``except laconic.errors.LaconicError`` catches what the library
itself refuses and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class LaconicError(Exception):
    """Base of all errors that the library raises on purpose."""


# --- what the caller handed in ------------------------------------------------------------


class ModelError(LaconicError):
    """The network cannot be used: NaN weights, no parameters, prepared or converted twice."""


class NotPreparedError(ModelError):
    """A function that needs a prepared network was given a plain one."""


class InputError(LaconicError, ValueError):
    """An argument, an example input or a setting is wrong (shape, range, type)."""


class DataError(LaconicError):
    """A data set or loader is wrong: empty, labels out of range, a wrong checksum."""


class DownloadError(DataError):
    """A data set is in no cache and could not be fetched."""


class ScaleError(InputError):
    """The ELBO's scale is wrong (data size, batch size or KL weight)."""


class NoKLRuleError(LaconicError, NotImplementedError):
    """No rule is registered for KL(posterior type || prior type)."""


class CaptureError(LaconicError):
    """The graph of a network cannot be captured; its weights can still be packed alone."""


# --- what happened while working ------------------------------------------------------------


class NonFiniteError(LaconicError, ArithmeticError):
    """A NaN or an infinity appeared during training; the message names the layer."""


class RunFolderError(LaconicError):
    """A run folder is in use, unfinished, or belongs to other settings."""


class ReadError(InputError, OSError):
    """A file that cannot be read: it is not there, or may not be opened."""


class WriteError(LaconicError, OSError):
    """A file could not be written (disk full, no permission); the old file still stands."""


class EngineError(LaconicError):
    """An engine does not run a network whose file is right: names the engine, its option, the processor."""


class IsolatedError(LaconicError):
    """The child process of an isolated network ended, took too long, or sent an invalid answer."""


# --- what is wrong with a .lac file ---------------------------------------------------------


class FileFormatError(LaconicError):
    """Base of every way in which a .lac file can be wrong."""


class NotALaconicFileError(FileFormatError):
    """The magic bytes are missing."""


class UnsupportedVersionError(FileFormatError):
    """The file was written by a format version that this library does not know."""


class TruncatedFileError(FileFormatError):
    """The file ends before its declared content does."""


class ChecksumError(FileFormatError):
    """Stored and computed checksums differ: the file was damaged."""


class CorruptFileError(FileFormatError):
    """A field holds an invalid value (a code, an order or a count that no writer produces)."""


class LimitError(FileFormatError):
    """A section claims more elements or bytes than its content or the caller's limit allows."""


class WeightsOnlyError(LaconicError):
    """The file holds weights without a graph: it can be restored into a module, not run."""


class RestoreError(LaconicError):
    """The file's tensors do not fit the module they are to be restored into."""


@contextmanager
def at(place: str, cure: str = "") -> Iterator[None]:
    """Add the place (stage, layer, field) and the usual cure to a library error on its way out.

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
        if cure and "Cure:" not in text:
            text = f"{text.rstrip('.')}. Cure: {cure}"
        raise type(error)(text) from error
