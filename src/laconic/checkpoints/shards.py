"""A checkpoint of several safetensors files, which an index beside them names tensor by tensor.

Source: https://huggingface.co/docs/transformers/big_models (sharded checkpoints): ``weight_map`` maps each
tensor's name to its file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from laconic.checkpoints.safetensors import Entry, SafetensorsFile
from laconic.errors import InputError
from laconic.files import AnyPath, read_input
from laconic.records.element_types import ByteArray

_CURE = "Cure: model.safetensors.index.json beside its files, as save_pretrained writes them"


def is_index(path: AnyPath) -> bool:
    """Whether a file is an index of a checkpoint's files, by its ending.

    >>> is_index("model.safetensors.index.json"), is_index("model.safetensors")
    (True, False)
    """
    return os.fspath(path).lower().endswith(".json")


def shard_paths(path: AnyPath) -> dict[str, Path]:
    """By tensor, the file that it stands in; all lie in the folder of the index.

    Raises:
        ReadError: The index cannot be opened.
        InputError: It is no index, or names a file outside its folder.
    """
    text = os.fspath(path)
    try:
        found = json.loads(read_input(path))["weight_map"]
        rows = dict(found.items())
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{text} is no index of a checkpoint: it has no weight_map. {_CURE}") from error
    if not rows:
        raise InputError(f"{text} names no tensor. {_CURE}")
    for name, part in rows.items():
        if not isinstance(part, str) or Path(part).name != part:
            raise InputError(
                f"{text}: tensor {name!r} is to stand in {part!r}, no file of its folder. {_CURE}"
            )
    return {name: Path(text).parent / part for name, part in rows.items()}


class ShardedCheckpoint:
    """The tensors of all files of an index; each is read when it is asked for.

    Args:
        path: The index.

    Raises:
        ReadError: The index, or a file that it names, cannot be opened.
        InputError: It is no index, a file is no safetensors file, or lacks a tensor that the index places in
            it; it names the tensor.
    """

    def __init__(self, path: AnyPath) -> None:
        self._paths = shard_paths(path)
        self._files: dict[Path, SafetensorsFile] = {}
        self.entries: dict[str, Entry] = {}
        self.metadata: Mapping[str, str] = {}
        with ExitStack() as stack:
            for name, part in self._paths.items():
                if part not in self._files:
                    self._files[part] = stack.enter_context(SafetensorsFile(part))
                    self.metadata = self.metadata or self._files[part].metadata
                if name not in self._files[part].entries:
                    raise InputError(f"{os.fspath(path)}: {part.name} holds no tensor {name!r}. {_CURE}")
                self.entries[name] = self._files[part].entries[name]
            self._stack = stack.pop_all()

    def __enter__(self) -> ShardedCheckpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read(self, name: str) -> ByteArray:
        """The bytes of a tensor's elements. Raises ``ReadError`` where they cannot be read."""
        return self._files[self._paths[name]].read(name)
