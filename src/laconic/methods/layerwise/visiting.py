"""The weights of a network in the order of their first use, each with the moments of its inputs.

The caller changes a weight before it asks for the next one: what later layers read is what the changed layers
give. One pass of each network serves all weights (:mod:`laconic.networks.paused`); only a weight that is used
several times, as that of a cell unrolled over time, takes a pass of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from torch import nn

from laconic.errors import ModelError
from laconic.methods.layerwise.moments import Moments, read_moments, rows_wanted
from laconic.networks.biases import added_bias
from laconic.networks.inputs import call as run
from laconic.networks.inputs import inference
from laconic.networks.paused import PausedRun
from laconic.networks.reads import Read, names_of, reads_of
from laconic.networks.watching import Call, Watching

SPREAD = 16
"""Positions to choose from, over those that a moment needs, from which on no further pass is begun."""


class Visit(NamedTuple):
    """A weight whose turn it is.

    Args:
        name: Its name.
        axis: Its axis that multiplies the input's channels.
        bias: The bias that is added to its result; None where there is none.
        moments: Those of its inputs.
    """

    name: str
    axis: int
    bias: str | None
    moments: Moments


class Uses(NamedTuple):
    """How a network uses its parameters in one call.

    Args:
        reads: In order of first use, how often each weight multiplies an input.
        others: Parameters that also take part in other calls, as an embedding tied to the last layer.
    """

    reads: Mapping[str, int]
    others: frozenset[str]


def uses_of(module: nn.Module, inputs: Any) -> Uses:
    """Run the network once and see how it uses its parameters.

    >>> import torch
    >>> uses_of(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), torch.ones(1, 2)).reads
    {'0.weight': 1, '1.weight': 1}
    """
    names = names_of(module)
    reads: Counter[str] = Counter()
    others: Counter[str] = Counter()

    def look(call: Call) -> None:
        if not call.looks_at_values:
            return
        found = [read.name for read in reads_of(call, names)]
        reads.update(found)
        given = {names[id(t)] for t in call.tensors() if id(t) in names}
        others.update(given - set(found))

    with inference(), Watching(before=look):
        run(module, inputs)
    return Uses(dict(reads), frozenset(others))


class _Side:
    """One of the two networks: its passes, one for each batch that was begun, and where they stand."""

    def __init__(self, module: nn.Module, left: Collection[str], stack: ExitStack) -> None:
        self.names = names_of(module)
        self._module, self._left, self._stack = module, left, stack
        self._passes: list[PausedRun] = []
        self.stands: list[Call | None] = []

    def begin(self, batch: Any) -> None:
        """Run a further batch to the first call that reads one of the weights that are left."""
        self._passes.append(self._stack.enter_context(PausedRun(self._module, batch, self._wanted)))
        self.stands.append(self._passes[-1].advance())
        while self.stands[-1] is not None and not self.reads(len(self.stands) - 1):
            self.advance(len(self.stands) - 1)

    def _wanted(self, call: Call) -> bool:
        names = (self.names.get(id(t)) for t in call.tensors())
        return any(name in self._left for name in names if name is not None)

    def reads(self, k: int) -> list[Read]:
        """What batch k's next call reads of the weights that are left."""
        stand = self.stands[k]
        return [] if stand is None else [r for r in reads_of(stand, self.names) if r.name in self._left]

    def advance(self, k: int) -> None:
        self.stands[k] = self._passes[k].advance()


def visited(
    original: nn.Module, changed: nn.Module, batches: Sequence[Any], uses: Uses, names: Collection[str]
) -> Iterator[Visit]:
    """Visit weights in the order of their first use; the caller writes each into ``changed`` at once.

    A weight that also serves in other calls comes first of all, since those may come before its own.

    A batch's pass is begun when a weight needs its positions. Those of large feature maps are many, and a
    pass that stands at one holds much memory: the first layers of a network for images see few batches.

    Args:
        original: The network as it was, in evaluation mode.
        changed: A copy, of which the caller changes each weight that it is handed.
        batches: The inputs of several calls.
        uses: What :func:`uses_of` says of the network.
        names: The weights to visit; those that no batch reaches are passed over.

    Returns:
        An iterator over the visits.

    Raises:
        NonFiniteError: Inputs that are NaN or infinite.
        ModelError: The two networks do not run the same calls.
    """
    left = set(names)
    with inference():
        for name in [n for n in uses.reads if n in left and n in uses.others]:
            left.discard(name)
            yield _over_all_uses(original, changed, batches, name)
        with ExitStack() as stack:
            both = first, second = _Side(original, left, stack), _Side(changed, left, stack)
            waiting = list(reversed(batches))
            while True:
                standing = _standing(first)
                if not standing and not waiting:
                    return
                if not standing:
                    _begin(both, waiting)
                    continue
                for name in _next_names(first, standing[0]):
                    if uses.reads.get(name, 1) > 1:
                        found = _over_all_uses(original, changed, batches, name)
                    else:
                        while waiting and _wants_more(first, name):
                            _begin(both, waiting)
                        found = _here(first, second, name)
                    left.discard(name)
                    yield found
                for k in _standing(first):
                    if not first.reads(k):
                        first.advance(k)
                        second.advance(k)


def _standing(side: _Side) -> list[int]:
    return [k for k, call in enumerate(side.stands) if call is not None]


def _begin(both: tuple[_Side, _Side], waiting: list[Any]) -> None:
    batch = waiting.pop()
    for side in both:
        side.begin(batch)


def _wants_more(side: _Side, name: str) -> bool:
    """Whether the passes that were begun have too few positions of a weight."""
    reads = [r for k in _standing(side) for r in side.reads(k) if r.name == name]
    return sum(r.positions for r in reads) < SPREAD * rows_wanted(reads[0])


def _next_names(side: _Side, k: int) -> list[str]:
    return list(dict.fromkeys(read.name for read in side.reads(k)))


def _here(first: _Side, second: _Side, name: str) -> Visit:
    """The weight's visit from all batches that stand before the call that reads it."""
    pairs: list[tuple[Read, Read]] = []
    bias = None
    for k, call in enumerate(first.stands):
        own, other = ([r for r in side.reads(k) if r.name == name] for side in (first, second))
        if len(own) != len(other):
            raise _other_path(name)
        pairs += zip(own, other, strict=True)
        if own and call is not None:
            bias = added_bias(call, name, first.names)
    return Visit(name, pairs[0][0].axis, bias, read_moments(name, pairs))


def _over_all_uses(original: nn.Module, changed: nn.Module, batches: Sequence[Any], name: str) -> Visit:
    """The weight's visit from passes of their own over all of its uses."""
    shown: list[tuple[int, str | None]] = []

    def reads() -> Iterator[tuple[Read, Read]]:
        for batch in batches:
            with ExitStack() as stack:
                names = [names_of(net) for net in (original, changed)]
                passes = [
                    stack.enter_context(PausedRun(net, batch, _reading(name, known)))
                    for net, known in zip((original, changed), names, strict=True)
                ]
                while True:
                    calls = [each.advance() for each in passes]
                    if calls[0] is None or calls[1] is None:
                        if calls[0] is not calls[1]:
                            raise _other_path(name)
                        break
                    found = [
                        [r for r in reads_of(c, known) if r.name == name]
                        for c, known in zip(calls, names, strict=True)
                        if c is not None
                    ]
                    shown.append((found[0][0].axis, added_bias(calls[0], name, names[0])))
                    yield from zip(*found, strict=True)

    moments = read_moments(name, reads(), len(batches))
    axis, bias = shown[0]
    return Visit(name, axis, bias, moments)


def _reading(name: str, names: Mapping[int, str]) -> Callable[[Call], bool]:
    def wanted(call: Call) -> bool:
        return any(read.name == name for read in reads_of(call, names))

    return wanted


def _other_path(name: str) -> ModelError:
    return ModelError(
        f"the network takes another path before {name!r} once its weights are quantised: its control flow "
        "depends on values. Cure: keep that layer (keep=...), or a method that trains"
    )
