"""Rules for ONNX' recurrent layers, whose gates stand in another order than in our own.

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html and onnx__GRU.html. Gates are i, o, f, c and z, r, h
there; our own are PyTorch's, i, f, g, o and r, z, n.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laconic.errors import CaptureError
from laconic.onnx_in.conversion import Conversion, Known, Rule, Value
from laconic.onnx_in.messages import Call
from laconic.onnx_in.rules_layers import text, whole
from laconic.records import AnyArray, IntTensor

_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
"""Our gates, as numbers of ONNX' gates."""
_REFUSED = ("activations", "activation_alpha", "activation_beta", "clip")


def _recurrent(made: Conversion, call: Call) -> Sequence[Known]:
    _check(made, call)
    both = text(call, "direction", "forward") == "bidirectional"
    order, x = _ORDER[call.kind], made.value(call, 0)
    biases = made.constant(call, 3)
    tensors: list[Value] = []
    for direction in range(1 + both):
        tensors += [_weight(made, call, index, direction, order) for index in (1, 2)]
        if biases is not None:
            for half, of in zip(np.split(biases[direction], 2), "ih", strict=True):
                name = f"{call.inputs[3]}.{of}h.{direction}"
                tensors.append(made.raw(_reordered(half, order), name))
    states = [None if made.given(call, k) is None else made.value(call, k) for k in (5, 6)]
    found = made.emit_all(
        call.kind.lower(),
        x,
        *(states if call.kind == "LSTM" else states[:1]),
        *tensors,
        bidirectional=both,
        time_major=True,
        no_bias=biases is None,
    )
    hidden = found[0].shapes[0][-1] // (1 + both)
    apart = made.emit("reshape", found[0], shape=(0, 0, 1 + both, hidden))
    return (made.emit("permute", apart, perm=(0, 2, 1, 3)), *found[1:])


def _check(made: Conversion, call: Call) -> None:
    refused = [name for name in _REFUSED if name in call.attrs]
    if refused:
        raise CaptureError(f"{refused[0]} has no rule")
    if text(call, "direction", "forward") not in ("forward", "bidirectional"):
        raise CaptureError("a recurrence that only runs backwards has no rule")
    if whole(call, "layout", 0) or whole(call, "input_forget", 0):
        raise CaptureError("the layout of batches first, or a coupled forget gate, has no rule")
    if made.given(call, 4) is not None or made.given(call, 7) is not None:
        raise CaptureError("lengths of sequences, or peepholes, have no rule")
    if call.kind == "GRU" and not whole(call, "linear_before_reset", 0):
        raise CaptureError("a GRU that resets before the product has no rule")


def _weight(made: Conversion, call: Call, index: int, direction: int, order: tuple[int, ...]) -> Value:
    """One direction's matrix, its gates in our order."""
    name = call.inputs[index]
    own = f"{name}.{direction}"
    if name in made.weights:
        weight = made.weights[name]
        return made.added(
            IntTensor(own, _reordered(weight.integers[direction], order), weight.grid), "float32"
        )
    found = made.constant(call, index)
    if found is None:
        raise CaptureError(f"input {index} is absent")
    return made.raw(_reordered(found[direction], order), own)


def _reordered(rows: AnyArray, order: tuple[int, ...]) -> AnyArray:
    """Blocks of rows, one for each gate, in our order."""
    gates = rows.reshape(len(order), -1, *rows.shape[1:])
    return np.ascontiguousarray(gates[list(order)].reshape(rows.shape))


RULES: dict[str, Rule] = {"LSTM": _recurrent, "GRU": _recurrent}
