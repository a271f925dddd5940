"""A sentence encoder of 22.6 million weights in one file: bytes and cosine to the original, beside others.

    python benchmarks/sentence_encoder.py --weights model.safetensors --vocabulary vocab.txt
        [--sentences TEXT ...] [--elsewhere TEXT ...] [--calibrate 1000] [--target 0.0088] [--only PEER ...]

``benchmarks/minilm.py`` says where the two files come from. Sentences are cut from text files (such
as those of the Debian package ``fortunes``, /usr/share/games/fortunes/ without its ``.dat`` files); without
``--sentences`` they are from Python's documentation. The encoder is calibrated on at most
1 000 of them, without labels, and all files are scored on others that no one has seen, and on sentences of
another source (``--elsewhere``, by default Python's documentation where ``--sentences`` is given).

**Ours**: ``laconic.compress_trained`` with ``--target`` as 1 - cosine on a quarter of the calibration
sentences; bytes are those of the whole .lac file, graph and names included; a fresh process without PyTorch
decodes and runs it. The damping by samples is a tenth of the method's default: that counts a sentence once,
and its words differ more than the positions of an image do. Seconds are of the compression and the writing
of the file, without the scoring.

**Others**, each where it can be imported, on the same weights and sentences: torchao (int8 and int4, weights
only), ONNX Runtime (dynamic int8; 4 bits by MatMulNBits, for tables by GatherBlockQuantized; both from
PyTorch's export, which needs ``onnxscript``), HQQ (4, 3 and 2 bits in groups of 64). Bytes are those of the
file that each writes. Results go to studies/results/posthoc/minilm.json.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from minilm import DYNAMIC, Batch, MiniLM, WordPiece, batches, read_encoder, read_sentences
from sentence_encoder_peers import PEERS, Missing, Peer
from torch import Tensor

import laconic
from laconic.methods import PostTraining, Target
from laconic.quantize.second_order import SecondOrder
from laconic.tasks.likelihoods import cosine_distance

OUT = Path(__file__).parents[1] / "studies" / "results" / "posthoc"
CALIBRATION_LENGTH, LENGTH = 64, 128
"""Most ids of a sentence that calibrates, and of one that is scored."""

RUNS = """
import sys
import numpy as np
from laconic.pack import Limits
from laconic.runtime import load
net = load(sys.argv[1], limits=Limits.trusted())
with np.load(sys.argv[2]) as given:
    count = len(given.files) // 2
    found = [np.asarray(net(ids=given[f"ids{i}"], mask=given[f"mask{i}"])) for i in range(count)]
np.save(sys.argv[3], np.concatenate(found))
assert "torch" not in sys.modules
"""


class Row(NamedTuple):
    """One compressed encoder: who made it, bytes of its file, cosines to the original's embeddings."""

    name: str
    bytes: int
    bits: float
    mean: float
    least: float
    elsewhere: float | None
    seconds: float
    note: str = ""


class Sentences(NamedTuple):
    """Batches that calibrate, and those that are scored: of the same source and of another one."""

    calibrate: list[Batch]
    score: list[Batch]
    elsewhere: list[Batch]


def drawn(options: argparse.Namespace) -> Sentences:
    """Sentences in an order drawn by the seed; none that is scored calibrates."""
    tokens = WordPiece(options.vocabulary)
    generator = random.Random(options.seed)
    pool = read_sentences(options.sentences)
    generator.shuffle(pool)
    other = read_sentences(options.elsewhere) if options.elsewhere or options.sentences else []
    generator.shuffle(other)
    cut = options.calibrate
    return Sentences(
        batches([tokens(s, CALIBRATION_LENGTH) for s in pool[:cut]], 50),
        batches([tokens(s, LENGTH) for s in pool[cut : cut + options.test]], 50),
        batches([tokens(s, LENGTH) for s in other[: options.test]], 50),
    )


def cosines(found: Tensor, reference: Tensor) -> Tensor:
    """By sentence, (N,)."""
    return torch.cosine_similarity(found.double(), reference.double(), dim=1)


class Scores:
    """What embeddings are worth, against those of the original on the same sentences."""

    def __init__(self, original: MiniLM, sentences: Sentences) -> None:
        self.batches = [*sentences.score, *sentences.elsewhere]
        self._count = sum(len(ids) for ids, _ in sentences.score)
        self._weights = sum(p.numel() for p in original.parameters())
        with torch.inference_mode():
            self._reference = torch.cat([original(*batch) for batch in self.batches])

    def row(self, name: str, size: int, found: Tensor, seconds: float, note: str = "") -> Row:
        """A row of the table."""
        each = cosines(found, self._reference)
        here, there = each[: self._count], each[self._count :]
        bits = 8 * size / self._weights
        elsewhere = float(there.mean()) if len(there) else None
        return Row(name, size, bits, float(here.mean()), float(here.min()), elsewhere, seconds, note)


def ours(original: MiniLM, sentences: Sentences, scores: Scores, options: argparse.Namespace) -> Row:
    """Our file, scored in a process without PyTorch."""
    method = PostTraining(
        divergence=cosine_distance,
        trials=options.trials,
        second_order=SecondOrder(damping_by_samples=options.damping),
    )
    start, spent = time.perf_counter(), time.process_time()
    small = laconic.compress_trained(
        original,
        sentences.calibrate,
        Target(max_kl=options.target),
        method=method,
        seed=options.seed,
        dynamic=DYNAMIC,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "minilm.lac"
        size = laconic.save(small, path)
        seconds, spent = time.perf_counter() - start, time.process_time() - spent
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        found = decoded(path, scores.batches, Path(folder))
    facts = small.facts
    told = {key: facts[key] for key in ("divergence", "target_met", "prices_tried", "bits_per_weight")}
    print(json.dumps(told), flush=True)
    note = f"{spent:.0f} s of processor time, peak {memory:.2f} GiB, {len(facts['prices_tried'])} prices"
    return scores.row("laconic", size, found, seconds, note)


def decoded(path: Path, given: list[Batch], folder: Path) -> Tensor:
    """The file's embeddings, from a fresh process."""
    arrays = {f"ids{i}": ids.numpy() for i, (ids, _) in enumerate(given)}
    arrays |= {f"mask{i}": mask.numpy() for i, (_, mask) in enumerate(given)}
    np.savez(folder / "inputs.npz", **arrays)
    command = [sys.executable, "-c", RUNS, path, folder / "inputs.npz", folder / "found.npy"]
    subprocess.run(command, check=True)
    return torch.from_numpy(np.load(folder / "found.npy"))


def theirs(peer: Peer, original: MiniLM, scores: Scores) -> Row:
    """Another tool's file. Raises Missing where the tool cannot be imported or does not run here."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        size, embed = peer(original, Path(folder))
        seconds = time.perf_counter() - start
        return scores.row(peer.name, size, torch.cat([embed(*batch) for batch in scores.batches]), seconds)


def shown(row: Row) -> str:
    """A line of the table."""
    elsewhere = "-" if row.elsewhere is None else f"{row.elsewhere:.4f}"
    return (
        f"{row.name:<41} {row.bytes:>10} {row.bits:>6.2f} {row.mean:>8.4f} {row.least:>8.4f} "
        f"{elsewhere:>9} {row.seconds:>7.1f}  {row.note}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--sentences", type=Path, nargs="+", default=[])
    parser.add_argument("--elsewhere", type=Path, nargs="+", default=[])
    parser.add_argument("--calibrate", type=int, default=1000, help="sentences, at most 1000")
    parser.add_argument("--test", type=int, default=1000, help="sentences of each source that are scored")
    parser.add_argument("--target", type=float, default=0.0088, help="1 - cosine, on calibration sentences")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--damping", type=float, default=0.03, help="SecondOrder.damping_by_samples")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    names = ["laconic", *(peer.name for peer in PEERS)]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not 0 < options.calibrate <= 1000:
        parser.error("--calibrate is from 1 to 1000")
    original, sentences = read_encoder(options.weights), drawn(options)
    scores = Scores(original, sentences)
    print("file                                           bytes    b/w   cosine    least elsewhere  seconds")
    for name in options.only:
        try:
            if name == "laconic":
                row = ours(original, sentences, scores, options)
            else:
                row = theirs(next(peer for peer in PEERS if peer.name == name), original, scores)
        except Missing as error:
            print(f"{name:<41} left out: {error}", flush=True)
            continue
        print(shown(row), flush=True)
        keep(row, options)


def keep(row: Row, options: argparse.Namespace) -> None:
    """Write a row with its settings to the results; those of other names stay."""
    settings: dict[str, Any] = {k: v for k, v in vars(options).items() if isinstance(v, int | float)}
    for kind in ("sentences", "elsewhere"):
        settings[kind] = [path.name for path in vars(options)[kind]]
    path = OUT / "minilm.json"
    known = json.loads(path.read_text()) if path.exists() else []
    OUT.mkdir(parents=True, exist_ok=True)
    rows = [*(each for each in known if each["name"] != row.name), {**row._asdict(), "settings": settings}]
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
