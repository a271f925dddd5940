r"""A linear map by local reparameterisation as one step of autograd: mean, variance and noise together.

.. math:: y = x\theta + b + \sqrt{(x^2)\sigma^2}\;\epsilon, \quad
          \frac{dL}{dx} = g\theta^T + 2x \odot \left[(g \odot s)(\sigma^2)^T\right], \quad
          s = \frac{\epsilon}{2\sqrt{(x^2)\sigma^2}}

for the gradient g by the output; weights of convolutions likewise. As separate steps of autograd the squares
of the input and the product of g and s are kept or allocated anew. Moving these tensors, the largest of a
network, takes more time than arithmetic on them; here the square is taken again in the backward pass, and s
becomes the product in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.bayes.layers.reparameterisation import draw_in_place, keeps_graph

Wanted = tuple[bool, bool, bool]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


class LinearMap(Protocol):
    """A map that is linear in input and weight."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The output."""

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, wanted: Wanted) -> Gradients:
        """Gradients by input, weight and bias, where ``wanted``."""


@dataclass(frozen=True)
class Product:
    """``F.linear``: (..., in) -> (..., out)."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The output."""
        return F.linear(x, weight, bias)

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, wanted: Wanted) -> Gradients:
        """Gradients by input, weight and bias, where ``wanted``."""
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            grad @ weight if wanted[0] else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
        )


@dataclass(frozen=True)
class Convolution:
    """A convolution or transposed convolution of a batch, padded with zeros."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    transposed: bool = False
    output_padding: Sequence[int] = (0,)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The output."""
        return torch.ops.aten.convolution.default(x, weight, bias, *self._options())  # type: ignore[no-any-return]

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, wanted: Wanted) -> Gradients:
        """Gradients by input, weight and bias, where ``wanted``."""
        return torch.ops.aten.convolution_backward.default(  # type: ignore[no-any-return]
            grad, x, weight, [grad.shape[1]], *self._options(), wanted
        )

    def _options(self) -> tuple[Any, ...]:
        return (
            *(self.stride, self.padding, self.dilation),
            *(self.transposed, self.output_padding, self.groups),
        )


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether :func:`draw` takes an input: on a CPU, of the weight's type, without autocast."""
    return x.device.type == "cpu" and x.dtype == weight.dtype and not torch.is_autocast_enabled("cpu")


def draw(
    linear: LinearMap,
    x: Tensor,
    moments: tuple[Tensor, Tensor],
    bias: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """The map's output with fresh noise.

    Args:
        linear: The map.
        x: Its input.
        moments: Mean and variance of the weight, in one layout.
        bias: Its bias, which has no noise.
        generator: The noise's.
    """
    return _TwoPaths.apply(x, *moments, bias, linear, generator)  # type: ignore[no-any-return,no-untyped-call]


class _TwoPaths(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mean: Tensor,
        variance: Tensor,
        bias: Tensor | None,
        linear: LinearMap,
        generator: torch.Generator,
    ) -> Tensor:
        middle = linear.forward(x, mean, bias)
        spread = linear.forward(x.square(), variance, None)
        out, ctx.slope = draw_in_place(middle, spread, generator)
        ctx.save_for_backward(x, mean, variance)
        ctx.linear = linear
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, variance = ctx.saved_tensors
        to_x, to_mean, to_variance, to_bias = ctx.needs_input_grad[:4]
        by_x, by_mean, by_bias = ctx.linear.backward(grad, x, mean, (to_x, to_mean, to_bias))
        by_variance = None
        if to_x or to_variance:
            noisy = grad * ctx.slope if keeps_graph() else ctx.slope.mul_(grad)
            by_square, by_variance, _ = ctx.linear.backward(
                noisy, x.square(), variance, (to_x, to_variance, False)
            )
            if by_x is not None and by_square is not None:
                by_x = by_x.addcmul_(x, by_square, value=2.0)
        return by_x, by_mean, by_variance, by_bias, None, None
