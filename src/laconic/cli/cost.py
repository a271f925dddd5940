"""``laconic cost``: memory, latency and energy of a file's network on a device. No torch."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laconic.cli.cures import in_options
from laconic.cli.trust import limits_of
from laconic.errors import InputError, at

if TYPE_CHECKING:
    from laconic.cost import Cost
    from laconic.runtime.precision import Precision


_OPTIONS = (
    ("shapes=, a tuple for each input", "--input 1x28x28, once for each input"),
    ("batch=", "--batch "),
    ("runs=", "--measure "),
    ("activation_bits=", "--activations "),
    ("precision=", "--precision "),
    ("device=", "--device "),
    ("threads=", "--threads "),
)
"""Arguments of ``cost_of`` as messages write them, and the options that stand for them."""


@dataclass(frozen=True)
class CostRequest:
    """The command's arguments."""

    file: str
    device: str | None
    inputs: tuple[str, ...]
    batch: int
    activations: int | None
    precision: Precision
    against: str | None
    measure: int
    threads: int
    as_json: bool
    trusted: bool = False


def run_cost(request: CostRequest) -> int:
    """Print the table and the verdict, or JSON."""
    from laconic.cost.show import as_data, layer_table, side_by_side, verdict

    cost = _cost(request, request.file)
    if request.as_json:
        print(json.dumps({"file": request.file, **as_data(cost)}))
        return 0
    print(layer_table(cost))
    shapes = ", ".join("x".join(map(str, shape)) for shape in cost.input_shapes)
    print(f"\n{request.file}: {cost.file_bytes} bytes on disk, input {shapes}, {cost.precision}")
    print(
        f"weights: {cost.weights} ({cost.weights_nonzero} not zero), {cost.weights_dense_bytes} bytes as "
        f"fp32, {cost.weights_few_bit_bytes} in few bits, {cost.weights_stored_bytes} in few bits or sparse"
    )
    widths = ", ".join(f"{n} at {w}x{a} bits" for (w, a), n in cost.macs_by_bits.items())
    print(f"MACs: {widths or 'none'}; peak activations: {cost.peak_activation_bytes} bytes")
    if cost.estimated is not None:
        print(f"\n{cost.estimated.device}\n{verdict(cost.estimated)}")
    if cost.measured is not None:
        m = cost.measured
        print(
            f"latency, measured here: {1e3 * m.seconds:.3f} ms ({1e3 * m.low_seconds:.3f} .. "
            f"{1e3 * m.high_seconds:.3f}), {m.runs} runs, {m.threads} threads"
        )
    if request.against is not None:
        print(f"\nbefore: {request.against}\n{side_by_side(_cost(request, request.against), cost)}")
    return 0


def _cost(request: CostRequest, file: str) -> Cost:
    from laconic.cli.scoring import read_bytes
    from laconic.costing import cost_of

    if request.measure < 0:
        raise InputError(f"cost: --measure {request.measure} is no number of runs. Cure: --measure 50")
    data = read_bytes(file)
    with in_options(_OPTIONS), at(f"cost of {file}"):
        return cost_of(
            data,
            device=request.device,
            batch=request.batch,
            shapes=_shapes(data, request) if request.inputs else None,
            activation_bits=request.activations,
            precision=request.precision,
            runs=request.measure,
            threads=request.threads,
            limits=limits_of(request.trusted),
        )


def _shapes(data: bytes, request: CostRequest) -> list[tuple[int, ...]]:
    """``1x28x28`` -> a shape; a dimension short of what the network takes, the batch goes in front."""
    from laconic.pack.file.container import decoded_graph, take_apart

    limits = limits_of(request.trusted)
    graph = decoded_graph(take_apart(data, limits), limits)
    ranks = [len(spec.shape) for spec in graph.inputs] if graph is not None else []
    shapes = []
    for k, text in enumerate(request.inputs):
        try:
            shape = tuple(int(size) for size in text.lower().split("x"))
        except ValueError:
            raise InputError(f"--input {text!r} is no shape. Cure: sizes with x between, 1x28x28") from None
        short = k < len(ranks) and len(shape) == ranks[k] - 1
        shapes.append((request.batch, *shape) if short else shape)
    return shapes


def request_of(arguments: argparse.Namespace) -> CostRequest:
    """The request that parsed arguments stand for."""
    return CostRequest(
        file=arguments.file,
        device=arguments.device,
        inputs=tuple(arguments.input),
        batch=arguments.batch,
        activations=arguments.activations,
        precision=arguments.precision,
        against=arguments.against,
        measure=arguments.measure,
        threads=arguments.threads,
        as_json=arguments.json,
        trusted=arguments.trusted,
    )
