"""``laconic pack model.onnx``: the weights of an ONNX file compressed, its graph run or kept. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from laconic.errors import InputError


def is_onnx(path: str) -> bool:
    """Whether a file is ONNX, by its ending.

    >>> is_onnx("model.onnx"), is_onnx("model.safetensors")
    (True, False)
    """
    return path.lower().endswith(".onnx")


def run_pack_onnx(
    path: str,
    out: str | None,
    bits: float | None = None,
    step: float | None = None,
    keep: Sequence[str] = (),
    *,
    keep_graph: bool = False,
) -> int:
    """Compress an ONNX file, and print what became of it.

    Args:
        path: The ONNX file.
        out: The .lac file; None: beside the ONNX file.
        bits: Mean bits of a weight; 4 where neither is given.
        step: The step of all grids, in place of ``bits``.
        keep: Initialisers that stay exact.
        keep_graph: Keep the ONNX graph also where the runtime has all of its operators.

    Returns:
        The exit status, 0.

    Raises:
        LaconicError: What ``laconic.onnx_in.pack_onnx`` raises.
    """
    from laconic.onnx_in import pack_onnx

    target = str(Path(path).with_suffix(".lac")) if out is None else out
    if Path(target).suffix != ".lac":
        raise InputError(f"pack: --out {target} should end in .lac. Cure: --out {Path(target).stem}.lac")
    usual = 4.0 if bits is None and step is None else bits
    found = pack_onnx(path, target, bits=usual, step=step, keep=keep, keep_graph=keep_graph)
    for note in found.notes:
        print(f"note: {note}")
    print(
        f"{target}: {found.length} bytes, {found.original / found.length:.1f}x smaller than {path} "
        f"({found.original} bytes)"
    )
    print(f"{found.weights} weights in {found.tensors} tensors, {found.bits:.3f} bits of the file for each")
    trusted = " --trusted" if found.needs_trust else ""
    if found.runs:
        print(f"it runs: laconic run {target} x.npy{trusted}")
    print(f"as ONNX: laconic export {target} model.onnx{trusted}")
    return 0
