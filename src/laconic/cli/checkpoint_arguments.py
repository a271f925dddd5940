"""The options of ``laconic pack`` and ``laconic unpack``."""

from __future__ import annotations

import argparse
from typing import Any

from laconic.cli.parser import add_command
from laconic.cli.trust import add_trusted

PACK_EXAMPLES = """\
examples:
  laconic pack model.safetensors --bits 4 --out model.lac
  laconic pack model.safetensors --target 3.5bits --keep 'lm_head.*' --out model.lac
  laconic pack model.safetensors --lossless --out model.lac
  laconic pack model.onnx --bits 4 --out model.lac
  laconic pack finetuned.safetensors --lossless --parent model.lac --out finetuned.lac
"""


def add_checkpoints(commands: argparse._SubParsersAction[Any]) -> None:
    """Both commands."""
    p = add_command(
        commands,
        "pack",
        "compress a checkpoint of any architecture, or an ONNX file (--bits or --step), without data",
        PACK_EXAMPLES,
    )
    p.add_argument(
        "checkpoint",
        metavar="MODEL",
        help="a .safetensors or .onnx file, or the .index.json of several .safetensors files",
    )
    rate = p.add_mutually_exclusive_group(required=True)
    rate.add_argument("--bits", type=float, help="entropy-coded bits a weight of each matrix")
    rate.add_argument("--step", type=float, help="step of each matrix, in units of its root mean square")
    rate.add_argument(
        "--target", metavar="3.5bits|10MB", help="checkpoints: bits a weight, or length, of the whole file"
    )
    rate.add_argument("--lossless", action="store_true", help="checkpoints: keep every tensor bit for bit")
    p.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="NAME",
        help="a tensor that is kept bit for bit, a layer, or a pattern with *; may be given several times",
    )
    p.add_argument("--all", action="store_true", help="list all tensors, not the 40 largest alone")
    p.add_argument(
        "--parent", metavar="PARENT.lac", help="checkpoints: store only what differs from this file"
    )
    p.add_argument(
        "--keep-graph", action="store_true", help="store an ONNX graph as it is, also where it could be run"
    )
    p.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    p.add_argument("--out", required=True, metavar="MODEL.lac", help="an existing file is replaced")
    add_trusted(p, "of reading the parent: any memory and time (default: 64 MiB + 16x the file, a second)")
    p.set_defaults(command="pack")
    p = add_command(
        commands,
        "unpack",
        "give the tensors of a file back as safetensors",
        "examples:\n  laconic unpack model.lac --out model.safetensors\n"
        "  laconic unpack finetuned.lac --parent model.lac --out finetuned.safetensors",
    )
    p.add_argument("file", metavar="MODEL.lac")
    p.add_argument("--parent", metavar="PARENT.lac", help="the file that this one is a difference from")
    p.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    p.add_argument("--out", required=True, metavar="MODEL.safetensors", help="an existing file is replaced")
    add_trusted(p)
    p.set_defaults(command="unpack")
