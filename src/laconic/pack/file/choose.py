"""The encoder's decisions: which model, which settings. Nothing here is part of the format.

Large tensors get the static table without a search; small ones are measured under several settings. The
mixing model is tried where its C code is compiled; without it for small tensors alone. On a tie the first
candidate is taken, so the same tensor gets the same bytes wherever the same models are tried.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from laconic.pack.codecs import order0
from laconic.pack.codecs.layouts import Trail, matrix_shape
from laconic.pack.codecs.mix_search import best_mix, is_mixable, worth_mixing
from laconic.pack.codecs.search import background_of, best_settings, is_small
from laconic.pack.codecs.settings import MAX_ENTRIES, Mix, Settings
from laconic.pack.codecs.sizes import Levels
from laconic.pack.wire.headers import Header, header_bits
from laconic.records import IntArray, IntTensor
from laconic.records.tensors import extremes

CHUNKED_ABOVE = 1 << 22
"""Tensors with more entries are coded in chunks; the adaptive model and the hints have the same limit."""
CHUNK_ENTRIES = 1 << 19
CHUNK_BYTES = 4096
"""Least entries and approximate bytes of a chunk, whose overhead is 8 or 9 bytes, 0.22 % of these."""
_CHUNK_COST = 8 * 9  # bits of overhead of a chunk: its length, its checksum, the unused rest of its last word
MIXED_FIRST = 1 << 12
"""Above so many entries the mixing model is measured first, and the adaptive one only where that saves too
little: of trained networks it codes small tensors alone in fewer bits, and its search is slow.
"""
_MAX_DICTIONARY = 4096
_SPARSE_BITS = 1.0  # bits of an entry below which the adaptive model is measured whatever the size
_FEW_ENTRIES = 1 << 14


class Plan(NamedTuple):
    """A header and the integers to code under it. ``symbols``: codec 1's; ``bits``: the size in the stream.

    ``chunk_rows``: indices of the first dimension in a chunk; 0 where there are no chunks.
    """

    header: Header
    integers: IntArray
    symbols: IntArray | None
    bits: float
    lowest: int
    highest: int
    chunk_rows: int = 0


def plan_tensor(tensor: IntTensor, trail: Trail) -> Plan:
    """The header of fewest bits for a tensor; ``trail``: context from earlier tensors."""
    values = tensor.integers
    lowest, highest = extremes(values)
    plans = [_plan_one(tensor, values, (), lowest, highest, trail)]
    if values.size <= MAX_ENTRIES and highest - lowest >= 32:
        distinct = np.unique(values)
        if len(distinct) <= _MAX_DICTIONARY and 4 * len(distinct) <= highest - lowest:
            ranks = np.searchsorted(distinct, values).astype(np.int32)
            words = tuple(int(v) for v in distinct)
            plans.append(_plan_one(tensor, ranks, words, 0, len(words) - 1, trail))
    best = min(plans, key=lambda plan: header_bits(plan.header, trail.rows) + plan.bits)
    return _in_chunks(best._replace(lowest=lowest, highest=highest))


def plan_alone(tensor: IntTensor) -> Plan:
    """The header of a tensor that is read without the rest of its file: it is in chunks, perhaps in one.

    The adaptive model is only measured where it can save much: in a checkpoint speed counts.
    """
    values = tensor.integers
    lowest, highest = extremes(values)
    fit = order0.fit(values, lowest, highest)
    header = Header(values.shape, tensor.grid, fit.table)
    plan = Plan(header, values, fit.symbols, fit.bits, lowest, highest)
    if fit.bits < _SPARSE_BITS * values.size or values.size <= _FEW_ENTRIES:
        plan = plan_tensor(tensor, Trail())
    if plan.chunk_rows:
        return plan
    rows = values.shape[0]
    pieces = 1 if isinstance(plan.header.model, Settings) else min(rows, -(-values.size // CHUNK_ENTRIES))
    return plan._replace(chunk_rows=-(-rows // pieces))


def _in_chunks(plan: Plan) -> Plan:
    """The plan, in chunks if the tensor is large and their overhead is small."""
    header, size = plan.header, plan.integers.size
    if size <= CHUNKED_ABOVE or isinstance(header.model, Settings | Mix) or not header.shape:
        return plan
    most = min(size // CHUNK_ENTRIES, int(plan.bits) // (8 * CHUNK_BYTES), header.shape[0])
    if most < 2:
        return plan
    rows = -(-header.shape[0] // most)
    return plan._replace(chunk_rows=rows, bits=plan.bits + _CHUNK_COST * -(-header.shape[0] // rows))


def _plan_one(
    tensor: IntTensor, values: IntArray, dictionary: tuple[int, ...], lowest: int, highest: int, trail: Trail
) -> Plan:
    """The cheapest of the models for integers within the given extremes."""
    fit = order0.fit(values, lowest, highest)
    header = Header(tensor.integers.shape, tensor.grid, fit.table, dictionary)
    plan = Plan(header, values, fit.symbols, fit.bits, lowest, highest)
    if lowest == highest or values.size > MAX_ENTRIES:
        return plan
    background = background_of(values, fit)
    levels = values.reshape(matrix_shape(values.shape)).astype(np.int64) - background
    if not is_small(levels):
        return plan
    mixable = is_mixable(levels, values.shape)
    if mixable and values.size > MIXED_FIRST:
        mixed = _mixed(plan, levels, background, trail)
        if _worth(mixed, plan, trail):
            return mixed
    cost, settings, geometry = best_settings(levels, values.shape, background, trail)
    other = plan._replace(header=header._replace(model=settings, geometry=geometry), symbols=None, bits=cost)
    plan = min(plan, other, key=lambda p: p.bits + header_bits(p.header, trail.rows))
    if not mixable or values.size > MIXED_FIRST:
        return plan
    mixed = _mixed(plan, levels, background, trail)
    return mixed if _worth(mixed, plan, trail) else plan


def _mixed(plan: Plan, levels: Levels, background: int, trail: Trail) -> Plan:
    """The plan under the mixing model."""
    bits, mix, geometry = best_mix(levels, plan.integers.shape, background, trail)
    return plan._replace(header=plan.header._replace(model=mix, geometry=geometry), symbols=None, bits=bits)


def _worth(mixed: Plan, plan: Plan, trail: Trail) -> bool:
    of_mixed, of_plan = (p.bits + header_bits(p.header, trail.rows) for p in (mixed, plan))
    return worth_mixing(of_mixed, of_plan)
