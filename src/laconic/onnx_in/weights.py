r"""Which initialisers of an ONNX graph are weights, and the grids that they are rounded to.

Weights are what layers multiply: read by a convolution, a product, a table look-up or a recurrence,
directly or through operators that move entries. Everything else (biases, norms, masks) stays exact.

All weights share one relative step, :math:`\Delta_t = c \cdot \mathrm{rms}(w_t)`. Rounding minimises

.. math:: (w - q \Delta)^2 + \tfrac{\Delta^2}{6} R(q)

with the code length R(q) in nats, which is what an entropy-coded uniform quantiser trades at high rate (Gish
& Pierce, Asymptotically efficient quantizing, 1968; Chou, Lookabaugh & Gray, Entropy-constrained vector
quantization, 1989).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real

import numpy as np

from laconic.errors import InputError
from laconic.onnx_in.messages import Call, Model, Stored
from laconic.patterns import matching
from laconic.quantize.rate_distortion import RateDistortion, quantize
from laconic.quantize.rate_model import rate_bits
from laconic.quantize.uniform import bfloat16
from laconic.records import AnyArray, IntArray, IntTensor, UniformGrid, WeightStats
from laconic.runtime.onnx_model.kept import FLOATS

FEWEST = 64
"""Entries of the smallest weight that is rounded."""

READ: Mapping[str, tuple[int, ...]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "Gather": (0,),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
    "FusedConv": (1,),
    "FusedGemm": (0, 1),
    "FusedMatMul": (0, 1),
    "Attention": (1,),
    "EmbedLayerNormalization": (2, 3, 4),
}
"""Operators, and which of their inputs are weights."""
FLOAT_BYTES = {kind: 2 if name == "bfloat16" else np.dtype(name).itemsize for kind, name in FLOATS.items()}
"""Bytes of an entry, by ONNX' numbers of the floating types."""
MOVES = ("Transpose", "Reshape", "Identity", "Cast", "Unsqueeze", "Squeeze")
"""Operators that move entries: a weight is followed through them to its initialiser."""
_SAMPLE = 2**16  # entries of a weight from which the bits at a step are estimated
_TRIALS = 14


@dataclass(frozen=True)
class Grids:
    """How weights are rounded: to a mean number of bits, or to multiples of one step.

    Args:
        bits: Mean bits of a weight in the file, by its entropy, in 0.05..16; steps are shares of each
            weight's root mean square, one share for all.
        step: The step of every grid, in the weights' unit, in place of ``bits``.

    Raises:
        InputError: Both or neither, or a number that is not in its bounds.

    >>> Grids(bits=4.0).step is None
    True
    """

    bits: float | None = None
    step: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("bits", self.bits), ("step", self.step)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise InputError(f"{name} must be a number, got {value!r}. Cure: bits=4, or step=0.01")
        if (self.bits is None) == (self.step is None):
            raise InputError("either bits or a step is needed. Cure: bits=4, or step=0.01")
        if self.bits is not None and not 0.05 <= self.bits <= 16:
            raise InputError(f"bits must be in 0.05..16, got {self.bits}. Cure: bits=4")
        if self.step is not None and not (self.step > 0 and math.isfinite(self.step)):
            raise InputError(f"step must be > 0 and finite, got {self.step}. Cure: step=0.01")


def weight_names(model: Model, keep: Iterable[str] = ()) -> tuple[str, ...]:
    """The initialisers that are rounded, in the file's order.

    Args:
        model: The model.
        keep: Initialisers that stay exact: names, layers, or patterns with ``*``.

    Returns:
        Their names.

    Raises:
        InputError: A name in ``keep`` that no initialiser has.
    """
    kept = matching(keep, model.stored, "initialiser")
    made = {name: call for call in model.calls for name in call.outputs if call.kind in MOVES}
    read = {
        _source(call.inputs[k], made)
        for call in model.calls
        for k in READ.get(call.kind, ())
        if k < len(call.inputs)
    }
    return tuple(
        name
        for name, tensor in model.stored.items()
        if name in read
        and name not in kept
        and not name.startswith("@")
        and tensor.kind in FLOATS
        and len(tensor.shape) >= 2
        and math.prod(tensor.shape) >= FEWEST
    )


def unread_bytes(model: Model, chosen: Iterable[str], keep: Iterable[str] = ()) -> int:
    """Bytes of matrices that no layer reads directly, for instance slices of a recurrence's weights.

    Args:
        model: The model.
        chosen: The initialisers that are rounded.
        keep: Initialisers that were asked to stay exact.

    Returns:
        Bytes of all others of two or more dimensions, and of such constants of nodes.
    """
    named = {*chosen, *matching(keep, model.stored, "initialiser")}
    left = [tensor for name, tensor in model.stored.items() if name not in named]
    left += [value for call in model.calls for value in call.attrs.values() if isinstance(value, Stored)]
    sizes = [
        math.prod(tensor.shape) * FLOAT_BYTES[tensor.kind]
        for tensor in left
        if tensor.kind in FLOAT_BYTES and len(tensor.shape) >= 2 and math.prod(tensor.shape) >= FEWEST
    ]
    return sum(sizes)


def _source(name: str, made: Mapping[str, Call]) -> str:
    """The value that is moved into this one."""
    for _ in range(len(made) + 1):
        call = made.get(name)
        if call is None or not call.inputs:
            break
        name = call.inputs[0]
    return name


def rounded(weights: Mapping[str, AnyArray], grids: Grids) -> dict[str, IntTensor]:
    """Weights on their grids.

    Args:
        weights: Finite arrays of two or more dimensions by name.
        grids: How they are rounded.

    Returns:
        Integers and steps by name; a step is a bfloat16.

    Raises:
        InputError: A weight that holds NaN or infinity, or a step that is too small or too large for it.

    >>> w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    >>> found = rounded({"w": w}, Grids(bits=3.0))["w"]
    >>> abs(rate_bits(found.integers) / w.size - 3.0) < 0.1
    True
    """
    for name, values in weights.items():
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise InputError(
                f"initialiser {name!r} holds {bad} NaN or infinite values. "
                f"Cure: a sound model, or keep={name!r}"
            )
    sizes = {name: _root_mean_square(values) for name, values in weights.items()}
    share = 1.0 if grids.bits is None else _share(weights, sizes, grids.bits)
    found = {
        name: _on_grid(name, values, grids.step or share * sizes[name]) for name, values in weights.items()
    }
    for name, tensor in found.items():
        if grids.step and weights[name].any() and not tensor.integers.any():
            raise InputError(
                f"initialiser {name!r}: step {grids.step:g} rounds all of its weights to zero, of which the "
                f"largest is {np.abs(weights[name]).max():g}. Cure: a smaller step, or keep={name!r}"
            )
    return found


def _root_mean_square(values: AnyArray) -> float:
    """At least the smallest number that is no grid's least step."""
    return max(float(np.sqrt(np.square(values, dtype=np.float64).mean())), 1e-30)


def _share(weights: Mapping[str, AnyArray], sizes: Mapping[str, float], bits: float) -> float:
    """The relative step at which the weights take so many bits in the mean, by bisection of its logarithm."""
    samples = {name: _sample(values) for name, values in weights.items()}
    low, high = math.log(2.0**-14), math.log(2.0**5)
    for _ in range(_TRIALS):
        middle = (low + high) / 2
        spent = sum(
            rate_bits(_integers(values, bfloat16(math.exp(middle) * sizes[name])))
            / values.size
            * weights[name].size
            for name, values in samples.items()
        )
        if spent > bits * sum(values.size for values in weights.values()):
            low = middle
        else:
            high = middle
    return math.exp(high)


def _sample(values: AnyArray) -> AnyArray:
    """Rows of a weight, evenly spread, about ``_SAMPLE`` entries of them."""
    matrix = values.reshape(len(values), -1) if len(values) > 1 else values.reshape(values.shape[1], -1)
    every = max(1, values.size // _SAMPLE)
    return matrix[:: min(every, max(1, len(matrix) // 8))]


def _on_grid(name: str, values: AnyArray, step: float) -> IntTensor:
    exact = bfloat16(step)
    largest = float(np.abs(values).max(initial=0.0))
    if largest / exact >= 2**30:
        raise InputError(
            f"initialiser {name!r}: step {step:g} is too small for values up to {largest:g}. "
            "Cure: a larger step"
        )
    return IntTensor(name, _integers(values, exact), UniformGrid(exact))


def _integers(values: AnyArray, step: float) -> IntArray:
    scaled = (np.asarray(values, np.float64) / step).astype(np.float32)
    if np.abs(scaled).max(initial=0.0) > 2**12:  # the table of prices would be too long
        return np.rint(scaled).astype(np.int32)
    stats = WeightStats("", scaled, np.full(scaled.shape, 1 / 12, np.float32))
    return quantize(stats, np.ones(scaled.shape, bool), 1.0, RateDistortion(price=1.0, iterations=3))
