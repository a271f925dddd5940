"""The implementations by our own kernels, and the matrices that run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from laconic.errors import InputError
from laconic.records import Tensor
from laconic.runtime.engines.few_bits import own_two_bits

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from laconic.runtime.engines.layers import LinearLayer
    from laconic.runtime.engines.workers import Workers
    from laconic.runtime.kernels import KernelMatrix

KernelImplementation = Literal["sparse", "2-bit-kernel"]
"""``2-bit-kernel`` rounds activations to 8 bits."""


def is_own(implementation: str) -> TypeIs[KernelImplementation]:
    """Whether an implementation is one of our own kernels.

    >>> is_own("sparse"), is_own("4-bit")
    (True, False)
    """
    return implementation in ("sparse", "2-bit-kernel")


def own_matrix(
    tensor: Tensor, implementation: KernelImplementation, threads: int, pool: Workers | None
) -> KernelMatrix:
    """The matrix of a layer in one of our kernels.

    Raises ``InputError`` when the tensor does not fit in two bits and that was asked for.
    """
    from laconic.runtime.kernels import SparseMatrix, TwoBitMatrix, compact

    if implementation == "sparse":
        return SparseMatrix(compact(tensor), threads=threads, pool=pool)
    form = own_two_bits(tensor)
    if form is None:
        raise InputError(f"tensor {tensor.name!r} does not fit in two bits")
    return TwoBitMatrix(form, threads=threads, pool=pool)


def own_layers(
    layers: Mapping[int, tuple[LinearLayer, KernelImplementation]], threads: int, pool: Workers | None
) -> dict[int, tuple[LinearLayer, KernelMatrix]]:
    """The layers with their matrices in our kernels; layers that share a weight share its matrix."""
    matrices: dict[tuple[str, str], KernelMatrix] = {}
    for layer, implementation in layers.values():
        if (layer.name, implementation) not in matrices:
            matrix = own_matrix(layer.tensor, implementation, threads, pool)
            matrices[layer.name, implementation] = matrix
    return {part: (layer, matrices[layer.name, one]) for part, (layer, one) in layers.items()}
