"""Dispatch of the command line: one function per command, signals, exit statuses."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from laconic.cli.arguments import make_parser
from laconic.errors import InputError, LaconicError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words behind ``laconic``; None takes those of the process.

    Returns:
        The exit status: 0; 2 for an error, which is printed; 3 for a missed target; 130 when interrupted; 143
        when terminated (128 and the signal's number); 141 when the reader of its output has gone.

    >>> main(["tasks", "no-such-task"])
    2
    """
    arguments = make_parser().parse_args(argv)
    try:
        with _signals_as_interruptions(), _any_text():
            status = COMMANDS[arguments.command](arguments)
            if sys.stdout is not None:  # None where it was closed before the process began
                sys.stdout.flush()
        return status
    except LaconicError as error:
        from laconic.cli.cures import READING, translated  # for a message alone

        told = translated(str(error), READING).replace("MODEL.lac", getattr(arguments, "file", "MODEL.lac"))
        print(f"laconic: {type(error).__name__}: {told}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        print(f"laconic: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        ended = error if isinstance(error, _Ended) else _Ended(signal.SIGINT)
        # the interrupted work adds a note on how to resume
        print("; ".join([f"laconic: {ended}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        return 128 + ended.number


@contextmanager
def _any_text() -> Iterator[None]:
    """Print characters that the output's encoding lacks as escapes: names may hold any character."""
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
    """A signal asked the process to end; files are closed and locks released as after an interruption."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__("interrupted" if number == signal.SIGINT else "terminated")


@contextmanager
def _signals_as_interruptions() -> Iterator[None]:
    """SIGTERM and SIGHUP (the terminal closes) end the command as an interruption does, unless they have
    another handler.

    A second signal ends it at once.
    """
    import threading  # not needed for a help text

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
    """Discard buffered output: the interpreter would report the broken pipe when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


def _sweep(arguments: argparse.Namespace) -> int:
    from laconic.cli.sweep import run_sweep

    return run_sweep(arguments, _compress)


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


def _cost(arguments: argparse.Namespace) -> int:
    from laconic.cli.cost import request_of, run_cost

    return run_cost(request_of(arguments))


def _pack(arguments: argparse.Namespace) -> int:
    from laconic.cli.checkpoints import run_pack

    return run_pack(arguments)


def _unpack(arguments: argparse.Namespace) -> int:
    from laconic.cli.checkpoints import run_unpack

    return run_unpack(arguments)


def _draw(arguments: argparse.Namespace) -> int:
    from laconic.cli.draw import run_draw

    return run_draw(arguments.name, arguments.set, arguments.width, arguments.path, arguments.out)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "compress": _compress,
    "sweep": _sweep,
    "inspect": _inspect,
    "verify": _verify,
    "run": _run,
    "bench": _bench,
    "export": _export,
    "cost": _cost,
    "pack": _pack,
    "unpack": _unpack,
    "list": _list,
    "draw": _draw,
}
"""What each command runs; commands are named in ``laconic.cli.arguments``."""
