"""The verb ``cost_of``: a file or a PyTorch network in, its cost out.

Here the rooms meet: ``runtime`` says what a network comes to, ``cost`` counts and estimates, ``export``
captures a PyTorch module. A file needs no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.cost import Cost, Device, count, estimate, measure, read_device
from laconic.errors import InputError, at
from laconic.records import AnyArray, NetworkFacts, PackedModel, RawTensor, Tensor
from laconic.records.limits import DEFAULT, Limits
from laconic.runtime.facts.float32_facts import network_facts
from laconic.runtime.precision import Precision, with_precision

if TYPE_CHECKING:
    from torch import nn

    from laconic.methods.contract import Compressed

    Source = str | os.PathLike[str] | bytes | PackedModel | nn.Module | Compressed

Shapes = Sequence[tuple[int, ...]]
_SEED = 0


def cost_of(
    source: Source,
    example: Any = None,
    *,
    device: str | os.PathLike[str] | Device | None = None,
    batch: int = 1,
    shapes: Shapes | None = None,
    activation_bits: int | None = None,
    runs: int = 0,
    threads: int = 1,
    precision: Precision = "auto",
    limits: Limits = DEFAULT,
) -> Cost:
    """What a network costs: bytes, MACs, memory, and on a ``device`` seconds and energy.

    Args:
        source: A .lac file (its path, its bytes or its records), a PyTorch module, or what
            ``laconic.convert`` returned.
        example: An input of a PyTorch module, as the module takes it.
        device: A name such as "cortex-m7", or the path of a device file. It fills ``estimated`` (seconds,
            joules, and whether the memories hold the network).
        batch: The size of free dimensions, where neither ``shapes`` nor ``example`` gives it.
        shapes: A shape for each input.
        activation_bits: Count floating-point activations at this width, 8, 16 or 32 bits; None for their own.
        runs: Above 0 it fills ``measured``: so many calls on this machine are timed.
        threads: Threads of a timed call.
        precision: As for ``load``: a calibrated file counts as it runs in int8, or in float32 with "fp32".
        limits: What reading (and running) a file may take, as for ``load``.

    Returns:
        Bytes, multiply-accumulates and peak activation memory, by layer and in all.

    Raises:
        InputError: A shape that does not fit, an unknown device, a wrong device file, int8 without ranges.
        WeightsOnlyError: The file has no graph.
        FileFormatError: The file is no .lac file, or a wrong one.
        LimitError: Reading or running takes more than the limits allow.
        CaptureError: The module cannot be captured.

    >>> import torch, laconic
    >>> cost = laconic.cost_of(torch.nn.Linear(4, 2), torch.zeros(1, 4), device="cortex-m7")
    >>> cost.macs, cost.weights_dense_bytes, cost.estimated.fits_all
    (8, 40, True)
    """
    model, file_bytes, wanted = _model_of(source, example, limits)
    model = with_precision(model, precision)
    facts = network_facts(model, file_bytes, shapes=wanted if shapes is None else shapes, batch=batch)
    cost = count(facts, activation_bits=activation_bits)
    if device is not None:
        cost = estimate(cost, device if isinstance(device, Device) else read_device(device))
    if not isinstance(source, (bytes, str, os.PathLike)):
        limits = Limits.trusted()  # it is in memory already
    return _timed(cost, model, facts, runs, threads, limits) if runs else cost


def _model_of(source: Any, example: Any, limits: Limits) -> tuple[PackedModel, int, Shapes | None]:
    """The records of a network, the bytes of its file, and the input shapes that an example asks for."""
    from laconic import pack

    if isinstance(source, PackedModel):
        return source, len(pack.encode(source)), None
    if isinstance(source, bytes):
        return pack.decode(source, limits=limits), len(source), None
    if isinstance(source, (str, os.PathLike)):
        return pack.read(source, limits=limits), Path(source).stat().st_size, None
    return _captured(source, example)


def _captured(source: Any, example: Any) -> tuple[PackedModel, int, Shapes]:
    """A PyTorch module (or a compressed one) as the records that its file would hold."""
    from torch import nn

    from laconic import pack
    from laconic.export.graph_capture import captured_call
    from laconic.export.signature import one_call
    from laconic.export.stored_tensors import stored
    from laconic.methods.contract import Compressed
    from laconic.networks import flattened
    from laconic.networks.modules import plain_network, shared_names

    given: Mapping[str, Tensor] = {}
    if isinstance(source, Compressed):
        example = source.example if example is None else example
        source, given = source.module, source.tensors
    if not isinstance(source, nn.Module):
        raise InputError(
            "cost_of takes a .lac file, a PyTorch module or a converted network, got "
            f"{type(source).__name__}. Cure: cost_of('model.lac'), or cost_of(module, example)"
        )
    if example is None:
        raise InputError(
            "cost_of needs an example input to see a module's shapes. Cure: cost_of(model, example)"
        )
    source, example = flattened(plain_network(source, "cost_of").module, example)
    names, state = shared_names(source), source.state_dict()
    with at("cost_of"):
        call = one_call(source, example)
        captured = captured_call(call, names)
    known: dict[str, Tensor] = {constant.name: constant for constant in captured.constants}
    known |= {names.get(name, name): tensor for name, tensor in given.items()}
    tensors = tuple(
        known.get(name) or RawTensor(name, stored(name, state[name], narrow=True))
        for name in captured.tensor_names
    )
    model = PackedModel(tensors, captured.graph, captured.aliases)
    return model, len(pack.encode(model)), [tuple(x.shape) for x in call.tensors]


def _timed(
    cost: Cost, model: PackedModel, facts: NetworkFacts, runs: int, threads: int, limits: Limits
) -> Cost:
    """Time the network in the runtime, on standard normal numbers (zeros for integers, as for tokens)."""
    from laconic.runtime import Network

    network = Network.from_packed(model, threads=threads, limits=limits)
    generator = np.random.default_rng(_SEED)
    arrays: list[AnyArray] = []
    for value in facts.values[: facts.n_inputs]:
        floating = np.issubdtype(np.dtype(value.dtype), np.floating)
        drawn = generator.standard_normal(value.shape) if floating else np.zeros(value.shape)
        arrays.append(drawn.astype(value.dtype))
    return measure(cost, lambda: network(*arrays), threads=threads, runs=runs)
