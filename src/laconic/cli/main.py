"""Parser and dispatch of the command line."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from laconic import __version__
from laconic.cli.cost import add_cost
from laconic.cli.parser import Parser, add_command
from laconic.cli.run_file_help import HELP as RUN_FILE_HELP
from laconic.cli.trust import add_trusted
from laconic.errors import InputError, LaconicError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0; 2 for an error that it names; 3 for a target that was missed; 130 when interrupted; 143 when terminated
    (128 and the signal's number); 141 when the reader of its output has gone.
    """
    arguments = command_parser().parse_args(argv)
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


def command_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="laconic",
        description="Neural networks in fewer bits.",
        epilog="laconic COMMAND --help says more, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"laconic {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_compress(commands)
    _add_readers(commands)
    add_cost(commands)
    _add_lists(commands)
    for each in commands.choices.values():
        each.set_defaults(parser=each)
    return parser


def _add_lists(commands: argparse._SubParsersAction[Any]) -> None:
    for name, registry, example in (
        ("methods", "METHODS", "sparse-vd"),
        ("tasks", "TASKS", "segmentation"),
        ("priors", "PRIORS", "log-uniform"),
        ("posteriors", "POSTERIORS", "gaussian"),
    ):
        p = add_command(
            commands,
            name,
            f"the {name} there are; with a name, its fields and their defaults",
            f"examples:\n  laconic {name}\n  laconic {name} {example}",
        )
        p.add_argument("name", nargs="?", metavar="NAME|MODULE:CLASS", help="NAMES, or one of your own")
        p.registries = {"name": registry}
        p.set_defaults(command=_list, registry=registry)


COMPRESS_EXAMPLES = """\
examples:
  laconic compress digits-cnn --preset demo
  laconic compress lenet5 --method taylor --set macs=0.2 --target 0.3
  laconic compress --model nets:trained --data nets:loaders --task segmentation --set task.ignore=255

exit status: 0; 2 an error; 3 the file was written and misses the target; 130 interrupted (--resume goes on)

"""


def _add_compress(commands: argparse._SubParsersAction[Any]) -> None:
    p = add_command(
        commands,
        "compress",
        "train, prune, quantise and pack a network into one .lac file",
        COMPRESS_EXAMPLES + RUN_FILE_HELP,
    )
    p.add_argument("network", nargs="?", help="NAMES (or use --model)")
    p.add_argument(
        "--model", metavar="MODULE:FUNCTION", help="your own trained network: a function that returns it"
    )
    p.add_argument("--data", help="digits, mnist, fashion-mnist, or MODULE:FUNCTION returning the loaders")
    p.add_argument(
        "--method",
        metavar="NAME|MODULE:CLASS",
        help="NAMES, or one of your own (default sparse-vd; see laconic methods)",
    )
    p.add_argument(
        "--task",
        metavar="NAME|MODULE:CLASS",
        help="NAMES, or one of your own (default classification; see laconic tasks)",
    )
    p.add_argument("--preset", help="full (default) or demo: how long to train")
    p.add_argument(
        "--target",
        help="what the metric may lose, in its unit (0.3), or how long the file may be (5kB): the grid is "
        "chosen for it, as far as the trained weights allow",
    )
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
    p.registries = {"network": "NETWORKS", "method": "METHODS", "task": "TASKS"}


def _add_readers(commands: argparse._SubParsersAction[Any]) -> None:
    p = add_command(
        commands,
        "inspect",
        "what is in a file and where each byte goes; runs nothing",
        "example:\n  laconic inspect model.lac",
    )
    p.add_argument("file")
    add_trusted(p)
    p.set_defaults(command=_inspect)
    p = add_command(
        commands,
        "verify",
        "decode a file without torch and score it on a test set",
        "examples:\n  laconic verify model.lac --data digits\n"
        "  laconic verify model.lac --data nets:loaders --task regression --set noise=0.5",
    )
    p.add_argument("file")
    p.add_argument(
        "--data",
        required=True,
        help="digits, mnist, fashion-mnist, or MODULE:FUNCTION: what compress --data takes, or two arrays",
    )
    p.add_argument(
        "--task",
        default="classification",
        metavar="NAME|MODULE:CLASS",
        help="NAMES, or one of your own (default classification)",
    )
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a field of the task: ignore=255"
    )
    p.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    p.add_argument(
        "--arithmetic",
        metavar="NAME",
        help="fp32, or a device's, emulated bit for bit: int8, int8-single, int16, ternary, ternary-int16",
    )
    add_trusted(p)
    p.set_defaults(command=_verify)
    p.registries = {"task": "TASKS"}
    p = add_command(
        commands,
        "run",
        "run a file on arrays saved with numpy",
        "example:\n  laconic run model.lac x.npy --out y.npy",
    )
    p.add_argument("file")
    p.add_argument("inputs", nargs="+", metavar="INPUT.npy")
    p.add_argument("--out", metavar="OUTPUT.npy", help="where the output goes (default: printed)")
    add_trusted(p)
    p.set_defaults(command=_run)
    _add_bench_and_export(commands)


def _add_bench_and_export(commands: argparse._SubParsersAction[Any]) -> None:
    p = add_command(
        commands,
        "bench",
        "time loading and predicting: engines, and the original, side by side",
        "example:\n  laconic bench model.lac --batch 1 --original nets:trained",
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
    p = add_command(
        commands,
        "export",
        "write a standard ONNX model",
        "example:\n  laconic export model.lac model.onnx",
    )
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


def _list(arguments: argparse.Namespace) -> int:
    from laconic.cli.lists import run_list

    return run_list(arguments.registry, arguments.name)


def _inspect(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_inspect

    return run_inspect(arguments.file, trusted=arguments.trusted)


def _verify(arguments: argparse.Namespace) -> int:
    from laconic.cli.readers import run_verify
    from laconic.cli.request import set_flags
    from laconic.cli.settings import build
    from laconic.tasks import find_task

    return run_verify(
        arguments.file,
        arguments.data,
        build(find_task(arguments.task).kind, set_flags(arguments.set), "task."),
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
