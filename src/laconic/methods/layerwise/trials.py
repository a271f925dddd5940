"""A network decided at one price: what it takes, and how far its predictions are from the original's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from laconic.errors import at
from laconic.methods.contract import BoolArray
from laconic.methods.layerwise.calibration import Calls
from laconic.methods.layerwise.comparison import Comparison
from laconic.methods.layerwise.deciding import (
    Decision,
    Settings,
    decide_rest,
    decide_unread,
    decide_visited,
    load_decisions,
)
from laconic.methods.layerwise.lookups import lookup_weights
from laconic.methods.layerwise.sensitivity import (
    Sensitivities,
    fisher_sensitivities,
    measured_sensitivities,
)
from laconic.methods.layerwise.visiting import Uses, Visit, uses_of, visited
from laconic.networks import duplicate
from laconic.networks.policy import Policy, weights_of
from laconic.pack import coded_bytes
from laconic.progress import steps
from laconic.quantize.floor import Floor
from laconic.quantize.second_order import SecondOrder
from laconic.records import IntTensor
from laconic.tasks import Task

REST_BITS = 8
"""Bits of a norm's scale, a free bias or another small parameter."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, what it is decided on, and how its weights are used: the same for every price.

    Args:
        original: The network, in evaluation mode; it stays as it is.
        calls: The calls that decide.
        comparison: Measures how far a changed network's predictions are.
        uses: How the network uses its parameters.
        weights: Weights that are decided, in order; the ones first that no call reads as a factor.
        rest: Other parameters that go on a grid.
        sensitivities: By weight (see :func:`measured_sensitivities`).
        second_order: Settings of the rounding.
        asymmetric: Whether layers are re-solved for the inputs that they will get.
        removed: By name, weights that an earlier stage has removed (True: removed); they stay zero.
        rows: By weight, what an error of each of its rows costs, up to a factor; none: all alike.
    """

    original: nn.Module
    calls: Calls
    comparison: Comparison
    uses: Uses
    weights: tuple[str, ...]
    rest: tuple[str, ...]
    sensitivities: Mapping[str, float]
    second_order: SecondOrder
    asymmetric: bool = True
    removed: Mapping[str, BoolArray] = field(default_factory=dict)
    rows: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def unread(self) -> tuple[str, ...]:
        """Weights that multiply nothing in any call: embeddings, and layers that the inputs never reach."""
        return tuple(name for name in self.weights if name not in self.uses.reads)


class Floors:
    """The bits that no code of a trial's distortion can go below, computed when they are asked for.

    Until then they hold the moments of every layer's inputs, which take as much as the largest networks'
    weights many times over: a search releases those of trials that are not the best.

    Args:
        by_weight: By weight, gives its floor.

    >>> floors = Floors({})
    >>> floors.release()
    >>> floors.released
    True
    """

    def __init__(self, by_weight: Mapping[str, Callable[[], Floor]] | None = None) -> None:
        self._by_weight: Mapping[str, Callable[[], Floor]] | None = by_weight or {}

    @property
    def released(self) -> bool:
        """Whether they were let go."""
        return self._by_weight is None

    def release(self) -> None:
        """Let go of what they are computed from."""
        self._by_weight = None

    def found(self) -> dict[str, Floor]:
        """By weight; empty where they were released."""
        return {name: floor() for name, floor in (self._by_weight or {}).items()}


@dataclass(frozen=True, eq=False)
class Trial:
    """A network decided at one price.

    Args:
        price: Nats per term of distortion for one nat of rate.
        module: The network with the decoded values.
        tensors: What the file will hold, by name.
        bytes: Bytes of these tensors, coded.
        divergence: Nats per term from the original on inputs that decided nothing.
        distortion: The same as predicted, by weight.
        floors: The bits that no code of its distortion can go below.
        refined_steps: Training steps after the decision that are in it; ``distortion`` and ``floors`` are of
            the decision.
    """

    price: float
    module: nn.Module
    tensors: Mapping[str, IntTensor]
    bytes: int
    divergence: float
    distortion: Mapping[str, float]
    floors: Floors = field(default_factory=Floors)
    refined_steps: int = 0


def make_subject(
    original: nn.Module,
    calls: Calls,
    comparison: Comparison,
    policy: Policy,
    second_order: SecondOrder,
    *,
    seed: int,
    asymmetric: bool = True,
    removed: Mapping[str, BoolArray] | None = None,
    wanted: float = 0.01,
    task: Task | None = None,
    temperature: float = 4.0,
) -> Subject:
    """Look at a network once: which weights it has, how it uses them, how sensitive its predictions are.

    Args:
        original: The network, in evaluation mode.
        calls: The calls that decide.
        comparison: Measures divergences.
        policy: What the user says of single parameters.
        second_order: Settings of the rounding.
        seed: Of the noise that measures sensitivities.
        asymmetric: See :class:`Subject`.
        removed: See :class:`Subject`.
        wanted: The divergence that sensitivities are measured at where the task gives no curvature.
        task: What the network is for; None where its divergence is not the task's.
        temperature: What logits are divided by for the curvature.

    Returns:
        The subject.
    """
    candidates = {**weights_of(original, policy=policy), **weights_of(original, policy=policy, frozen=True)}
    every = {n: p for n, p in original.named_parameters() if p.is_floating_point() and p.numel()}
    weights = tuple(n for n in every if n in candidates and every[n].ndim >= 2)
    rest = tuple(n for n in every if n not in weights and not policy.keeps(n))
    uses = uses_of(original, calls.inputs[0])
    found = (
        None
        if task is None
        else fisher_sensitivities(original, weights, calls.inputs, task, seed, temperature)
    )
    if found is None:
        found = Sensitivities(measured_sensitivities(original, weights, comparison, seed, wanted), {})
    unread = [name for name in weights if name not in uses.reads]
    rows = {name: each for name, each in found.rows.items() if name in uses.reads}
    return Subject(
        *(original, calls, comparison, uses, weights, rest, found.whole, second_order, asymmetric),
        removed=removed or {},
        rows=rows | lookup_weights(original, unread, calls.inputs),
    )


def try_price(subject: Subject, price: float) -> Trial:
    """Decide all weights in one pass over the calibration inputs, and measure the result.

    Args:
        subject: The network.
        price: Nats per term of distortion for one nat of rate.

    Returns:
        The trial.

    Raises:
        NonFiniteError: A layer's inputs become NaN or infinite.
        ModelError: The network takes another path once its weights are quantised.
    """
    changed = duplicate(subject.original)
    parameters: dict[str, Tensor] = dict(changed.named_parameters(remove_duplicate=False))
    settings = Settings(price, subject.second_order, subject.asymmetric, subject.calls.examples)
    tensors: dict[str, IntTensor] = {}
    distortion: dict[str, float] = {}
    floors: dict[str, Callable[[], Floor]] = {}
    unread = subject.unread
    read = [name for name in subject.weights if name not in unread]
    solved = _biases_of_reads(subject)
    for name in subject.rest:
        if name not in solved:
            tensors[name] = decide_rest(name, parameters[name], REST_BITS)
    for name in unread:
        decision = decide_unread(
            name,
            parameters[name].detach(),
            subject.sensitivities[name],
            settings,
            subject.rows.get(name),
        )
        tensors[name] = without(decision.weight, subject.removed.get(name))
        distortion[name], floors[name] = decision.distortion, decision.floor
    load_decisions(parameters, tensors)
    with steps("quantising layers", len(read)) as advance:
        for visit in visited(subject.original, changed, subject.calls.inputs, subject.uses, read):
            with at(f"quantising {visit.name!r}"):
                new, decision = _decide(visit, parameters, tensors, subject, settings)
            load_decisions(parameters, new)
            tensors |= new
            distortion[visit.name], floors[visit.name] = decision.distortion, decision.floor
            advance(visit.name)
    for name in subject.rest:  # biases of reads that no visit solved
        if name not in tensors:
            tensors[name] = decide_rest(name, parameters[name], REST_BITS)
            load_decisions(parameters, {name: tensors[name]})
    size = sum(coded_bytes(tensor) for tensor in tensors.values())
    ordered = {n: tensors[n] for n, _ in changed.named_parameters() if n in tensors}
    return Trial(price, changed, ordered, size, subject.comparison.of(changed), distortion, Floors(floors))


def _decide(
    visit: Visit,
    parameters: Mapping[str, Tensor],
    done: Mapping[str, IntTensor],
    subject: Subject,
    settings: Settings,
) -> tuple[dict[str, IntTensor], Decision]:
    """The tensors of a weight whose turn it is, and of its bias where that is free to be solved."""
    weight = parameters[visit.name].detach()
    free = visit.bias is not None and visit.bias in subject.rest and visit.bias not in done
    bias = parameters[visit.bias].detach() if free and visit.bias is not None else None
    decision = decide_visited(
        visit if free else visit._replace(bias=None),
        weight.cpu(),
        None if bias is None else bias.cpu(),
        subject.sensitivities[visit.name],
        settings,
        subject.rows.get(visit.name),
    )
    found = {visit.name: without(decision.weight, subject.removed.get(visit.name))}
    if decision.bias is not None and visit.bias is not None:
        found[visit.bias] = decision.bias
    return found, decision


def without(tensor: IntTensor, removed: BoolArray | None) -> IntTensor:
    """A tensor whose removed weights are zero.

    >>> from laconic.records import UniformGrid
    >>> tensor = IntTensor("w", np.int32([1, 2]), UniformGrid(0.5))
    >>> without(tensor, np.array([True, False])).integers.tolist()
    [0, 2]
    """
    if removed is None or removed.shape != tensor.shape:
        return tensor
    return IntTensor(tensor.name, np.where(removed, np.int32(0), tensor.integers), tensor.grid)


def _biases_of_reads(subject: Subject) -> frozenset[str]:
    """Parameters that may be the bias of a visited weight: those that other calls than its own never take."""
    return frozenset(name for name in subject.rest if "bias" in name.rpartition(".")[2])
