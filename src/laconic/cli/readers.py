"""The commands that read a .lac file. None of them imports torch."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from laconic.cli.data_files import test_part
from laconic.cli.originals import smaller_text
from laconic.cli.scoring import TestSet, in_batches, read_bytes, reading, score_batches, test_set
from laconic.cli.trust import limits_of
from laconic.errors import InputError, LaconicError, at
from laconic.files import replacing
from laconic.records import AnyArray, Graph, SectionRow
from laconic.records.element_types import element_type
from laconic.text import shortened, size_text

if TYPE_CHECKING:
    from laconic.pack import Limits
    from laconic.tasks import Task

T = TypeVar("T")


def run_inspect(path: str, *, trusted: bool = False, ratio: bool = True) -> int:
    """Print layers, levels, bits, and where each byte goes; the bytes add up to the file's length.

    With a run's record beside the file, also the bits that its weights need by their posterior.

    ``ratio``: whether to say how much smaller the file is than its own weights in float32.
    """
    from laconic.cli.posterior_bits import bits_beside
    from laconic.pack import layout
    from laconic.pack.file.container import decoded_graph, take_apart

    data, limits = read_bytes(path), limits_of(trusted)
    with at(f"reading {path!r}"):
        rows = layout(data, limits=limits)
    print(format_rows(rows))
    graph = decoded_graph(take_apart(data, limits), limits)
    if graph is not None:
        print("\n" + format_doors(graph))
        if graph.ranges:
            print(format_int8(data, limits))
    told = bits_beside(path, len(data))
    if told:
        print("\n" + told)
    weights = sum(r.weights for r in rows)
    total = sum(r.bytes for r in rows)
    print(f"\n{path}: {total} bytes, {weights} weights, {8 * total / max(1, weights):.3f} bits a weight")
    kept = any(r.section == "graph" and r.name for r in rows)  # with weights that are not counted
    if weights and ratio and not kept:
        print(
            smaller_text(path, total, weights) if graph is not None else _ratio_of_types(path, total, limits)
        )
    return 0


def _ratio_of_types(path: str, total: int, limits: Limits) -> str:
    """How much smaller a file of weights is than these in their own element types."""
    from laconic.pack import open as open_file

    file = open_file(path, check=False, limits=limits)
    rows = [file.info(name) for name in file]
    before = sum(math.prod(row.shape) * element_type(row.dtype).bytes for row in rows)
    return f"{before / total:.1f}x smaller than its tensors, {size_text(before)}"


def format_rows(rows: Sequence[SectionRow]) -> str:
    """A plain table of a file's rows in 80 columns, the sum below.

    A tensor that is not coded adaptively has its note behind the name, or below where both do not fit.
    """
    head = (
        f"{'name':<24} {'shape':<13} {'weights':>9} {'non-zero':>9} {'levels':>6} {'bits/w':>6} {'bytes':>7}"
    )
    lines = [head, "-" * len(head)]
    for r in rows:
        if r.section != "tensor":
            words = ", ".join(word for word in (r.name, r.note) if word)
            told = f"{r.section}: {words}" if words else r.section
            lines.append(f"{shortened(told, 72):<72} {r.bytes:>7}")
            continue
        note = "" if r.note.startswith("adaptive") else f" ({r.note.partition(',')[0]})"
        beside = note if len(r.name) + len(note) <= 24 else ""
        name = f"{shortened(r.name, 24)}{beside}"
        shape = shortened("x".join(map(str, r.shape)), 13)
        levels = r.levels or "-"  # what is no integers on a grid has none
        lines.append(
            f"{name:<24} {shape:<13} {r.weights:>9} {r.nonzeros:>9} {levels:>6} {r.bits_per_weight:>6.2f} "
            f"{r.bytes:>7}"
        )
        if beside != note:
            lines.append(f" {note}")
    lines.append("-" * len(head))
    lines.append(f"{'total':<72} {sum(r.bytes for r in rows):>7}")
    return "\n".join(lines)


def format_doors(graph: Graph) -> str:
    """Inputs and outputs in order: names, types, and free axes by name."""
    lines = [
        f"input   {shortened(name, 28):<28} {spec.dtype} ({', '.join(map(str, spec.sizes))})"
        for name, spec in zip(graph.input_names, graph.inputs, strict=True)
    ]
    lines += [f"output  {shortened(name, 70)}" for name in graph.result_names]
    return "\n".join([*lines, "returns a dictionary"] if graph.keyed else lines)


def format_int8(data: bytes, limits: Limits) -> str:
    """The matrices of a calibrated file that are multiplied in float32, and why."""
    from laconic.pack import decode
    from laconic.runtime.engines.float_choice import float_layers
    from laconic.runtime.int8.schedule import schedule_of

    model = decode(data, limits=limits)
    left = [] if model.graph is None else float_layers(model, schedule_of(model.graph), 1)
    lines = [
        f"        {layer.name:<28} {'x'.join(map(str, layer.shape)):<16} {layer.reason}" for layer in left
    ]
    return "\n".join(["int8    calibrated" + (", but for" if lines else ""), *lines])


def run_verify(
    path: str,
    data: str,
    task: Task,
    *,
    as_json: bool = False,
    arithmetic: str | None = None,
    trusted: bool = False,
) -> int:
    """Decode the file, score it on the whole test set, and say whether that needed PyTorch.

    ``arithmetic`` names a device's (see :mod:`laconic.cli.arithmetic`); None is the runtime's own.
    """
    read_bytes(path)  # a misspelt name is refused before a data set is downloaded
    chosen = _file_set(data) if data.endswith(".npz") else test_set(data)
    result = {"set": chosen.name, **score_batches(path, chosen.batches, task, arithmetic, trusted)}
    if as_json:
        print(json.dumps(result))
        return 0
    metric = task.metric
    nats = "" if result["nll"] is None else f", {result['nll']:.4f} nats per term"
    over = _terms(task, result["terms"])
    print(
        f"{path}: {result['bytes']} bytes, {smaller_text(path, result['bytes'], result['fp32_bytes'] // 4)}\n"
        f"{chosen.name} {metric.name} {metric.show(result['value'])} over {over}{nats}\n"
        f"torch imported: {_torch_line(bool(result['torch_imported']))}"
    )
    if arithmetic is not None:
        print(result["arithmetic"])
    return 0


def _file_set(data: str) -> TestSet:
    """The test examples of a .npz file."""
    name, examples = test_part(data, read_archive(data, "--data "))
    return TestSet(name, in_batches(*examples))


def _terms(task: Task, number: int) -> str:
    """A number of likelihood terms in the task's word, as "360 examples"."""
    return f"{number} {task.term}{'' if number == 1 else 's'}"


def _torch_line(imported: bool) -> str:
    """What it means that this process has, or has not, imported PyTorch."""
    if not imported:
        return "no (the file was decoded and run without PyTorch)"
    return (
        "yes, by code of your own (--data, --task).\n"
        "The file itself needs no PyTorch; a --data function that returns NumPy arrays shows it"
    )


def run_network(path: str, inputs: Sequence[str], out: str | None, *, trusted: bool = False) -> int:
    """Run a file on arrays: .npy in order, .npz by the inputs' names; print or save the outputs."""
    from laconic.runtime import load

    if out is not None and Path(out).suffix != ".npy":
        raise InputError(f"run: --out {out} should end in .npy. Cure: --out {Path(out).stem or 'output'}.npy")
    with reading(path):
        net = load(path, limits=limits_of(trusted))
    placed, named = read_inputs(inputs)
    outputs = net.run(net.in_order(placed, named))
    for index, array in enumerate(outputs):
        if out is None:
            print(array)
        else:
            name = Path(out) if len(outputs) == 1 else Path(out).with_stem(f"{Path(out).stem}{index}")
            _save_array(name, array)
            print(f"{name}: {array.dtype} {array.shape}")
    return 0


def _save_array(path: Path, array: AnyArray) -> None:
    with replacing(path) as stream:
        np.save(stream, array)


def read_inputs(names: Sequence[str]) -> tuple[list[AnyArray], dict[str, AnyArray]]:
    """The arrays of files: those by position, and those by name.

    Args:
        names: ``.npy`` files, whose arrays are inputs by position, and ``.npz`` files, whose arrays are
            inputs by the names that they have there; ``arr_0``, ``arr_1``, ... of ``numpy.savez`` are by
            position.

    Raises:
        InputError: A file that is no whole array or archive of numbers, an empty archive, or a name twice.
    """
    placed: list[AnyArray] = []
    named: dict[str, AnyArray] = {}
    for name in names:
        if not name.endswith(".npz"):
            placed.append(read_array(name))
            continue
        found = read_archive(name)
        if not found:
            raise InputError(f"{name} holds no array. Cure: numpy.savez(name, x=array), by an input's name")
        unnamed = in_place(found)
        if unnamed is not None:
            placed.extend(unnamed)
            continue
        twice = next((key for key in found if key in named), None)
        if twice is not None:
            raise InputError(f"{name}: input {twice!r} is in an earlier file, too. Cure: leave one out")
        named |= found
    return placed, named


def in_place(arrays: Mapping[str, T]) -> list[T] | None:
    """The arrays of ``numpy.savez(name, first, second)`` in their order; None where one has a name.

    >>> in_place({"arr_1": np.array(3), "arr_0": np.array(2)})
    [array(2), array(3)]
    """
    if not all(re.fullmatch(r"arr_\d+", key) for key in arrays):
        return None
    return [arrays[key] for key in sorted(arrays, key=lambda key: int(key.removeprefix("arr_")))]


def read_archive(name: str, what: str = "") -> dict[str, AnyArray]:
    """The arrays of a .npz file by name; what is none is an InputError. ``what``: the option that took it."""
    try:
        with reading(name), np.load(name, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except LaconicError:
        raise
    except Exception as error:  # NumPy raises many kinds for a wrong file
        raise InputError(
            f"{what}{name} is no whole archive of numbers ({type(error).__name__}). "
            "Cure: numpy.savez(name, input_ids=array)"
        ) from error


def read_array(name: str) -> AnyArray:
    """One array saved with ``numpy.save``; anything else is an InputError."""
    try:
        with reading(name):
            array = np.load(name, allow_pickle=False)
    except LaconicError:
        raise
    except Exception as error:  # NumPy raises many kinds for a wrong file; its own cures are not ours
        raise InputError(
            f"{name} is no whole array of numbers saved with numpy.save ({type(error).__name__}). "
            "Cure: numpy.save(name, array)"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(
            f"{name} is an archive of arrays, not one. Cure: numpy.save(name, array), or name it .npz"
        )
    return array


def run_export(path: str, target: str, *, int8: bool = False, trusted: bool = False) -> int:
    """Write a standard ONNX model, in float32 or, of a calibrated file, in int8."""
    from laconic.runtime import export_onnx

    if Path(target).suffix != ".onnx":
        raise InputError(f"export: {target} should end in .onnx. Cure: name it model.onnx")
    with reading(path):
        export_onnx(path, target, precision="int8" if int8 else "fp32", limits=limits_of(trusted))
    print(f"{target}: {os.path.getsize(target)} bytes")
    return 0
