"""Names that are repeated, long or odd: in the file once, in the runtime's model once per reference."""

from __future__ import annotations

import numpy as np

from laconic.pack.graph.ops import make_node as node
from tests.attacks.files import constant, file_of, raw, varint, with_graph


def long_name_read_often() -> bytes:
    """32 kB of name in 30 000 inputs of one concatenation: 62 kB, 4.76 GB."""
    join = node("concat", (0, *(-1,) * 30_000), axis=0)
    return file_of([(1, 1)], [join], [raw("n" * 32_000, np.ones((1, 1)))])


def many_long_names_with_one_path() -> bytes:
    """Paths are written once: 200 tensors whose names share 30 kB."""
    tensors = [constant("p" * 30_000 + f".{k}", 1) for k in range(140)]
    return file_of([(None, 4)], [node("relu", (0,))], tensors)


def names_in_wide_letters() -> bytes:
    """Text with one letter beyond 16 bits takes four bytes a letter in memory."""
    tensors = [constant("p" * 30_000 + "\U0001f600" + f".{k}", 1) for k in range(40)]
    return file_of([(None, 4)], [node("relu", (0,))], tensors)


def names_of_the_runtimes_own_values() -> bytes:
    """Tensors called as the runtime calls its inputs, values and outputs."""
    names = ("input", "input_", "t0", "t1", "v1", "Add/1", "const/1", "Identity/2", "batch")
    tensors = [raw(name, np.ones((4,))) for name in names]
    nodes = [node("add", (k, -1 - k)) for k in range(len(names))]
    return file_of([(None, 4)], nodes, tensors)


def aliases_without_end() -> bytes:
    """30,000 further names of one tensor."""
    names = b"".join(b"\0\0\6a%05d" % k for k in range(30_000))
    head = b"\1" + varint(30_000) + b"\0\0\1w" + names + b"\0" * 30_000
    return with_graph(b"\1\2\0\5\1\x40\0", head + b"\0\0\1\1" + b"\0\0\x80\x3f", b"\0\0\0\x80")


def tensor_without_a_name() -> bytes:
    """In ONNX an empty name is an absent input: the bias would be left out silently."""
    tensors = [raw("w", np.ones((4, 4))), raw("", np.ones(4))]
    return file_of([(None, 4)], [node("linear", (0, -1, -2))], tensors)
