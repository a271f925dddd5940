"""One weight's decision as tensors of the file: matrices to integers, steps along the tensor's own axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from laconic.methods.layerwise.visiting import Visit
from laconic.networks.second_moments import as_matrices, from_matrices
from laconic.quantize.floor import Floor, floor_of
from laconic.quantize.second_order import QuantizedMatrix, SecondOrder, quantize_matrix
from laconic.quantize.uniform import bfloat16, nearest
from laconic.records import IntTensor, UniformGrid

WIDEST = 12
"""Bits of the finest grid of a bias or a scale, beyond which more of them change nothing that is measured."""
NARROWEST = 4
"""Bits of the coarsest."""
LONG_ROW = 128
"""Columns from which on a row of a table pays for a step of its own: an eighth of a bit a weight."""


class Decision(NamedTuple):
    """What was decided of a weight.

    Args:
        weight: Its integers on their grid.
        bias: Those of the bias that was solved with it; None where there is none.
        distortion: Predicted loss, nats per term.
        rate: Bits by the model that the choice is priced with.
        floor: Gives the bits that no code of this distortion can go below. It is computed when it is asked
            for: its eigenvalues cost a third of the decision.
    """

    weight: IntTensor
    bias: IntTensor | None
    distortion: float
    rate: float
    floor: Callable[[], Floor]


@dataclass(frozen=True)
class Settings:
    """How weights are decided.

    Args:
        price: Nats per term of distortion accepted for one nat of rate.
        second_order: Settings of the rounding.
        asymmetric: Whether a layer is re-solved for the inputs that the quantised layers before it give.
        samples: Examples that the moments are from. Positions of one example say much the same, so that they
            count once.
    """

    price: float
    second_order: SecondOrder
    asymmetric: bool = True
    samples: int | None = None


def decide_visited(
    visit: Visit,
    weight: Tensor,
    bias: Tensor | None,
    sensitivity: float,
    settings: Settings,
    relative: Tensor | None = None,
) -> Decision:
    """Decide a weight, and the bias beside it, from the moments of its inputs.

    Args:
        visit: Whose turn it is; ``visit.bias`` is what ``bias`` is called.
        weight: The weight's values.
        bias: The bias's; None where there is none, or it is decided elsewhere.
        sensitivity: Nats for a unit of squared noise on each of the weight's numbers, twice.
        settings: The price and the rest.
        relative: What an error of each row costs, relative to their mean; None: all alike.

    Returns:
        The decision.
    """
    moments = visit.moments
    k = moments.own.shape[1] - (bias is None)
    own, cross = moments.own[:, :k, :k], moments.cross[:, :k, :k]
    matrices = as_matrices(weight, visit.axis, moments.blocks)
    rows = matrices.shape[1]
    whole = float(moments.energy.sum()) * rows
    precision = sensitivity / whole if whole > 0 else 1.0
    kernel = math.prod(weight.shape[2:])
    each = precision * _relative(relative, moments.blocks * rows)
    layouts = settings.second_order.layouts
    if visit.axis == 0 and moments.blocks > 1:
        layouts = tuple(x for x in layouts if x == "tensor") or ("tensor",)
    found = quantize_matrix(
        matrices,
        own,
        settings.price,
        replace(settings.second_order, layouts=layouts),
        cross=cross if settings.asymmetric else None,
        row_precision=each,
        bias=bias,
        columns_per_step=kernel,
        samples=settings.samples,
    )
    stored = _stored(visit.name, found, weight, visit.axis)
    floor = partial(floor_of, _short(found), own.float(), row_precision=each, bias=bias is not None)
    return Decision(stored, _stored_bias(visit.bias, found), found.distortion, found.rate, floor)


def _short(found: QuantizedMatrix) -> QuantizedMatrix:
    """What its floor is computed from, in half of the memory: every trial of a search keeps it."""
    return replace(found, values=found.values[:0], target=found.target.astype(np.float32))


def _relative(given: Tensor | None, rows: int) -> Tensor:
    """Weights of the rows with mean 1; all alike where none is known or none is above 0."""
    alike = torch.ones(rows, dtype=torch.float64)
    if given is None or given.numel() != rows:
        return alike
    mean = float(given.double().mean())
    return given.double().reshape(-1) / mean if 0 < mean < math.inf else alike


def decide_unread(
    name: str, weight: Tensor, sensitivity: float, settings: Settings, relative: Tensor | None = None
) -> Decision:
    """Decide a weight that multiplies no input, as an embedding's: errors in a row all cost the same.

    Args:
        name: The weight.
        weight: Its values, of two axes or more.
        sensitivity: As for :func:`decide_visited`.
        settings: The price and the rest.
        relative: What an error of each row costs, relative to their mean; None: all alike. Rows of
            ``LONG_ROW`` columns then have steps of their own.

    Returns:
        The decision.
    """
    matrix = weight.reshape(len(weight), -1)
    alike = torch.eye(matrix.shape[1], dtype=torch.float64)
    each = sensitivity / matrix.numel() * _relative(relative, len(matrix))
    by_row = relative is not None and matrix.shape[1] >= LONG_ROW
    found = quantize_matrix(
        matrix,
        alike,
        settings.price,
        # No error of one column bears on another: descent would only repeat a sweep.
        replace(
            settings.second_order,
            damping=0.0,
            layouts=("row" if by_row else "tensor",),
            sweeps=2,
            descents=0,
            beam=1,
        ),
        row_precision=each,
    )
    floor = partial(floor_of, _short(found), alike, row_precision=each)
    return Decision(_stored(name, found, weight, 1), None, found.distortion, found.rate, floor)


def decide_rest(name: str, values: Tensor, bits: int) -> IntTensor:
    """A bias, a scale or a single number on a grid that spans it."""
    array = np.asarray(values.detach().cpu().double())
    largest = float(np.abs(array).max(initial=0.0))
    step = bfloat16(largest / (2 ** (bits - 1) - 1)) if largest > 0 else 1.0
    return IntTensor(name, nearest(array, step), UniformGrid(step))


def _stored(name: str, found: QuantizedMatrix, weight: Tensor, axis: int) -> IntTensor:
    """Integers in the weight's own shape; a step by row or column is one along an axis of the weight."""
    matrices = torch.from_numpy(found.integers)
    matrices = matrices if matrices.ndim == 3 else matrices[None]
    integers = from_matrices(matrices, weight, axis).contiguous().numpy()
    steps = tuple(float(s) for s in found.steps)
    if found.layout == "tensor":
        return IntTensor(name, integers, UniformGrid(steps[0]))
    return IntTensor(name, integers, UniformGrid(steps, axis=1 - axis if found.layout == "row" else axis))


def _stored_bias(name: str | None, found: QuantizedMatrix) -> IntTensor | None:
    if name is None or found.bias_integers is None or found.bias_step is None:
        return None
    return IntTensor(name, found.bias_integers, UniformGrid(found.bias_step))


def load_decisions(parameters: Mapping[str, Tensor], tensors: Mapping[str, IntTensor]) -> None:
    """Write decoded values into parameters of the same names."""
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(torch.from_numpy(tensor.values()))
