"""A small ONNX graph under construction: names, constants and nodes, as plain records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laconic.errors import CorruptFileError
from laconic.records import ActivationRange, AnyArray, FloatArray, Tensor, ValueSpec, default_name
from laconic.runtime.onnx_model.protos import ONNX_TYPES, OnnxAttr, OnnxNode

_WHOLE = 256  # bytes up to which a constant's bytes are its key; a larger one's key is a digest


class Builder:
    """Collects the nodes and initialisers of one ONNX graph.

    A tensor of the file becomes an initialiser under its own name at its first use, so a tensor
    that no node reads (or that an emitter reads only through :meth:`array`) is not in the ONNX model.
    """

    def __init__(
        self, tensors: tuple[Tensor, ...], inputs: tuple[ValueSpec, ...], results: tuple[str, ...] = ()
    ) -> None:
        self.tensors, self.inputs = tensors, inputs
        self.nodes: list[OnnxNode] = []
        self.initialisers: dict[str, AnyArray] = {}
        self.ranks: dict[str, int] = {}
        self.made: dict[tuple[str | int | bool, ...], tuple[str, ...]] = {}
        """Initialisers and values that emitters derived from tensors, by the emitters' own keys."""
        self._arrays: dict[str, AnyArray] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0
        self._taken = {tensor.name for tensor in tensors}
        count = len(inputs)
        asked = (spec.name or default_name("input", k, count) for k, spec in enumerate(inputs))
        self._input_names = tuple([self._own(name) for name in asked])
        self._result_names = tuple([self._own(name) for name in results])

    def _own(self, name: str) -> str:
        """An unused name: tensors of the file keep their names; inputs are named before outputs."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def input_name(self, index: int) -> str:
        """The name of a graph input: its own, else ``input``, or ``input_0``... when there are several.

        A tensor of the file keeps its name, so an input of the same name gets underscores at its end.
        """
        return self._input_names[index]

    def result(self, index: int, value: str) -> str:
        """An output of the graph under its own name; a value that is two outputs has two names."""
        self.nodes.append(OnnxNode("Identity", (value,), (self._result_names[index],), {}))
        return self._result_names[index]

    def tensor(self, index: int) -> str:
        """The name of a tensor of the file, decoded once."""
        name = self.tensors[index].name
        if not name:
            raise CorruptFileError("the graph reads a tensor that has no name")
        if name not in self._arrays:
            values = self.tensors[index].values()
            self._arrays[name] = values.astype(np.float32) if values.dtype == np.float16 else values
        return name

    def array(self, name: str) -> AnyArray:
        """The values of a tensor of the file, for emitters that rearrange weights."""
        if name not in self._arrays:
            raise CorruptFileError(f"a weight must be a tensor of the file, got the computed value {name!r}")
        return self._arrays[name]

    def rank(self, name: str) -> int | None:
        """Rank of a tensor of the file, or of a value in :attr:`ranks`; else None."""
        return self._arrays[name].ndim if name in self._arrays else self.ranks.get(name)

    def constant(self, array: AnyArray) -> str:
        """The name of an initialiser with these values; equal constants share one."""
        content = array.tobytes() if array.nbytes <= _WHOLE else _digest(array)
        key = (array.dtype.str, array.shape, content)
        if key not in self._constants:
            self._constants[key] = self.fresh("const")
            self.initialisers[self._constants[key]] = array
        return self._constants[key]

    def unshared(self, array: AnyArray) -> str:
        """The name of a new initialiser, even where another one has the same values."""
        name = self.fresh("const")
        self.initialisers[name] = array
        return name

    def ints(self, values: Sequence[int]) -> str:
        """A one-dimensional int64 constant (axes, shapes, pads)."""
        return self.constant(np.asarray(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """A float32 constant of rank 0."""
        return self.constant(np.asarray(value, dtype=np.float32))

    def op(self, kind: str, *inputs: str, **attrs: OnnxAttr) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(kind, 1, *inputs, **attrs)[0]

    def cast(self, name: str, dtype: str) -> str:
        """A value in another element type, by its numpy name."""
        return self.op("Cast", name, to=ONNX_TYPES[dtype])

    def ops(self, kind: str, n_outputs: int, *inputs: str, **attrs: OnnxAttr) -> tuple[str, ...]:
        """Add a node and return the names of its outputs; an empty input name means absent."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        for name in inputs:
            if name in self._arrays:
                self.initialisers.setdefault(name, self._arrays[name])
        outputs = tuple(self.fresh(kind) for _ in range(n_outputs))
        self.nodes.append(OnnxNode(kind, inputs, outputs, attrs))
        return outputs

    def quantised(self, name: str, entry: ActivationRange) -> str:
        """A float32 value as uint8 in its range."""
        return self.op("QuantizeLinear", name, *self._grid(entry))

    def dequantised(self, name: str, entry: ActivationRange) -> str:
        """A uint8 value as float32."""
        return self.op("DequantizeLinear", name, *self._grid(entry))

    def padded(self, integers: str, entry: ActivationRange, pads: Sequence[int]) -> str:
        """Zero padding of a uint8 value: all begins, then all ends; a negative pad removes entries."""
        return self.op("Pad", integers, self.ints(pads), self._grid(entry)[1])

    def rows_of(self, integers: AnyArray, scales: FloatArray, axis: int) -> str:
        """Integers with one scale for each entry of ``axis``, as float32 values.

        Zero points are written out, since some of ONNX Runtime's passes need them. On x86 processors without
        VNNI another pass converts int8 weights to uint8 and derives new names from the old ones. It fails
        where two layers share an initialiser, so each layer has its own.
        """
        zeros = self.unshared(np.zeros(len(scales), integers.dtype))
        held = self.unshared(np.ascontiguousarray(integers))
        return self.op("DequantizeLinear", held, self.constant(scales), zeros, axis=axis)

    def _grid(self, entry: ActivationRange) -> tuple[str, str]:
        """Scale and zero point of a uint8 value: the file's int8 plus 128."""
        zero = np.asarray(entry.zero_point + 128, dtype=np.uint8)
        return self.scalar(entry.scale), self.constant(zero)

    def free_size(self) -> str:
        """The size of the inputs' free dimension (usually the batch), as a vector of one int64."""
        if len({size for spec in self.inputs for size in spec.sizes if isinstance(size, str)}) > 1:
            raise CorruptFileError("the graph reads the free dimension, and its inputs have several")
        for index, spec in enumerate(self.inputs):
            if None in spec.shape:
                axis = spec.shape.index(None)
                return self.op("Shape", self.input_name(index), start=axis, end=axis + 1)
        raise CorruptFileError("the graph reads a free dimension, but its inputs have none")

    def fresh(self, stem: str) -> str:
        """An unused name for a value."""
        # '/' keeps generated names apart from state-dict names such as 'conv1.weight'; a file may have others
        self._count += 1
        while f"{stem}/{self._count}" in self._taken:
            self._count += 1
        return f"{stem}/{self._count}"


def _digest(array: AnyArray) -> bytes:
    from hashlib import sha256  # small networks do not need it

    return sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()
