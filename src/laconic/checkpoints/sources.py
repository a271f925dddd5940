"""Where a checkpoint's tensors come from: a safetensors file, several with an index, or arrays in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np

from laconic.checkpoints.safetensors import Entry, SafetensorsFile, check_text
from laconic.checkpoints.shards import ShardedCheckpoint, is_index, shard_paths
from laconic.errors import InputError, at
from laconic.files import AnyPath
from laconic.records import AnyArray
from laconic.records.element_types import ByteArray, bytes_of, element_type


class Source(Protocol):
    """A checkpoint whose tensors are read one at a time."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Shape and type of each tensor."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """Texts beside the tensors."""
        ...

    def read(self, name: str) -> ByteArray:
        """The bytes of a tensor's elements."""
        ...


class _Arrays(NamedTuple):
    """Arrays in memory."""

    arrays: Mapping[str, AnyArray]
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]

    def read(self, name: str) -> ByteArray:
        """The bytes of a tensor's elements."""
        return bytes_of(self.arrays[name])


@contextmanager
def opened(source: AnyPath | Mapping[str, AnyArray]) -> Iterator[Source]:
    """A checkpoint, by its path or its arrays. Raises ``InputError`` for what is no checkpoint."""
    if isinstance(source, Mapping):
        yield _Arrays(source, {name: _entry(name, array) for name, array in source.items()}, {})
        return
    with ShardedCheckpoint(source) if is_index(source) else SafetensorsFile(source) as file:
        yield file


def files_of(source: AnyPath) -> set[AnyPath]:
    """The files of a checkpoint: itself, and those that it names."""
    return {source, *(shard_paths(source).values() if is_index(source) else ())}


def _entry(name: object, array: object) -> Entry:
    if not isinstance(name, str):
        raise InputError(f"a tensor is called {name!r:.200}, which is no text. Cure: names that are texts")
    check_text(name, "the name of a tensor")
    with at(f"tensor {name!r}"):
        if not isinstance(array, np.ndarray | np.generic):
            kind = f"{type(array).__module__}.{type(array).__qualname__}"
            cure = "laconic.pack_checkpoint reads what safetensors.torch.save_file(state, path) writes"
            if not kind.startswith("torch."):
                cure = "a NumPy array, as numpy.asarray makes one"
            raise InputError(f"it is a {kind.removeprefix('builtins.')}, no NumPy array. Cure: {cure}")
        return Entry(array.shape, element_type(array.dtype.name).name, 0, array.nbytes)
