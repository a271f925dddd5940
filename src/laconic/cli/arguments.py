"""The commands of the command line and their options. Imports nothing that a help text does not need."""

from __future__ import annotations

import argparse
from typing import Any

from laconic import __version__
from laconic.cli.checkpoint_arguments import add_checkpoints
from laconic.cli.draw import add_draw
from laconic.cli.parser import HelpFormatter, Parser, add_command
from laconic.cli.run_file_help import HELP as RUN_FILE_HELP
from laconic.cli.trust import add_trusted


def make_parser() -> argparse.ArgumentParser:
    """The parser of ``laconic``; ``command`` of what it returns is a key of ``laconic.cli.main.COMMANDS``."""
    parser = Parser(
        prog="laconic",
        description="Neural networks in fewer bits.",
        epilog="laconic COMMAND --help lists the options of a command, with examples.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"laconic {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_compress(commands)
    _add_sweep(commands)
    _add_readers(commands)
    _add_cost(commands)
    add_checkpoints(commands)
    _add_lists(commands)
    add_draw(commands)
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
            f"the registered {name}; with a name, its fields and their defaults",
            f"examples:\n  laconic {name}\n  laconic {name} {example}",
        )
        p.add_argument("name", nargs="?", metavar="NAME|MODULE:CLASS", help="NAMES, or one of your own")
        p.registries = {"name": registry}
        p.set_defaults(command="list", registry=registry)


COMPRESS_EXAMPLES = """\
examples:
  laconic compress digits-cnn --preset demo
  laconic compress lenet5 --method taylor --set macs=0.2 --target 0.3
  laconic compress --model nets:trained --data nets:loaders
                   --task segmentation --set task.ignore=255
  laconic compress --model nets:labeller --data nets:loaders
                   --task sequence-labelling --dynamic ids=0:batch,1:time
  laconic compress --model nets:trained --calibrate nets:inputs --target 30kB
  laconic compress --model hf:./bert --calibrate inputs.npz --target 0.01nats
  laconic compress --resume --out runs/digits-cnn-sparse-vd

exit status: 0; 2 an error; 3 the file was written and misses the target;
130 interrupted (--resume --out FOLDER goes on)

"""


DATA_HELP = (
    "digits, mnist, fashion-mnist; a .npz file with x_train, y_train, x_test, y_test (and x_val, y_val), or "
    "x and y alone, of which a seventh each is taken out for validation and test by the seed: inputs as the "
    "network takes them (scaled, channels first), examples along the first axis; or MODULE:FUNCTION "
    "returning the loaders"
)


def _add_compress(commands: argparse._SubParsersAction[Any]) -> None:
    p = add_command(
        commands,
        "compress",
        "train, prune, quantise and pack a network into one .lac file",
        COMPRESS_EXAMPLES + RUN_FILE_HELP,
    )
    p.add_argument("network", nargs="?", help="NAMES (or use --model)")
    p.add_argument(
        "--model",
        metavar="MODULE:FUNCTION|hf:NAME|timm:NAME",
        help="your own trained network: a function that returns it; or a network of Hugging Face or timm by "
        "its name or its folder (hf:./bert: config.json and model.safetensors)",
    )
    p.add_argument("--data", metavar="NAME|FILE.npz|MODULE:FUNCTION", help=DATA_HELP)
    p.add_argument(
        "--calibrate",
        metavar="NAME|FILE|MODULE:FUNCTION",
        help="compress without training, from some hundred inputs: a data set's name; a .npy, .npz or "
        ".safetensors file of arrays, by the names of forward's parameters, examples along their first axis; "
        "or a function that returns batches of inputs, or (batches, labelled validation batches)",
    )
    p.add_argument(
        "--method",
        metavar="NAME|MODULE:CLASS",
        help="NAMES, or one of your own (default sparse-vd, with --calibrate post-training; see laconic "
        "methods)",
    )
    p.add_argument(
        "--task",
        metavar="NAME|MODULE:CLASS",
        help="NAMES, or one of your own (default classification; see laconic tasks)",
    )
    p.add_argument("--preset", help="full (default) or demo: how long to train")
    p.add_argument(
        "--target",
        help="by how much the validation metric may get worse, in its unit (0.3), or how long the file may "
        "be (5kB, 5000 bytes): the grid is chosen for it, as far as the trained weights allow; with "
        "--calibrate also how far predictions may be from the original's (0.01nats a term)",
    )
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any field: fit.epochs=20")
    p.add_argument(
        "--keep",
        action="append",
        metavar="NAME",
        help="a layer or parameter that is neither pruned nor quantised; may be given several times",
    )
    p.add_argument(
        "--dynamic",
        action="append",
        metavar="INPUT=AXIS:NAME,...",
        help="axes of an input whose size may differ from call to call (x=0:batch,1:time), once for each "
        "input; the other axes have the example's size (default: the batch alone)",
    )
    _add_run_options(p)
    p.set_defaults(command="compress")
    p.registries = {"network": "NETWORKS", "method": "METHODS", "task": "TASKS"}


SWEEP_EXAMPLES = """\
examples:
  laconic sweep --vary kl_weight=0.5,1,2 --vary threshold=2,3,4
                --out sweeps/lenet300 -- lenet300 --preset demo
  laconic sweep --vary sparsity=0.9,0.95,0.98 --out sweeps/mine
                -- --model nets:trained --data nets:loaders --method magnitude

Each run is a folder of --out; a sweep that was interrupted goes on when it
is begun again. sweep.md, sweep.json and sweep.png hold all runs.
"""


def _add_sweep(commands: argparse._SubParsersAction[Any]) -> None:
    p = add_command(
        commands,
        "sweep",
        "compress once for each combination of settings: bytes against the metric",
        SWEEP_EXAMPLES,
    )
    p.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="KEY=A,B,C",
        help="a setting as --set takes it, and its values; given several times, all combinations are run",
    )
    p.add_argument("--out", required=True, metavar="FOLDER", help="where the runs' folders and results go")
    p.add_argument("words", nargs="+", metavar="ARGUMENT", help="behind --: what laconic compress takes")
    p.set_defaults(command="sweep")


def _add_run_options(p: Parser) -> None:
    """How a compression is run, and what it does to the finished network."""
    p.add_argument("--config", metavar="FILE", help="a run file (TOML), see below; options win over it")
    p.add_argument("--seed", type=int, help="seed of everything random (default 0)")
    p.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    p.add_argument("--out", metavar="FOLDER", help="run folder (default runs/NETWORK-METHOD)")
    p.add_argument(
        "--int8",
        action="store_true",
        default=None,
        help="calibrate on training batches, so that the file runs in int8",
    )
    p.add_argument(
        "--shrink",
        action="store_true",
        default=None,
        help="remove units without a non-zero weight: a physically smaller network",
    )
    p.add_argument(
        "--no-picture",
        dest="picture",
        action="store_false",
        default=None,
        help="draw no report.png (one is drawn where matplotlib is installed)",
    )
    p.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out FOLDER; the options that it began with are read from the folder",
    )


def _add_readers(commands: argparse._SubParsersAction[Any]) -> None:
    p = add_command(
        commands,
        "inspect",
        "the contents of a file, and the bytes of each part; runs nothing",
        "example:\n  laconic inspect model.lac",
    )
    p.add_argument("file")
    add_trusted(p)
    p.set_defaults(command="inspect")
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
        help="digits, mnist, fashion-mnist, a .npz file (x_test and y_test, or all of x and y), or "
        "MODULE:FUNCTION: what compress --data takes, or two arrays",
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
    p.set_defaults(command="verify")
    p.registries = {"task": "TASKS"}
    p = add_command(
        commands,
        "run",
        "run a file on arrays saved with numpy",
        "examples:\n  laconic run model.lac x.npy --out y.npy\n"
        "  laconic run model.lac inputs.npz    # arrays by the inputs' names",
    )
    p.add_argument("file")
    p.add_argument("inputs", nargs="+", metavar="INPUT.npy|INPUTS.npz")
    p.add_argument("--out", metavar="OUTPUT.npy", help="file for the output (default: it is printed)")
    add_trusted(p)
    p.set_defaults(command="run")
    _add_bench_and_export(commands)


def _add_bench_and_export(commands: argparse._SubParsersAction[Any]) -> None:
    p = add_command(
        commands,
        "bench",
        "time loading and predicting, by engine, beside the original network",
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
        "--original",
        metavar="MODULE:FUNCTION|hf:NAME|timm:NAME|FILE.onnx",
        help="the network before it was compressed",
    )
    add_trusted(p)
    p.set_defaults(command="bench")
    p = add_command(
        commands,
        "export",
        "write a standard ONNX model",
        "example:\n  laconic export model.lac model.onnx",
    )
    p.add_argument("file")
    p.add_argument("onnx", metavar="MODEL.onnx", help="an existing file is replaced")
    p.add_argument("--int8", action="store_true", help="with QuantizeLinear nodes, of a calibrated file")
    add_trusted(p)
    p.set_defaults(command="export")


COST_EXAMPLES = """\
columns of the first table (arithmetic), one row per operation:
  bits      bits of a weight x bits of an activation; - without weights
  MACs      multiply-accumulates of one call, for the input's shape
  non-zero  those of them whose weight is not zero
columns of the second table (memory):
  other     operations that are no MACs: additions, comparisons, ...
  moved, B  bytes of weights and activations that are read and written
  live, B   bytes of activations in memory while the operation runs; the total
            is the peak
with --device:
  path      dense or sparse: the form of the weights that is faster there
  us, nJ    estimated latency in microseconds, energy in nanojoules

example:
  laconic cost model.lac --device cortex-m7 --against original.lac
"""


def _add_cost(commands: argparse._SubParsersAction[Any]) -> None:
    p = add_command(
        commands,
        "cost",
        "memory, latency and energy on a device, estimated; runs nothing",
        COST_EXAMPLES,
    )
    p.add_argument("file")
    p.add_argument("--device", help="cortex-m4f, cortex-m7, cortex-a72, x86-server, gpu-a100, or FILE.toml")
    p.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="1x28x28",
        help="shape of an input, with or without the batch; once per input (default: the file's own)",
    )
    p.add_argument("--batch", type=int, default=1, help="size of the free dimension (default 1)")
    p.add_argument("--activations", type=int, choices=(8, 16, 32), help="bits of activations on the device")
    p.add_argument(
        "--precision",
        choices=("auto", "fp32", "int8"),
        default="auto",
        help="arithmetic that is counted (default: int8 where the file holds activation ranges)",
    )
    p.add_argument("--against", metavar="OTHER.lac", help="a second file to compare with, side by side")
    p.add_argument(
        "--measure",
        type=int,
        default=0,
        metavar="RUNS",
        help="also time this number of calls on this machine",
    )
    p.add_argument("--threads", type=int, default=1, help="threads of the measured calls (default 1)")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    add_trusted(p)
    p.set_defaults(command="cost")
