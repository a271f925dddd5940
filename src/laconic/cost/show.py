"""A cost as text and as plain data: a table whose rows add up, two costs side by side, JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from laconic.cost.tables import Cost, Estimate
from laconic.text import shortened


def layer_table(cost: Cost) -> str:
    """One row per operation that costs anything, the sums below (memory: the peak), in 80 columns.

    The first table shows arithmetic, the second memory. With a device, the second also shows microseconds and
    nanojoules, and its traffic is that of the path (dense or sparse) that the device takes.
    """
    costly = [
        k
        for k, layer in enumerate(cost.layers)
        if layer.macs or layer.other_ops or layer.weight_traffic or layer.activation_traffic
    ]
    return f"{_arithmetic_table(cost, costly)}\n\n{_memory_table(cost, costly)}"


def _arithmetic_table(cost: Cost, costly: list[int]) -> str:
    head = f"{'layer':<20} {'operation':<13} {'output':<14} {'bits':>5} {'MACs':>12} {'non-zero':>11}"
    lines = [head, "-" * len(head)]
    for layer in (cost.layers[k] for k in costly):
        bits = f"{layer.weight_bits or '-'}x{layer.activation_bits}"
        shape = shortened("x".join(map(str, layer.shape)), 14)
        lines.append(
            f"{shortened(layer.name, 20):<20} {shortened(layer.op, 13):<13} {shape:<14} {bits:>5} "
            f"{layer.macs:>12} {layer.macs_nonzero:>11}"
        )
    total = f"{'total':<20} {'':<13} {'':<14} {'':>5} {cost.macs:>12} {cost.macs_nonzero:>11}"
    return "\n".join([*lines, "-" * len(head), total])


def _memory_table(cost: Cost, costly: list[int]) -> str:
    estimated = cost.estimated
    head = f"{'layer':<20} {'other':>10} {'moved, B':>11} {'live, B':>10}"
    head += f" {'path':>6} {'us':>9} {'nJ':>8}" if estimated else ""
    lines = [head, "-" * len(head)]
    for k in costly:
        layer, on = cost.layers[k], estimated.layers[k] if estimated else None
        moved = on.moved_bytes if on else layer.weight_traffic + layer.activation_traffic
        row = f"{shortened(layer.name, 20):<20} {layer.other_ops:>10} {moved:>11} {layer.live_bytes:>10}"
        row += f" {on.path:>6} {_fixed(1e6 * on.seconds)} {_fixed(1e-6 * on.energy_fj, 8)}" if on else ""
        lines.append(row)
    moved = sum(on.moved_bytes for on in estimated.layers) if estimated else cost.traffic_bytes
    total = f"{'total':<20} {cost.other_ops:>10} {moved:>11} {cost.peak_activation_bytes:>10}"
    if estimated:
        total += f" {'':>6} {_fixed(1e6 * estimated.seconds)} {_fixed(1e-6 * estimated.energy_fj, 8)}"
    return "\n".join([*lines, "-" * len(head), total])


def _fixed(value: float, width: int = 9) -> str:
    """A number right-aligned, with as many decimals (at most 3) as the width has room for.

    >>> _fixed(12.3456), _fixed(1234567.89), _fixed(123456789.0, 8)
    ('   12.346', '1234567.9', '1.23e+08')
    """
    for decimals in (3, 2, 1, 0):
        text = f"{value:.{decimals}f}"
        if len(text) <= width:
            return text.rjust(width)
    return f"{value:.2e}".rjust(width)


def verdict(estimated: Estimate) -> str:
    """Lines on memory fit, latency and energy."""
    lines = []
    for fit in estimated.fits:
        room = f"{fit.spare_bytes} bytes to spare" if fit.fits else f"{-fit.spare_bytes} bytes too many"
        lines.append(
            f"{'fits' if fit.fits else 'DOES NOT FIT'}: {fit.content} take {fit.needed_bytes} of "
            f"{fit.available_bytes} bytes of {fit.memory}, {room}"
        )
    lines.append("   (the program itself and its stack are not counted)")
    lines.append(f"latency, estimated: {1e3 * estimated.seconds:.3f} ms")
    lines.append(f"energy, estimated: {1e6 * estimated.device_joules:.3f} uJ as active power x latency")
    lines.append(f"   {1e6 * estimated.table_joules:.3f} uJ for arithmetic and memory alone, at 45 nm")
    return "\n".join(lines)


def side_by_side(before: Cost, after: Cost) -> str:
    """Two costs in two columns, and the ratio after / before of each figure.

    >>> from laconic.cost.tables import Cost
    >>> print(side_by_side(Cost((), (), 80, 10, 10, 40, 40, 40), Cost((), (), 20, 5, 5, 20, 20, 20)))
    ... # doctest: +ELLIPSIS
                                   before          after   ratio
    bytes on disk                      80             20   0.250
    weights                            10              5   0.500
    ...
    """
    rows: list[tuple[str, float, float]] = [
        ("bytes on disk", before.file_bytes, after.file_bytes),
        ("weights", before.weights, after.weights),
        ("weights not zero", before.weights_nonzero, after.weights_nonzero),
        ("weight bytes, fp32", before.weights_dense_bytes, after.weights_dense_bytes),
        ("weight bytes, stored", before.weights_stored_bytes, after.weights_stored_bytes),
        ("peak activation bytes", before.peak_activation_bytes, after.peak_activation_bytes),
        ("MACs", before.macs, after.macs),
        ("MACs not by zero", before.macs_nonzero, after.macs_nonzero),
        ("bytes moved", before.traffic_bytes, after.traffic_bytes),
    ]
    a, b = before.estimated, after.estimated
    if a is not None and b is not None:
        rows.append(("us, estimated", 1e6 * a.seconds, 1e6 * b.seconds))
        rows.append(("nJ, estimated", 1e-6 * a.energy_fj, 1e-6 * b.energy_fj))
    if before.measured is not None and after.measured is not None:
        rows.append(("us, measured", 1e6 * before.measured.seconds, 1e6 * after.measured.seconds))
    lines = [f"{'':<22} {'before':>14} {'after':>14} {'ratio':>7}"]
    for name, x, y in rows:
        ratio = f"{y / x:.3f}" if x else "-"
        lines.append(f"{name:<22} {_number(x):>14} {_number(y):>14} {ratio:>7}")
    return "\n".join(lines)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def as_data(cost: Cost) -> dict[str, Any]:
    """A cost as JSON-able data: the records' fields, and the sums under their names."""
    data = asdict(cost)
    data["macs_by_bits"] = {f"{w}x{a}": n for (w, a), n in cost.macs_by_bits.items()}
    for name in ("macs", "macs_nonzero", "other_ops", "peak_activation_bytes", "traffic_bytes"):
        data[name] = getattr(cost, name)
    if cost.estimated is not None:
        estimated = cost.estimated
        data["estimated"] |= {
            "seconds": estimated.seconds,
            "table_joules": estimated.table_joules,
            "device_joules": estimated.device_joules,
            "fits_all": estimated.fits_all,
        }
    return data
