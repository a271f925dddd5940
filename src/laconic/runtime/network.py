"""A decoded network that runs on NumPy arrays, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from laconic.errors import InputError, at
from laconic.records import AnyArray, Graph, PackedModel, ValueSpec
from laconic.records.limits import DEFAULT, Limits
from laconic.runtime.calls.door import Door
from laconic.runtime.calls.forks import never_clean_up, watch
from laconic.runtime.calls.named import in_order, returned
from laconic.runtime.engines.assembly import engine_of
from laconic.runtime.engines.choice import LayerChoice
from laconic.runtime.graph.sizes import claims_of
from laconic.runtime.origin import Engine, Options, Origin
from laconic.runtime.precision import Precision, with_precision
from laconic.runtime.reading import bytes_of, read_model

if TYPE_CHECKING:
    from laconic.runtime.isolation.isolated_network import IsolatedNetwork


class Network:
    """A network ready to run: ``network(x) -> y`` on NumPy arrays, or ``network(name=x)``.

    It can be copied, pickled (as its file's bytes and its options) and used after a fork; the copy, or the
    child at its first call, builds the network anew, which takes as long as a load.

    Args:
        model: The records, with a graph.
        options: How to run it; the defaults of :func:`load` without.
        limits: What loading and calling it may take.

    Attributes:
        inputs: Name, type and shape of each input in order; None marks a free dimension, ``axes`` names them.
        outputs: Number of arrays that a call returns.
        output_names: Their names.
        keyed: Whether a call returns a dictionary of these names.
        nbytes: Bytes of the weights in the form that is multiplied.
        layers: How each linear layer runs and why; in int8, which layers stay float32.
        notes: Which arithmetic runs and why, and what an engine refused.

    Raises:
        WeightsOnlyError: Without a graph.
        CorruptFileError: For a graph that contradicts its tensors.
        LimitError: For a graph that claims more than the limits allow.
        EngineError: Where no engine runs it here.

    >>> from laconic.records import Node
    >>> graph = Graph((ValueSpec("float32", (None, 2)),), (Node("relu", (0,)),), (1,))
    >>> network = Network(PackedModel((), graph))
    >>> network(np.float32([[-1, 2]]))
    array([[0., 2.]], dtype=float32)
    """

    def __init__(self, model: PackedModel, options: Options | None = None, limits: Limits = DEFAULT) -> None:
        options = options or Options()
        self._origin = Origin(model, "auto", options, limits)
        self._forked = False
        self.engine: Engine = options.engine
        graph = model.graph or Graph((), (), ())
        named = zip(graph.inputs, graph.input_names, strict=True)
        self.inputs: tuple[ValueSpec, ...] = tuple([replace(spec, name=name) for spec, name in named])
        self.output_names: tuple[str, ...] = graph.result_names
        self.keyed = graph.keyed
        self._limits = limits
        # type and all sizes but the first, where only the first is free
        self._expected = tuple(
            (np.dtype(spec.dtype), spec.shape[1:] if spec.shape[:1] == (None,) else (-1,))
            for spec in self.inputs
        )
        claimed = claims_of(model, limits)
        self._openvino, self._assembly, self.notes = engine_of(model, options, claimed)
        self.outputs = len(graph.outputs)
        self.layers: tuple[LayerChoice, ...] = self._assembly.layers if self._assembly else ()
        runs = self._openvino or self._assembly
        self.nbytes = runs.nbytes if runs is not None else 0
        self._quick = (
            self._assembly.quick
            if self._assembly and len(self.inputs) == self.outputs == 1 and not self.keyed
            else None
        )
        self._door = Door(graph, claimed, limits)
        watch(self)

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

    def __call__(
        self, *arrays: AnyArray, **named: AnyArray
    ) -> AnyArray | tuple[AnyArray, ...] | dict[str, AnyArray]:
        """Run the network; inputs in order, or by their names.

        It returns what the module returned: one array, a tuple of several, or, for a module that returns a
        dictionary (or a dataclass), a dictionary of arrays.

        A batch of nothing gives empty outputs. Raises ``InputError`` naming the input, what was expected and
        what came; ``LimitError`` for a call that takes more memory than ``Limits.call_memory``.
        """
        if named:
            arrays = self.in_order(arrays, named)
        if self._quick is not None and len(arrays) == 1:
            x = arrays[0]
            if (
                type(x) is np.ndarray
                and (x.shape,) in self._door.known
                and x.dtype == self._expected[0][0]
                and x.flags.c_contiguous
            ):
                return self._quick(x)
        return self.returned(self.run(arrays))

    def run(self, arrays: tuple[AnyArray, ...]) -> list[AnyArray]:
        """The outputs for inputs in order, as a list in order, whatever the module returns."""
        return self.enter(arrays) or self._run(
            [a if a.flags.c_contiguous else np.ascontiguousarray(a) for a in arrays]
        )

    def enter(self, arrays: tuple[AnyArray, ...]) -> list[AnyArray] | None:
        """None when a call may run; its outputs when they are empty. Raises as a call does."""
        if not self._as_expected(arrays):
            self.check_inputs(*arrays)
        return self._door.enter([a.shape for a in arrays])

    def in_order(self, arrays: Sequence[AnyArray], named: Mapping[str, AnyArray]) -> tuple[AnyArray, ...]:
        """The inputs in the network's order (see :func:`laconic.runtime.calls.named.in_order`)."""
        return in_order([spec.name for spec in self.inputs], arrays, named)

    def returned(self, results: Sequence[AnyArray]) -> AnyArray | tuple[AnyArray, ...] | dict[str, AnyArray]:
        """The outputs as the module returned them: alone, as a tuple, or by their names."""
        return returned(self.output_names if self.keyed else (), results)

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
        from laconic.runtime.input_checks import check

        check(self.inputs, arrays)

    def __repr__(self) -> str:
        from laconic.runtime.input_checks import shape_text

        inputs = ", ".join(f"{spec.name}: {spec.dtype} {shape_text(spec)}" for spec in self.inputs)
        arithmetic = self._assembly.precision if self._assembly else self._origin.precision
        return (
            f"<{type(self).__name__} ({inputs}) -> {self.outputs} output{'s' * (self.outputs != 1)}, "
            f"{arithmetic}, engine {self.engine}, {self.nbytes} bytes of weights>"
        )

    def describe(self) -> str:
        """How the network runs, in words: the engine, what a call may take, a line for each linear layer."""
        first = f"engine {self.engine}, {self.nbytes} bytes of weights"
        call = (
            f"a call may take {self._limits.call_memory} bytes (Limits.call_memory; call_memory(shape) tells)"
        )
        return "\n".join([first, call, *self.notes, *map(str, self.layers)])

    def after_fork(self) -> None:
        """In a forked child the engine's threads are gone: the next call builds the network anew."""
        if self._openvino is None and self._origin.options.threads == 1:
            return  # there were none
        never_clean_up((self._openvino, self._assembly))
        self._forked, self._quick = True, None

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_origin, (type(self), self._origin.sendable())

    def call_memory(self, *shapes: tuple[int, ...]) -> int:
        """About how many bytes one call allocates for inputs of these shapes, estimated from above.

        It is what a call is held to: ``Limits.call_memory``. Raises ``InputError`` for sizes that the network
        does not take.
        """
        if [len(shape) for shape in shapes] != [len(spec.shape) for spec in self.inputs]:
            from laconic.runtime.input_checks import shape_text

            ranks = ", ".join(shape_text(spec) for spec in self.inputs)
            raise InputError(
                f"the network takes inputs of shape {ranks}, got {shapes}. Cure: one shape for each input, "
                "with a size for each axis"
            )
        return self._door.call_memory(shapes)

    def _run(self, arrays: Sequence[AnyArray]) -> list[AnyArray]:
        if self._forked:
            self.__dict__.update(_from_origin(type(self), self._origin).__dict__)
        if self._openvino is not None:
            return self._openvino.run(arrays)
        return self._assembly.run(arrays) if self._assembly is not None else []


def _from_origin(kind: type[Network], origin: Origin) -> Network:
    network = kind(origin.model(), origin.options, origin.limits)
    network._origin = origin
    return network


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

    Args:
        source: A path, or the file's bytes.
        threads: The most cores that reading the file and a call take; None for all.
        limits: What the file may claim, and the memory and work that loading and calling it may take: by
            default 64 MiB and 16 bytes for each byte of the file, and about a second. A small file of a large
            network needs more: the error says how much.
        engine: What runs it (below).
        batch: Samples of a usual call, for which layers are measured.
        precision: "auto" runs a calibrated file in int8, or in float32 where that is faster on this machine
            (measured and kept as below); "fp32" ignores the activation ranges; "int8" requires them.
        isolated: Whether the file runs in a child process (:class:`laconic.runtime.IsolatedNetwork`), as
            untrusted files should: limits bound what our code and libraries are asked for, only a process of
            its own bounds what a fault in those libraries can do. Loading takes half a second more, a call
            the time that its arrays take over a pipe.

    Returns:
        The network; with ``isolated`` one of the same methods in a child process.

    Raises:
        FileFormatError: For a wrong file.
        WeightsOnlyError: For a file without a graph.
        InputError: For int8 without calibration, or an option that is out of range.
        LimitError: For a file that needs more than the limits allow.
        EngineError: For a network that no engine runs here (ONNX Runtime is not installed, say).
        ReadError: Where there is no file.

    The engines:

    - ``auto``: ONNX Runtime, but each large linear layer takes the implementation that is fastest on this
      machine for ``batch`` samples a call: dense, packed to 4 bits, or our kernel for mostly-zero matrices.
      That is measured once and kept in ``~/.cache/laconic`` (or the environment's LACONIC_CACHE). The
      outputs are the network's to float32 rounding.
    - ``fastest``: the same, and activations may be rounded to 8 bits before such a layer (0.5 to 1 % of the
      largest output each).
    - ``onnxruntime``: dense everywhere; ``openvino``: the same in OpenVINO, where that is installed.
    - ``sparse``: our kernel for every linear layer with at least 50 % zeros, unmeasured.

    In int8 all layers run in ONNX Runtime (or OpenVINO). ``Network.layers`` and ``Network.notes`` say what
    was chosen, and why.

    >>> from laconic.pack import encode
    >>> from laconic.records import Graph, Node, ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 2)),), (Node("relu", (0,)),), (1,))
    >>> with load(encode(PackedModel((), graph)), isolated=True) as network:
    ...     network(np.float32([[-1, 2]]))
    array([[0., 2.]], dtype=float32)
    """
    options = Options(engine, threads, batch, faster=precision == "auto")
    if isolated:
        from laconic.runtime.isolation.isolated_network import IsolatedNetwork

        data = bytes_of(source)
        count = None if threads is None else int(threads)
        asked = {"threads": count, "engine": engine, "batch": batch, "precision": precision}
        return IsolatedNetwork(data, limits, **asked)
    data = bytes_of(source)
    if isinstance(source, bytes):
        model = read_model(data, limits, threads)
    else:
        with at(f"reading {os.fspath(source)!r}"):
            model = read_model(data, limits, threads)
    network = Network(with_precision(model, precision), options, limits)
    network._origin = Origin(data, precision, options, limits)
    return network
