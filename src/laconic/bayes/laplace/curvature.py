r"""Curvature of a trained network's likelihood: its Fisher information, diagonal and in Kronecker factors.

.. math:: F = \frac1N \sum_{n=1}^{N} J_n^\top H_n J_n, \qquad
          F_{(r,k),(r',k')} \approx G_{rr'} A_{kk'}, \quad A = \mathbb{E}[x x^\top], \quad
          G = \frac{\mathbb{E}[\nabla W\, \nabla W^\top]}{\operatorname{tr} A}

N counts likelihood terms. For one position of a linear map, where :math:`\nabla W = g x^\top`, G is the
second moment of the gradients g at its output if these are independent of x. In general (convolutions,
recurrences, attention: many positions share W) the sum of the diagonal over a row is exact. Only weight
gradients are needed, so that any layer that torch differentiates will do.

Sources: Martens & Grosse, ICML 2015; Ritter, Botev & Barber, ICLR 2018; Grosse & Martens, ICML 2016.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from laconic.bayes.laplace.directions import Vectors, examples_in, pieces, predictive_of, vectors_of
from laconic.bayes.laplace.inputs import InputSquares, add_inputs
from laconic.bayes.laplace.settings import AUTO, FisherSettings
from laconic.errors import DataError, InputError, NonFiniteError
from laconic.networks import SecondMoments, as_matrices, call, from_matrices
from laconic.networks.evaluation import Forward, at_rest, batches
from laconic.networks.reads import Read, watch_reads
from laconic.tasks.likelihoods import full_precision
from laconic.tasks.outputs import main_tensor
from laconic.tasks.task import Task

__all__ = ["Curvature", "KroneckerFactors", "TensorCurvature", "gather_curvature"]


@dataclass(frozen=True, eq=False)
class TensorCurvature:
    """The Fisher information of one parameter, a mean per likelihood term.

    Attributes:
        diagonal: Float32, of the parameter's shape, in squared nats per squared unit.
        axis: The axis that multiplies the input's channels; None for a parameter that multiplies none.
        inputs: The diagonal of A, float64 (blocks, K); None likewise.
        rows: The diagonal of G, the sensitivity of each output, float64 (blocks, R); None likewise.

    >>> TensorCurvature(torch.ones(2)).smooth.tolist()
    [1.0, 1.0]
    """

    diagonal: Tensor
    axis: int | None = None
    inputs: Tensor | None = None
    rows: Tensor | None = None

    @property
    def smooth(self) -> Tensor:
        """G_rr A_kk, of the parameter's shape, of less variance than the diagonal; without factors, that."""
        if self.axis is None or self.inputs is None or self.rows is None:
            return self.diagonal
        product = self.rows[:, :, None] * self.inputs[:, None, :]
        return from_matrices(product.float(), self.diagonal, self.axis)


@dataclass(frozen=True, eq=False)
class KroneckerFactors:
    """Full Kronecker factors of one weight, a mean per likelihood term.

    Attributes:
        axis: The axis of the weight that multiplies the input's channels.
        inputs: A, the second moment of the inputs, float64 (blocks, K, K).
        rows: G, float64 (blocks, R, R), so that F ~ G kron A in each block.

    >>> one = torch.ones(1, 1, 1, dtype=torch.float64)
    >>> KroneckerFactors(1, 2 * one, 3 * one).eigenvalues.tolist()
    [[[6.0]]]
    """

    axis: int
    inputs: Tensor
    rows: Tensor

    @property
    def eigenvalues(self) -> Tensor:
        """The eigenvalues of G kron A, (blocks, R, K)."""
        g: Tensor = torch.linalg.eigvalsh(self.rows).clamp(min=0)
        a: Tensor = torch.linalg.eigvalsh(self.inputs).clamp(min=0)
        return g[:, :, None] * a[:, None, :]

    def variances(self, data_size: int, prior_precision: float, like: Tensor) -> Tensor:
        """Marginal posterior variances: the diagonal of (data_size G kron A + prior_precision I)^-1.

        Args:
            data_size: Likelihood terms of the data.
            prior_precision: > 0.
            like: The weight, whose shape the result has.
        """
        (g, u), (a, v) = (torch.linalg.eigh(m) for m in (self.rows, self.inputs))
        inner = 1 / (data_size * g.clamp(min=0)[:, :, None] * a.clamp(min=0)[:, None, :] + prior_precision)
        marginal: Tensor = u.square() @ inner @ v.square().transpose(1, 2)
        return from_matrices(marginal, like, self.axis)


@dataclass(frozen=True, eq=False)
class Curvature:
    """The Fisher information of a network, as :func:`gather_curvature` found it.

    Attributes:
        tensors: By parameter.
        terms: Likelihood terms that it is a mean over.
        kind: "exact", "sampled" or "empirical".
        factors: Full Kronecker factors of the weights that were asked for.
        unreached: By parameter that has some: the share of its entries that no gradient ever reached.
        constant: Weights that read the same inputs at every position of every example.

    >>> Curvature({"w": TensorCurvature(torch.zeros(2))}, 4, "exact", unreached={"w": 1.0}).constant
    ()
    """

    tensors: Mapping[str, TensorCurvature]
    terms: int
    kind: str
    factors: Mapping[str, KroneckerFactors] = field(default_factory=lambda: MappingProxyType({}))
    unreached: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    constant: tuple[str, ...] = ()


def gather_curvature(
    module: nn.Module,
    loader: Iterable[Any],
    task: Task | None = None,
    *,
    generator: torch.Generator,
    settings: FisherSettings = AUTO,
    labelled: bool = True,
    factors: Collection[str] = (),
    forward: Forward = call,
) -> Curvature:
    """The Fisher information of every parameter, over all batches, in evaluation mode.

    Besides one gradient and two sums of the network's size it holds the inputs of one weight for one batch,
    and K^2 + R^2 numbers for each weight in ``factors``: name one weight at a time where these are large.

    Args:
        module: The network; its modes and gradients are afterwards as before.
        loader: Batches of inputs and targets, or of inputs alone.
        task: What the network is for; None for outputs with a squared error, such as an embedding's.
        generator: Draws the signs of the sampled estimate, on the CPU.
        settings: How it is estimated.
        labelled: Whether batches hold targets, as ``task.split`` takes them; without a task, batches are
            inputs alone. Targets say which terms are ignored; their values count for "empirical" alone.
        factors: Weights of which full Kronecker factors are kept.
        forward: ``forward(module, inputs)`` gives the outputs, one tensor.

    Returns:
        The curvature.

    Raises:
        DataError: The loader is empty, all terms are ignored, or all examples give the same outputs.
        InputError: Outputs that are no tensor or have no gradient, a task without a known distribution,
            batches that cannot be cut into examples, or a name in ``factors`` that multiplies no input.
        ModelError: The network computes a weight from other parameters.
        NonFiniteError: A NaN or an infinity; names the weight.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> batch = torch.tensor([[1.0], [3.0]])
    >>> found = gather_curvature(layer, [batch], generator=torch.Generator().manual_seed(0))
    >>> found.tensors["weight"].diagonal.item(), found.tensors["weight"].rows.item(), found.terms
    (5.0, 1.0, 2)
    """
    gathering = _Gathering(module, task, settings, generator, frozenset(factors), forward)
    with at_rest(module, gradients=True) as parameters:
        for batch in batches(loader, "curvature"):
            gathering.add(parameters, *_split(task, batch, labelled))
        return gathering.result(parameters)


def _split(task: Task | None, batch: Any, labelled: bool) -> tuple[Any, Any]:
    if task is None or not labelled:
        return batch, None
    try:
        return task.split(batch)
    except DataError as error:
        told = f"{error}; or labelled=False where batches hold inputs alone"
        raise DataError(told) from error


class _Gathering:
    """Sums over batches."""

    def __init__(
        self,
        module: nn.Module,
        task: Task | None,
        settings: FisherSettings,
        draw: torch.Generator,
        wanted: frozenset[str],
        forward: Forward,
    ) -> None:
        self.module, self.task, self.settings, self.draw = module, task, settings, draw
        self.wanted, self.forward = wanted, forward
        self.axis = 0 if task is None else task.batch_axis
        self.kind, self.terms, self.examples = "", 0, 0
        self.vectors: Vectors | None = None
        self.squares: dict[str, Tensor] = {}
        self.inputs: dict[str, InputSquares] = {}
        self.moments: dict[str, SecondMoments] = {}
        self.outer: dict[str, Tensor] = {}
        self.first: Tensor | None = None  # the first example's outputs
        self.varied = False  # whether other examples gave others

    def add(self, parameters: Mapping[str, Tensor], inputs: Any, target: Any) -> None:
        """One batch: what its weights read, then the gradients of its examples."""
        with torch.no_grad():
            outputs = self._observe(inputs)
        count = examples_in(inputs, self.axis)
        if self.vectors is None:
            self.kind, self.vectors = self._estimate(outputs, target, count)
        self.examples += count
        self._note_outputs(outputs)
        self.terms += self._terms(outputs, target)
        size = self.settings.examples if self.kind == "sampled" else 1
        part: dict[str, Tensor] = {}
        for some, labels in pieces(inputs, target, self.axis, size):
            z = self._outputs(some)
            if not z.requires_grad:
                raise InputError(
                    "the outputs have no gradient by any parameter. Cure: a forward without torch.no_grad, "
                    "inference mode and detach"
                )
            for vector in self.vectors(z, labels):
                self._add_gradient(z, vector, parameters, part)
        for name, squares in part.items():  # one batch in the network's precision, batches in float64
            wide = squares.to("cpu", torch.float64)
            self.squares[name] = self.squares[name].add_(wide) if name in self.squares else wide

    def _outputs(self, inputs: Any) -> Any:
        """The outputs that the task reads; without a task, the tensor that matters."""
        returned = self.forward(self.module, inputs)
        return main_tensor(returned) if self.task is None else self.task.prediction(returned)

    def _observe(self, inputs: Any) -> Tensor:
        shown: list[Any] = []

        def run() -> None:
            shown.append(self._outputs(inputs))

        def add_moments(read: Read) -> None:
            if read.name in self.wanted:
                new = SecondMoments.of(read.axis, read.patches())
                self.moments[read.name] = self.moments[read.name] + new if read.name in self.moments else new

        def both() -> None:
            watch_reads(self.module, run, add_moments) if self.wanted else run()

        add_inputs(self.module, both, self.inputs, self.settings.positions)
        outputs = shown[0]
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            told = "None" if outputs is None else f"a {type(outputs).__name__}"
            cure = "forward=lambda net, inputs: net(inputs)[0], or whatever takes the outputs out"
            if self.task is not None:
                cure = "a network that returns one tensor, or a task whose prediction() takes it out"
            raise InputError(f"the network returns {told}, not one tensor of numbers. Cure: {cure}")
        if not bool(torch.isfinite(outputs).all()):
            raise NonFiniteError(
                "the network's outputs hold NaN or infinity. Cure: look for them in the calibration batches"
            )
        return outputs

    def _estimate(self, outputs: Tensor, target: Any, count: int) -> tuple[str, Vectors]:
        kind = self.settings.kind
        if kind == "auto":
            kind = "exact" if outputs.numel() <= self.settings.exact_outputs * max(count, 1) else "sampled"
        predictive = None
        if kind != "empirical":
            predictive = predictive_of(self.task, outputs, target, self.settings.temperature)
        return kind, vectors_of(kind, self.settings, self.task, predictive, self.draw)

    def _terms(self, outputs: Tensor, target: Any) -> int:
        if self.task is not None and target is not None:
            return self.task.terms(target)
        return predictive_of(self.task, outputs, None, 1.0).positions(outputs)

    def _note_outputs(self, outputs: Tensor) -> None:
        rows = outputs if outputs.ndim else outputs[None]
        if self.first is None and len(rows):
            self.first = rows[:1].clone()
        if self.first is not None and not self.varied:
            same = rows.shape[1:] == self.first.shape[1:] and bool((rows == self.first).all())
            self.varied = not same

    def _add_gradient(
        self, z: Tensor, vector: Tensor, parameters: Mapping[str, Tensor], part: dict[str, Tensor]
    ) -> None:
        found = torch.autograd.grad(
            z, list(parameters.values()), vector, retain_graph=True, allow_unused=True
        )
        for name, g in zip(parameters, found, strict=True):
            if g is None:
                continue
            g = full_precision(g.detach())
            part[name] = part[name].addcmul_(g, g) if name in part else g * g
            if name in self.moments:
                moments = self.moments[name]
                m = as_matrices(g.to("cpu", torch.float64), moments.axis, len(moments.products))
                new = m @ m.transpose(1, 2)
                self.outer[name] = self.outer[name] + new if name in self.outer else new

    def result(self, parameters: Mapping[str, Tensor]) -> Curvature:
        """The means."""
        self._check()
        tensors, unreached = {}, {}
        for name, p in parameters.items():
            total = self.squares.get(name)
            diagonal = torch.zeros(p.shape, dtype=torch.float64) if total is None else total / self.terms
            if not bool(torch.isfinite(diagonal).all()):
                raise NonFiniteError(
                    f"the gradient of {name!r} is NaN or infinite. Cure: look for them in its weights and in "
                    "the batches"
                )
            tensors[name] = _of_tensor(diagonal, self.inputs.get(name))
            missed = int((diagonal == 0).sum())
            if missed:
                unreached[name] = missed / p.numel()
        constant = tuple(name for name, seen in self.inputs.items() if seen.constant)
        return Curvature(tensors, self.terms, self.kind, self._factors(), unreached, constant)

    def _check(self) -> None:
        if self.terms == 0:
            raise DataError("all labels of the calibration batches are ignored. Cure: batches with terms")
        if self.examples > 1 and not self.varied:
            raise DataError(
                f"all {self.examples} calibration examples give the same outputs, so they say nothing of the "
                "weights. Cure: real inputs, scaled as in training"
            )
        missing = sorted(self.wanted - set(self.moments))
        if missing:
            raise InputError(
                f"factors: {missing[0]!r} was not seen to multiply any input. Cure: names of weights of "
                "linear maps, convolutions, recurrent layers and attention that the batches reach"
            )

    def _factors(self) -> dict[str, KroneckerFactors]:
        found = {}
        for name, moments in self.moments.items():
            a = moments.mean
            trace = a.diagonal(dim1=1, dim2=2).sum(1).clamp(min=torch.finfo(torch.float64).tiny)
            outer = self.outer.get(name)
            if outer is None:
                rows = self.module.get_parameter(name).numel() // (a.shape[0] * a.shape[1])
                outer = torch.zeros(len(a), rows, rows, dtype=torch.float64)
            found[name] = KroneckerFactors(moments.axis, a, outer / self.terms / trace[:, None, None])
        return found


def _of_tensor(diagonal: Tensor, seen: InputSquares | None) -> TensorCurvature:
    if seen is None or not diagonal.numel():
        return TensorCurvature(diagonal.float())
    a = seen.mean
    total = a.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    rows = as_matrices(diagonal, seen.axis, len(a)).sum(2) / total
    return TensorCurvature(diagonal.float(), seen.axis, a, rows)
