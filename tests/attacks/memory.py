"""A few bytes that claim much memory: each file must be refused before allocation, or need little.

The default limits allow 64 MiB and 16 bytes for each byte of the file. All memory that the process holds
while it loads the file counts: decoded tensors, tensors derived by emitters, and the runtime's folded, packed
and copied ones.
"""

from __future__ import annotations

import numpy as np

from laconic.pack.graph.ops import make_node as node
from laconic.records import Codebook, IntTensor, Node, RawTensor, UniformGrid
from tests.attacks.files import constant, file_of, raw, varint, with_graph


def recurrent_layers_that_share_weights() -> bytes:
    """60 layers of one LSTM read the same 8 tensors: 385 bytes, 4.06 GB when each layer had its own copy."""
    width = 512
    tensors = [constant(f"w{k}", 4 * width, width) for k in range(2)] + [
        constant(f"b{k}", 4 * width) for k in range(2)
    ]
    lstm = Node("lstm", (0, None, None, *(-1, -2, -3, -4) * 60), {"layers": 60}, 3)
    return file_of([(1, 2, width)], [lstm], tensors, outputs=(1,))


def group_norms_of_distinct_groups() -> bytes:
    """Each needs ones and zeros of its own length: 100 of a million groups held 1.24 GB before any limit."""
    channels = 2**20
    nodes = [node("group_norm", (0,), groups=2**k) for k in range(21)] * 5
    return file_of([(1, channels, 1, 1)], nodes)


def layers_that_share_a_matrix() -> bytes:
    """A thousand linear layers read one matrix; each turned and packed it for itself."""
    nodes = [node("linear", (k, -1)) for k in range(1000)]
    return file_of([(None, 600)], nodes, [constant("w", 600, 600)])


def convolutions_that_share_a_kernel() -> bytes:
    """Kernels are reordered for each convolution, into a copy of their own."""
    nodes = [node("conv", (k, -1), padding=(1,)) for k in range(500)]
    return file_of([(1, 256, 8, 8)], nodes, [constant("w", 256, 256, 3, 3)])


def one_wide_matrix_of_zeros() -> bytes:
    """2^26 zeros are allowed as constants and take 20 bytes of file: 256 MiB, as much again as floats."""
    return file_of([(None, 2**13)], [node("linear", (0, -1))], [constant("w", 2**13, 2**13)])


def one_wide_tensor_that_nothing_reads() -> bytes:
    """It is decoded nevertheless."""
    return file_of([(None, 4)], [node("relu", (0,))], [constant("w", 2**25)])


def convolution_of_a_wide_kernel() -> bytes:
    """Convolutions hold several copies of a kernel."""
    return file_of([(1, 512, 8, 8)], [node("conv", (0, -1))], [constant("w", 1024, 512, 4, 4)])


def sparse_matrix_of_few_bytes() -> bytes:
    """Integers that take almost no bits, although they are not all equal."""
    integers = np.zeros((3000, 3000), np.int32)
    integers[::500, ::500] = 1
    return file_of([(None, 3000)], [node("linear", (0, -1))], [IntTensor("w", integers, UniformGrid(1.0))])


def outer_product_of_constants() -> bytes:
    """Two vectors of 2^14 entries make a matrix of 2^28 while the file is loaded."""
    nodes = [node("einsum", (-1, -2), equation="i,j->ij"), node("mean", (1,), dims=()), node("add", (0, 2))]
    return file_of([(None, 4)], nodes, [constant("a", 2**14), constant("b", 2**14)])


def outer_product_on_the_way() -> bytes:
    """The result is a number, the product on the way to it has 2^28 entries: operands join from the left."""
    equation = "i,j,ij->"
    nodes = [node("einsum", (-1, -2, -3), equation=equation), node("add", (0, 1))]
    return file_of(
        [(None, 4)], nodes, [constant("a", 2**12), constant("b", 2**12), constant("c", 2**12, 2**12)]
    )


def constants_that_double() -> bytes:
    """Each concatenation joins the last with itself: 30 nodes, 2^30 entries."""
    nodes = [node("identity", (-1,))] + [node("concat", (k, k), axis=0) for k in range(1, 31)]
    nodes += [node("mean", (31,), dims=()), node("add", (0, 32))]
    return file_of([(None, 4)], nodes, [raw("w", np.ones(4))])


def constants_that_double_slowly() -> bytes:
    """Copies of 2^20 entries, each within the limits, all held while constants are folded."""
    nodes = [node("tile", (-1,), repeats=(2**8,))]
    nodes += [node("add", (1,), scalar=float(k)) for k in range(1, 100)]
    nodes += [
        node("concat", tuple(range(1, 101)), axis=0),
        node("mean", (101,), dims=()),
        node("add", (0, 102)),
    ]
    return file_of([(None, 4)], nodes, [raw("w", np.ones(2**12))])


def causal_mask_of_a_fixed_length() -> bytes:
    """The mask of 2^14 x 2^14 is a constant where sequences have one length; it is made while loading."""
    return file_of([(1, 1, 2**14, 1)], [node("sdpa", (0, 0, 0), causal=True)])


def causal_masks_of_many_layers() -> bytes:
    """A mask for each of 100 attentions, none of them large."""
    return file_of([(1, 1, 1024, 1)], [node("sdpa", (k, k, k), causal=True) for k in range(100)])


def expand_of_a_constant() -> bytes:
    """One number stretched to 2^26."""
    nodes = [node("expand", (-1,), shape=(2**13, 2**13)), node("mean", (1,), dims=()), node("add", (0, 2))]
    return file_of([(None, 4)], nodes, [raw("w", np.ones((1, 1)))])


def resize_of_a_constant() -> bytes:
    """Four pixels become 2^26."""
    nodes = [node("resize", (-1,), size=(2**13, 2**13)), node("mean", (1,), dims=()), node("add", (0, 2))]
    return file_of([(None, 4)], nodes, [raw("w", np.ones((1, 1, 2, 2)))])


def rows_of_a_table_taken_often() -> bytes:
    """A table of 2^14 columns, its one row taken 2^12 times."""
    nodes = [node("take", (-1, -2)), node("mean", (1,), dims=()), node("add", (0, 2))]
    indices = RawTensor("i", np.zeros(2**12, np.int64))
    return file_of([(None, 4)], nodes, [constant("w", 1, 2**14), indices])


def nodes_without_end() -> bytes:
    """One byte a node, some thousands of bytes of memory each."""
    return with_graph(b"\1\2\0\5" + varint(200_000) + b"\x40" * 200_000 + b"\0")


def inputs_without_end() -> bytes:
    """One or two bytes an input."""
    return file_of([(4,)] * 50_000, [node("relu", (0,))])


def outputs_without_end() -> bytes:
    """One byte an output, and a copy of the value for each."""
    return file_of([(None, 4)], [node("relu", (0,))], outputs=(1,) * 100_000)


def references_without_end() -> bytes:
    """2^18 references to one value, a byte each."""
    return file_of([(1, 1)], [node("concat", (k,) + (0,) * 32_000) for k in range(8)])


def tensors_without_end() -> bytes:
    """30,000 tensors of one entry: records, headers and names for some bytes each."""
    names = b"".join(b"\0\0" + bytes([len(b"%d" % k)]) + b"%d" % k for k in range(30_000))
    headers = b"\5\1\1\x80\x3f\0\2" * 30_000  # order 0, short step: one entry, step 1, value 0, one class
    return with_graph(b"\1\2\0\5\1\x40\0", varint(30_000) + b"\0" + names + headers, b"\0\0\0" + b"\x80")


def int8_layers_with_few_channels() -> bytes:
    """Channels are filled up to 16 and to fours for int8 kernels: 1 x 1 of them become 64."""
    nodes = [node("conv", (0, -1))]
    return file_of([(None, 5, 600, 600)], nodes, [constant("w", 5, 5, 300, 300)], ranges=(0, 1))


def levels_of_a_codebook() -> bytes:
    """Two bytes a level in the file, forty in memory."""
    levels = tuple(float(v) for v in np.unique(np.linspace(-3e38, 3e38, 2**15).astype(np.float32)))
    return file_of(
        [(None, 4)], [node("relu", (0,))], [IntTensor("w", np.zeros(4, np.int32), Codebook(levels))]
    )


def squeeze_of_no_axes() -> bytes:
    """ONNX reads an empty list of axes as all axes of 1: a column became a row, and their sum a square."""
    column = np.arange(12_000, dtype=np.float32).reshape(-1, 1)
    nodes = [
        node("squeeze", (-1,), dims=()),
        node("add", (1, -2)),
        node("add", (2, 0)),
        node("mean", (3,), dims=()),
    ]
    return file_of([(1, 1)], nodes, [raw("a", column), raw("b", column)])
