"""A counted cost on a device: seconds by roofline, energy by per-operation and per-access tables.

An operation takes the longer of its arithmetic and its memory traffic (S. Williams, A. Waterman,
D. Patterson, "Roofline: an insightful visual performance model for multicore architectures", CACM 52(4),
2009), and the overhead of a call. Energy is MACs times the energy of a MAC plus bytes times the energy of a
byte of the memory that holds them (M. Horowitz, "Computing's energy problem (and what we can do about it)",
ISSCC 2014, figure 1.1.9; the device files mark the numbers taken from it).

Placement: weights are in the smallest memory that holds all of them, together with the activations' peak if
it may hold both (they stay there between calls); the activations of an operation are in the smallest memory
that holds all that it reads and writes, its weights included if it may hold both.
"""

from __future__ import annotations

from dataclasses import replace

from laconic.cost.device import Device, Memory
from laconic.cost.tables import Cost, Estimate, Fit, LayerCost, LayerEstimate


def estimate(cost: Cost, device: Device) -> Cost:
    """The same cost with its ``estimated`` field filled for a device.

    A linear layer with zeros runs dense or sparse, whichever the device does faster; a device without a
    sparse kernel keeps weights in few-bit form.

    Args:
        cost: What was counted.
        device: The device, as :func:`laconic.cost.read_device` returns it.

    Returns:
        The same cost with seconds and joules in ``estimated``.

    Raises:
        InputError: The device has no arithmetic for the network's widths.

    Example:
        >>> from laconic.cost import read_device
        >>> estimate(Cost(((1, 4),), (), 0, 8, 6, 32, 8, 8), read_device("cortex-m7")).estimated.fits_all
        True
    """
    has_sparse = device.sparse_macs_per_cycle > 0
    weights = cost.weights_stored_bytes if has_sparse else cost.weights_few_bit_bytes
    home = device.nearest("weights", weights, cost.peak_activation_bytes)
    layers = tuple(_layer(layer, device, home) for layer in cost.layers)
    fits = _fits(cost, device, weights)
    return replace(cost, estimated=Estimate(device.name, layers, fits, device.active_watts))


def _fits(cost: Cost, device: Device, weights: int) -> tuple[Fit, ...]:
    peak = cost.peak_activation_bytes
    for_weights, for_activations = device.home("weights"), device.home("activations")
    if for_weights == for_activations:
        return (Fit(for_weights.name, "weights and activations", weights + peak, for_weights.bytes),)
    return (
        Fit(for_weights.name, "weights", weights, for_weights.bytes),
        Fit(for_activations.name, "activations", peak, for_activations.bytes),
    )


def _layer(layer: LayerCost, device: Device, home: Memory) -> LayerEstimate:
    dense = _path(layer, device, home, sparse=False)
    if layer.sparse_traffic is None or device.sparse_macs_per_cycle == 0:
        return dense
    sparse = _path(layer, device, home, sparse=True)
    return sparse if sparse.seconds < dense.seconds else dense


def _path(layer: LayerCost, device: Device, home: Memory, *, sparse: bool) -> LayerEstimate:
    """One operation, its weights dense or sparse."""
    weight_bytes = layer.sparse_traffic or 0 if sparse else layer.weight_traffic
    macs = layer.macs_nonzero if sparse else layer.macs
    product = device.arithmetic(layer.weight_bits, layer.activation_bits)
    other = device.arithmetic(layer.activation_bits, layer.activation_bits)
    rate = device.sparse_macs_per_cycle if sparse else product.macs_per_cycle
    compute = (macs / rate + layer.other_ops / other.macs_per_cycle) / device.clock_hz
    near = device.nearest("activations", layer.activation_traffic, weight_bytes)
    moved = weight_bytes / home.bytes_per_second + layer.activation_traffic / near.bytes_per_second
    return LayerEstimate(
        name=layer.name,
        path="" if not layer.weight_traffic else "sparse" if sparse else "dense",
        arithmetic=product.name if layer.macs else other.name,
        weights_in=home.name,
        activations_in=near.name,
        moved_bytes=weight_bytes + layer.activation_traffic,
        compute_seconds=compute,
        traffic_seconds=moved,
        seconds=max(compute, moved) + (device.seconds_per_operation if layer.own_pass else 0.0),
        arithmetic_fj=macs * product.fj_per_mac + layer.other_ops * other.fj_per_mac,
        memory_fj=weight_bytes * home.fj_per_byte + layer.activation_traffic * near.fj_per_byte,
    )
