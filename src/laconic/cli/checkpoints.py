"""``laconic pack`` and ``laconic unpack``: whole checkpoints, and the weights of ONNX files. No torch."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from laconic.checkpoints import CheckpointReport, pack_checkpoint, unpack_checkpoint
from laconic.cli.onnx_files import is_onnx, run_pack_onnx
from laconic.cli.settings import check_threads, parse_size
from laconic.cli.trust import limits_of
from laconic.errors import InputError
from laconic.pack import TensorFile
from laconic.pack import open as open_file
from laconic.text import counted, shortened, size_text

_ROWS = 40
_OTHER_FORMATS = (".pt", ".pth", ".bin", ".onnx", ".npz", ".npy", ".lac", ".h5")


def run_pack(arguments: argparse.Namespace) -> int:
    """Pack a checkpoint or an ONNX file, and print what became of its tensors."""
    check_threads(arguments.threads)
    if is_onnx(arguments.checkpoint):
        return _run_onnx(arguments)
    max_bytes, max_bits = (None, None) if arguments.target is None else parse_target(arguments.target)
    report = pack_checkpoint(
        arguments.checkpoint,
        arguments.out,
        bits=arguments.bits,
        step=arguments.step,
        max_bytes=max_bytes,
        max_bits=max_bits,
        lossless=arguments.lossless,
        keep=arguments.keep,
        parent=_parent(arguments),
        threads=arguments.threads,
    )
    print(format_report(report, arguments.out, len(report.tensors) if arguments.all else _ROWS))
    for note in report.notes:
        print(f"note: {note}")
    return 0


def _parent(arguments: argparse.Namespace) -> TensorFile | None:
    """The opened parent, within the limits that were asked for; None without one."""
    if arguments.parent is None:
        return None
    return open_file(arguments.parent, limits=limits_of(arguments.trusted), threads=arguments.threads)


def _run_onnx(arguments: argparse.Namespace) -> int:
    """Pack the weights of an ONNX file; raises InputError for an option that only checkpoints have."""
    for option in ("target", "lossless", "parent"):
        if getattr(arguments, option):
            raise InputError(
                f"pack: --{option} is for checkpoints, not for {arguments.checkpoint}. "
                "Cure: --bits or --step, or a .safetensors file"
            )
    a = arguments
    return run_pack_onnx(a.checkpoint, a.out, a.bits, a.step, a.keep, keep_graph=a.keep_graph)


def run_unpack(arguments: argparse.Namespace) -> int:
    """Write the tensors of a file as safetensors."""
    check_threads(arguments.threads)
    if arguments.out.endswith(_OTHER_FORMATS):
        raise InputError(
            f"unpack: --out {arguments.out} should end in .safetensors, which is what is written. "
            f"Cure: --out {Path(arguments.out).stem or 'model'}.safetensors"
        )
    if arguments.file.endswith((".safetensors", ".onnx")):
        raise InputError(
            f"unpack: {arguments.file} is no .lac file. Cure: laconic pack {arguments.file} --bits 4 "
            "--out model.lac makes one"
        )
    size = unpack_checkpoint(
        arguments.file,
        arguments.out,
        parent=arguments.parent,
        limits=limits_of(arguments.trusted),
        threads=arguments.threads,
    )
    print(f"{arguments.out}: {size_text(size)}")
    return 0


def parse_target(text: str) -> tuple[int | None, float | None]:
    """Bytes of a file, or bits a weight; the other is None.

    >>> parse_target("3.5bits"), parse_target("10MB")
    ((None, 3.5), (10000000, None))
    """
    number = text.strip().lower()
    for unit in ("bits", "bit"):
        if number.endswith(unit):
            try:
                return None, float(number.removesuffix(unit))
            except ValueError as error:
                raise InputError(f"--target {text!r} is no number of bits. Cure: 3.5bits") from error
    unit, value = parse_size(text)
    if unit != "B":
        raise InputError(f"--target {text!r} has no unit of a checkpoint. Cure: 3.5bits, or 10MB")
    return round(value), None


def format_report(report: CheckpointReport, path: str, rows: int = _ROWS) -> str:
    """A table of the largest tensors (``rows`` of them), sums by form, and the file's size."""
    head = f"{'tensor':<25} {'weights':>11} {'bits/w':>6} {'error':>7}  form"
    lines = [head, "-" * 80]
    largest = sorted(report.tensors, key=lambda row: -row.bytes)[:rows]
    shown = set(largest)
    for row in report.tensors:
        if row in shown:
            bits = f"{8 * row.bytes / row.weights:.2f}" if row.weights else "-"
            error = f"{100 * row.error:.2f} %" if row.error else "-"
            lines.append(f"{shortened(row.name, 25):<25} {row.weights:>11} {bits:>6} {error:>7}  {row.form}")
    if any(row.error for row in report.tensors):
        lines.append("bits/w: of the file, headers too; bits of a form: expected, of weights alone")
    if len(report.tensors) > rows:
        lines.append(f"... and {counted(len(report.tensors) - rows, 'smaller tensor')} (--all lists them)")
    if report.aliases:
        some = ", ".join(f"{a} = {b}" for a, b in list(report.aliases.items())[:3])
        lines.append(f"{counted(len(report.aliases), 'tensor')} equal to another: {some}")
    kept = Counter(row.form for row in report.tensors if row.form.startswith("exact"))
    lines += [f"{counted(n, 'tensor')} {form}" for form, n in kept.items()]
    ratio = report.original_bytes / max(1, report.bytes)
    lines.append(
        f"\n{path}: {size_text(report.bytes)}, {report.bits_per_weight:.3f} bits a weight, "
        f"{ratio:.2f}x smaller than the checkpoint's tensors, {size_text(report.original_bytes)}"
    )
    return "\n".join(lines)
