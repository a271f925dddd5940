"""Parser and dispatch of ``laconic compress|inspect|verify|run|bench|cost|export``."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from laconic import __version__
from laconic.cli.cost import add_cost
from laconic.cli.trust import add_trusted
from laconic.errors import InputError, LaconicError

RUN_FILE = """\
a run file holds options by their names, then a [settings] table of what --set takes:

  network = "digits-mlp"        # or: model = "package.module:function"
  method = "magnitude"          # also data, preset, target, seed, threads, out, int8 = true
  [settings]
  sparsity = 0.9                # any field of the method
  grid.steps = [0.5, 1.0]
  fit.epochs = 20               # training with the method
  reference.epochs = 30         # training before it, of a built-in network
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0, 2 for an error that it names, 130 when interrupted, 143 when terminated (128 and the signal's number),
    141 when the reader of its output has gone.
    """
    arguments = _parser().parse_args(argv)
    try:
        with _signals_as_interruptions(), _any_text():
            status = int(arguments.command(arguments) or 0)
            if sys.stdout is not None:  # it was closed before we began
                sys.stdout.flush()
        return status
    except LaconicError as error:
        print(f"laconic: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        print(f"laconic: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        ended = error if isinstance(error, _Ended) else _Ended(signal.SIGINT)
        # whoever was at work says what can be gone on with
        print("; ".join([f"laconic: {ended}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        return 128 + ended.number


@contextmanager
def _any_text() -> Iterator[None]:
    """Print as escapes what the output's encoding does not have: names may hold any character."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=before)


class _Ended(KeyboardInterrupt):
    """A signal asked the process to end: like an interruption, everything is left in order."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__("interrupted" if number == signal.SIGINT else "terminated")


@contextmanager
def _signals_as_interruptions() -> Iterator[None]:
    """SIGTERM and SIGHUP (the terminal closes) end the command as an interruption does, if nobody has
    another use for them.

    A second signal ends it at once.
    """
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # Python lets no other thread take signals

    def end(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        raise _Ended(number)

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _drop_output() -> None:
    """Let what is still buffered go nowhere, or the interpreter complains of the pipe when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="laconic",
        description="Neural networks in fewer bits.",
        epilog="laconic COMMAND --help says more; compress also takes a run file (TOML) with --config.",
    )
    parser.add_argument("--version", action="version", version=f"laconic {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_compress(commands)
    _add_readers(commands)
    return parser


def _add_compress(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = commands.add_parser(
        "compress",
        help="train, prune, quantise and pack a network into one .lac file",
        epilog=RUN_FILE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("network", nargs="?", help="lenet5, lenet300, digits-mlp or digits-cnn (or use --model)")
    p.add_argument(
        "--model", metavar="MODULE:FUNCTION", help="your own trained network: a function that returns it"
    )
    p.add_argument("--data", help="digits, mnist, fashion-mnist, or MODULE:FUNCTION returning the loaders")
    p.add_argument(
        "--method",
        help="sparse-vd (default), vnq, magnitude, taylor, filters, apoz, mean-activation, fisher or random",
    )
    p.add_argument("--preset", help="full (default) or demo: how long to train")
    p.add_argument("--target", help="what may be lost or how long the file may be: 0.3pt, 5kB")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any field: fit.epochs=20")
    p.add_argument("--config", metavar="FILE", help="a run file (TOML), see below; options win over it")
    p.add_argument("--seed", type=int, help="seed of everything random (default 0)")
    p.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    p.add_argument("--out", metavar="FOLDER", help="run folder (default runs/NETWORK-METHOD)")
    p.add_argument(
        "--int8",
        action="store_true",
        default=None,
        help="calibrate on training data, so that it runs in int8",
    )
    p.add_argument(
        "--shrink",
        action="store_true",
        default=None,
        help="remove units that are left without a weight: a physically smaller network",
    )
    p.add_argument(
        "--no-picture",
        dest="picture",
        action="store_false",
        default=None,
        help="draw no report.png (one is drawn where matplotlib is installed)",
    )
    p.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    p.set_defaults(command=_compress)


def _add_readers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = commands.add_parser("inspect", help="what is in a file and where each byte goes; runs nothing")
    p.add_argument("file")
    add_trusted(p)
    p.set_defaults(command=_inspect)
    p = commands.add_parser("verify", help="decode a file without torch and score it on a test set")
    p.add_argument("file")
    p.add_argument("--data", required=True, help="digits, mnist, fashion-mnist, or MODULE:FUNCTION")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    p.add_argument(
        "--arithmetic",
        metavar="NAME",
        help="fp32, or a device's, emulated bit for bit: int8, int8-single, int16, ternary, ternary-int16",
    )
    add_trusted(p)
    p.set_defaults(command=_verify)
    p = commands.add_parser("run", help="run a file on arrays saved with numpy")
    p.add_argument("file")
    p.add_argument("inputs", nargs="+", metavar="INPUT.npy")
    p.add_argument("--out", metavar="OUTPUT.npy", help="where the output goes (default: printed)")
    add_trusted(p)
    p.set_defaults(command=_run)
    p = commands.add_parser(
        "bench", help="time loading and predicting: engines, and the original, side by side"
    )
    p.add_argument("file")
    p.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    p.add_argument("--threads", type=int, default=1)
    p.add_argument(
        "--engine",
        nargs="+",
        default=[],
        help="auto, fastest, onnxruntime, sparse, openvino (default: all but sparse)",
    )
    p.add_argument(
        "--original", metavar="MODULE:FUNCTION|FILE.onnx", help="the network before it was compressed"
    )
    add_trusted(p)
    p.set_defaults(command=_bench)
    add_cost(commands)
    p = commands.add_parser("export", help="write a standard ONNX model")
    p.add_argument("file")
    p.add_argument("onnx", metavar="MODEL.onnx")
    p.add_argument("--int8", action="store_true", help="with QuantizeLinear nodes, of a calibrated file")
    add_trusted(p)
    p.set_defaults(command=_export)


def _compress(arguments: argparse.Namespace) -> int:
    from laconic.cli.request import parse_request

    request = parse_request(arguments)
    try:
        from laconic.cli.compress import run_compress
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "lightning_fabric"):
            raise
        raise InputError(
            f"laconic compress needs {error.name}, which the plain install leaves out. "
            "Cure: pip install 'laconic[train]'"
        ) from error
    return run_compress(request, resume=arguments.resume)


def _inspect(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_inspect

    return run_inspect(arguments.file, trusted=arguments.trusted)


def _verify(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_verify

    return run_verify(
        arguments.file,
        arguments.data,
        as_json=arguments.json,
        arithmetic=arguments.arithmetic,
        trusted=arguments.trusted,
    )


def _run(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_network

    return run_network(arguments.file, arguments.inputs, arguments.out, trusted=arguments.trusted)


def _bench(arguments: argparse.Namespace) -> int:
    from laconic.cli.bench import run_bench

    return run_bench(
        arguments.file,
        arguments.batch,
        arguments.threads,
        arguments.engine,
        arguments.original,
        trusted=arguments.trusted,
    )


def _export(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_export

    return run_export(arguments.file, arguments.onnx, int8=arguments.int8, trusted=arguments.trusted)
