"""Parser and dispatch of ``laconic compress|inspect|verify|run|bench|export``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from laconic import __version__
from laconic.errors import LaconicError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for an error that it names, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments) or 0)
    except LaconicError as error:
        print(f"laconic: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"laconic: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("laconic: interrupted; go on with --resume", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="laconic", description="Neural networks in fewer bits.")
    parser.add_argument("--version", action="version", version=f"laconic {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_compress(commands)
    _add_readers(commands)
    return parser


def _add_compress(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = commands.add_parser("compress", help="train, prune, quantise and pack a network into one .lac file")
    p.add_argument("network", nargs="?", help="lenet5, lenet300, digits-mlp or digits-cnn (or use --model)")
    p.add_argument(
        "--model", metavar="MODULE:FUNCTION", help="your own trained network: a function that returns it"
    )
    p.add_argument("--data", help="digits, mnist, fashion-mnist, or MODULE:FUNCTION returning the loaders")
    p.add_argument("--method", help="sparse-vd (default), vnq or magnitude")
    p.add_argument("--preset", help="full (default) or demo: how long to train")
    p.add_argument("--target", help="what may be lost or how long the file may be: 0.3pt, 5kB")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any field: fit.epochs=20")
    p.add_argument("--config", metavar="FILE", help="a run file (TOML) with the same names as these options")
    p.add_argument("--seed", type=int, help="seed of everything random (default 0)")
    p.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    p.add_argument("--out", metavar="FOLDER", help="run folder (default runs/NETWORK-METHOD)")
    p.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    p.set_defaults(command=_compress)


def _add_readers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = commands.add_parser("inspect", help="what is in a file and where each byte goes; runs nothing")
    p.add_argument("file")
    p.set_defaults(command=_inspect)
    p = commands.add_parser("verify", help="decode a file without torch and score it on a test set")
    p.add_argument("file")
    p.add_argument("--data", required=True, help="digits, mnist, fashion-mnist, or MODULE:FUNCTION")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    p.set_defaults(command=_verify)
    p = commands.add_parser("run", help="run a file on arrays saved with numpy")
    p.add_argument("file")
    p.add_argument("inputs", nargs="+", metavar="INPUT.npy")
    p.add_argument("--out", metavar="OUTPUT.npy", help="where the output goes (default: printed)")
    p.set_defaults(command=_run)
    p = commands.add_parser("bench", help="time decoding, building and predicting")
    p.add_argument("file")
    p.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    p.add_argument("--threads", type=int, default=1)
    p.set_defaults(command=_bench)
    p = commands.add_parser("export", help="write a standard ONNX model")
    p.add_argument("file")
    p.add_argument("onnx", metavar="MODEL.onnx")
    p.set_defaults(command=_export)


def _compress(arguments: argparse.Namespace) -> int:
    from laconic.cli.compress import run_compress

    return run_compress(arguments)


def _inspect(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_inspect

    return run_inspect(arguments.file)


def _verify(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_verify

    return run_verify(arguments.file, arguments.data, as_json=arguments.json)


def _run(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_network

    return run_network(arguments.file, arguments.inputs, arguments.out)


def _bench(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_bench

    return run_bench(arguments.file, arguments.batch, arguments.threads)


def _export(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_export

    return run_export(arguments.file, arguments.onnx)
