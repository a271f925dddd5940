"""Cures in a command's words: options where the library's messages name arguments of Python. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from laconic.errors import LaconicError

Words = Sequence[tuple[str, str]]
"""Pairs of a regular expression and of the text that replaces it in a message."""

COMPRESS: Words = (
    (r"Target\(max_drop=[^)]*\)", "--target 0.3"),
    (r"Target\(max_bytes=(\d+)\)", r"--target \1B"),
    (r"Target\(max_bytes=[^)]*\)", "--target 5kB"),
    (r"Target\(max_kl=([\d.e+-]*\d)\)", r"--target \1nats"),
    (r"Target\(max_kl=[^)]*\)", "--target 0.01nats"),
    (
        r"validate=batches with labels",
        "a --calibrate function that returns (inputs, labelled validation batches)",
    ),
    (
        r"fewer names in keep, a wider select, or weights=\[names\] for what is to count as a weight",
        "fewer --keep",
    ),
    (r"fewer names in keep, or inputs=True", "fewer --keep, or --set inputs=true"),
    (r"keep=\[names\]", "--keep NAME"),
    (r"keep=\['([^']*)'\]", r"--keep \1"),
    (r"dynamic=\{'?([^'{]*?)'?: \{(\w+): '(\w+)'\}\}", r"--dynamic \1=\2:\3"),
    (r"x\.float\(\), scaled", "array.astype('float32'), scaled"),
    (r"\bdynamic (names|must)", r"--dynamic \1"),
    (r"the task's (target|ignore)=", r"--set task.\1="),
    (r"metric_name='(\w+)'", r"--set task.metric_name=\1"),
    (r"accelerator='cpu'", "--set fit.accelerator=cpu"),
    (r"laconic\.save\(\.\.\., calibrate=batches\)", "--int8"),
    (r"rewind_to=None", "no rewind_to"),
)
"""Words of the messages that a compression may end with."""

CALIBRATING: Words = ((r"--resume --out \S+ to go on with it, or name", "name"), *COMPRESS)
"""The same without training, which keeps nothing to go on with."""

READING: Words = (
    (
        r"limits=laconic\.pack\.Limits\((?:memory|work)=\d+\), or Limits\.trusted\(\); --trusted[^.;]*",
        "--trusted",
    ),
    (r"limits=laconic\.pack\.Limits\(call_memory=\d+\)", "--trusted"),
    (r"laconic\.export_onnx\(path, 'model\.onnx'\)", "laconic export MODEL.lac model.onnx"),
    (
        (
            r"Cure: fill a module of the same architecture with laconic\.restore\(path, into=module\), "
            r"or laconic\.unpack_checkpoint\(path, 'model\.safetensors'\)"
        ),
        "Cure: laconic unpack MODEL.lac --out model.safetensors, or laconic.restore(path, into=module)",
    ),
)
"""Words of the messages of the commands that read a file."""


def translated(text: str, words: Words = COMPRESS) -> str:
    """A message with options where it names arguments.

    Args:
        text: The message.
        words: What is replaced.

    Returns:
        The message in the command's words.

    >>> translated("no target was given. Cure: Target(max_drop=...), or longer training")
    'no target was given. Cure: --target 0.3, or longer training'
    """
    for said, option in words:
        text = re.sub(said, option, text)
    return text


@contextmanager
def in_options(words: Words = COMPRESS) -> Iterator[None]:
    """Errors within the block carry their messages in the command's words."""
    try:
        yield
    except LaconicError as error:
        told = translated(str(error), words)
        if told != str(error):
            error.args = (told, *error.args[1:])
        raise
