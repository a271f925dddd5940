"""A decoded network that runs on NumPy arrays, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from laconic.errors import InputError, at
from laconic.pack.limits import DEFAULT, Limits
from laconic.records import AnyArray, PackedModel, ValueSpec
from laconic.runtime.door import Door
from laconic.runtime.engines import Engine, LayerChoice, OpenVinoNetwork, Options, assemble
from laconic.runtime.precision import Precision, with_precision
from laconic.runtime.reading import read_model

if TYPE_CHECKING:
    from laconic.runtime.isolated import IsolatedNetwork


class Network:
    """A network ready to run: ``network(x) -> y`` on NumPy arrays.

    ``inputs`` are the expected types and shapes (None marks a free dimension), ``outputs`` the number
    of arrays that a call returns, ``nbytes`` the memory of the weights as they are multiplied, ``layers`` how
    each linear layer runs and why (see :func:`load`); in int8, which layers stay float32.
    """

    def __init__(self, model: PackedModel, options: Options | None = None, limits: Limits = DEFAULT) -> None:
        options = options or Options()
        self.engine: Engine = options.engine
        self.inputs: tuple[ValueSpec, ...] = model.graph.inputs if model.graph else ()
        self._limits = limits
        # type and all sizes but the first, where only the first is free
        self._expected = tuple(
            (np.dtype(spec.dtype), spec.shape[1:] if spec.shape[:1] == (None,) else (-1,))
            for spec in self.inputs
        )
        self._openvino = (
            OpenVinoNetwork(model, options.threads, limits) if self.engine == "openvino" else None
        )
        self._assembly = None if self._openvino else assemble(model, options, limits)
        self._door = Door(model, limits)
        self.outputs = len(model.graph.outputs) if model.graph else 0
        self.layers: tuple[LayerChoice, ...] = self._assembly.layers if self._assembly else ()
        self.nbytes = self._assembly.nbytes if self._assembly else _dense_bytes(model)
        self._quick = (
            self._assembly.quick if self._assembly and len(self.inputs) == self.outputs == 1 else None
        )

    @classmethod
    def from_packed(
        cls,
        model: PackedModel,
        threads: int | None = None,
        limits: Limits | None = None,
        *,
        engine: Engine = "auto",
        batch: int = 1,
    ) -> Network:
        """A network from records that were already read (see :func:`load` for a file and the arguments).

        Without ``limits`` they are trusted: they are in memory already.
        """
        return cls(model, Options(engine, threads, batch), limits or Limits.trusted())

    def __call__(self, *arrays: AnyArray) -> AnyArray | tuple[AnyArray, ...]:
        """Run the network; one array, or a tuple when the network has several outputs.

        A batch of nothing gives empty outputs. Raises ``InputError`` naming the input, what was expected and
        what came; ``LimitError`` for a call that takes more memory than ``Limits.call_memory``.
        """
        if self._quick is not None and len(arrays) == 1:
            x = arrays[0]
            if (
                type(x) is np.ndarray
                and (x.shape,) in self._door.known
                and x.dtype == self._expected[0][0]
                and x.flags.c_contiguous
            ):
                return self._quick(x)
        if not self._as_expected(arrays):
            self.check_inputs(*arrays)
        results = self._door.enter([a.shape for a in arrays]) or self._run(
            [a if a.flags.c_contiguous else np.ascontiguousarray(a) for a in arrays]
        )
        return results[0] if self.outputs == 1 else tuple(results)

    def _as_expected(self, arrays: tuple[AnyArray, ...]) -> bool:
        """The quick half of the check: types and shapes as expected, the first axis alone being free."""
        if len(arrays) != len(self._expected):
            return False
        free = None
        for array, (dtype, rest) in zip(arrays, self._expected, strict=True):
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape[1:] != rest:
                return False
            free = array.shape[0] if free is None else free
            if array.shape[0] != free:
                return False
        return True

    def check_inputs(self, *arrays: AnyArray) -> None:
        """Refuse arrays that the network does not take, as a call would (``InputError``)."""
        if len(arrays) != len(self.inputs):
            raise InputError(f"the network takes {len(self.inputs)} inputs, got {len(arrays)}")
        self._check(arrays)

    def describe(self) -> str:
        """How the network runs, in words: the engine, what a call may take, a line for each linear layer."""
        head = f"engine {self.engine}, {self.nbytes} bytes of weights"
        call = (
            f"a call may take {self._limits.call_memory} bytes (Limits.call_memory; call_memory(shape) tells)"
        )
        return "\n".join([head, call, *map(str, self.layers)])

    def call_memory(self, *shapes: tuple[int, ...]) -> int:
        """About how many bytes one call allocates for inputs of these shapes, estimated from above.

        It is what a call is held to: ``Limits.call_memory``. Raises ``InputError`` for sizes that the network
        does not take.
        """
        if [len(shape) for shape in shapes] != [len(spec.shape) for spec in self.inputs]:
            ranks = ", ".join(_shape_text(spec.shape) for spec in self.inputs)
            raise InputError(f"the network takes inputs of shape {ranks}, got {shapes}")
        return self._door.call_memory(shapes)

    def _run(self, arrays: Sequence[AnyArray]) -> list[AnyArray]:
        if self._openvino is not None:
            return self._openvino.run(arrays)
        return self._assembly.run(arrays) if self._assembly is not None else []

    def _check(self, arrays: tuple[AnyArray, ...]) -> None:
        """Type, rank and fixed sizes of each input; one size for all free dimensions together."""
        free: int | None = None
        for k, (spec, array) in enumerate(zip(self.inputs, arrays, strict=True)):
            if not isinstance(array, np.ndarray):
                raise InputError(
                    f"input {k} must be a NumPy array, got {type(array).__name__}. Cure: numpy.asarray"
                )
            if str(array.dtype) != spec.dtype:
                raise InputError(
                    f"input {k} must be {spec.dtype}, got {array.dtype}. Cure: x.astype('{spec.dtype}')"
                )
            sizes = [size for size, dim in zip(array.shape, spec.shape, strict=False) if dim is None]
            free = sizes[0] if sizes and free is None else free
            wanted = tuple(free if dim is None else dim for dim in spec.shape)
            if array.shape != wanted:
                raise InputError(
                    f"input {k} must have shape {_shape_text(spec.shape)}, got {_shape_text(array.shape)}. "
                    f"Cure: {_cure(spec.shape, array.shape)}"
                )


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if d is None else str(d) for d in shape) + ")"


def _cure(expected: tuple[int | None, ...], got: tuple[int, ...]) -> str:
    if len(got) == len(expected) - 1 and expected[:1] == (None,):
        return "add the batch dimension: x[None]"
    if expected.count(None) > 0 and len(got) == len(expected):
        return "give arrays of the sizes the network was captured with, and one size for all free dimensions"
    return "reshape the array, or capture the network again with an example of this shape"


def _dense_bytes(model: PackedModel) -> int:
    return sum(tensor.values().nbytes for tensor in model.tensors)


@overload
def load(
    source: str | os.PathLike[str] | bytes,
    *,
    threads: int | None = None,
    limits: Limits = DEFAULT,
    engine: Engine = "auto",
    batch: int = 1,
    precision: Precision = "auto",
    isolated: Literal[False] = False,
) -> Network: ...


@overload
def load(
    source: str | os.PathLike[str] | bytes,
    *,
    threads: int | None = None,
    limits: Limits = DEFAULT,
    engine: Engine = "auto",
    batch: int = 1,
    precision: Precision = "auto",
    isolated: Literal[True],
) -> IsolatedNetwork: ...


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    threads: int | None = None,
    limits: Limits = DEFAULT,
    engine: Engine = "auto",
    batch: int = 1,
    precision: Precision = "auto",
    isolated: bool = False,
) -> Network | IsolatedNetwork:
    """Read a .lac file (or its bytes) and make it ready to run.

    ``threads`` bounds the cores one call uses; None takes them all. ``limits`` bounds what a file may claim,
    and the memory and work that loading and calling it may take: by default 64 MiB and 16 bytes for each byte
    of the file, and about a second. A small file of a large network needs more: the error tells.
    ``precision``: "auto" runs a calibrated file in int8 and any other in float32, "fp32" ignores the
    activation ranges, "int8" insists on them. ``engine`` says what runs it:

    - ``auto``: ONNX Runtime, but each large linear layer takes the way that is fastest on this machine for
      ``batch`` samples a call: dense, packed to 4 bits, or our kernel for mostly-zero matrices. That is
      measured once and kept in ``~/.cache/laconic`` (or the environment's LACONIC_CACHE). The
      outputs are the network's to float32 rounding.
    - ``fastest``: the same, and activations may be rounded to 8 bits before such a layer (0.5 to 1 % of the
      largest output each).
    - ``onnxruntime``: dense everywhere; ``openvino``: the same in OpenVINO, where that is installed.
    - ``sparse``: our kernel for every linear layer with at least 50 % zeros, unmeasured.

    In int8 all layers are ONNX Runtime's (or OpenVINO's). What was chosen, and why, is in ``Network.layers``.

    ``isolated=True`` runs an untrusted file in a child process (:class:`laconic.runtime.IsolatedNetwork`):
    the checks above bound what our code and the libraries under it are asked for, only a process of its own
    bounds what a fault in those libraries could do. Loading takes about half a second more, a call the time
    that its arrays take over a pipe.

    >>> from laconic.pack import encode
    >>> from laconic.records import Graph, Node, ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 2)),), (Node("relu", (0,)),), (1,))
    >>> with load(encode(PackedModel((), graph)), isolated=True) as network:
    ...     network(np.float32([[-1, 2]]))
    array([[0., 2.]], dtype=float32)

    Raises ``laconic.errors.FileFormatError`` for a wrong file, ``WeightsOnlyError`` for a file
    without a graph, ``InputError`` for int8 without calibration, ``OSError`` when there is no file.
    """
    options = Options(engine, threads, batch)
    if isolated:
        from laconic.runtime.isolated import IsolatedNetwork

        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        asked = {"threads": threads, "engine": engine, "batch": batch, "precision": precision}
        return IsolatedNetwork(data, limits, **asked)
    if isinstance(source, bytes):
        return Network(with_precision(read_model(source, limits), precision), options, limits)
    with at(f"reading {os.fspath(source)!r}"):
        model = read_model(Path(source).read_bytes(), limits)
    return Network(with_precision(model, precision), options, limits)
