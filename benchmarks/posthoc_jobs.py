"""The jobs of ``posthoc.py``: each compresses one network once and scores it, in a process with one thread.

A network with its inputs is handed on as a file, which all processes map into their memory.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from posthoc_cases import Case
from posthoc_nncodec import code_all, forms_of
from posthoc_points import in_batches, outputs_of, score
from torch import Tensor

import laconic
from laconic.methods import PostTraining, Refine, Target
from laconic.pack import Limits
from laconic.runtime import load
from laconic.tasks.likelihoods import cosine_distance

SAMPLES = 1000


@dataclass(frozen=True)
class Ours:
    """One call of ``compress_trained``.

    Args:
        case: The file of the case.
        draw: Which calibration inputs are drawn.
        target: What is asked for.
        steps: Training steps after the decision.
        augment: Whether the inputs of this training are augmented.
    """

    case: Path
    draw: int
    target: Target
    steps: int = 0
    augment: bool = False

    @property
    def settings(self) -> str:
        """In words."""
        asked = self.target
        told = f"{asked.max_bytes} bytes" if asked.max_bytes else f"max_kl {asked.max_kl:g}"
        told += f", {self.steps} steps" if self.steps else ""
        return told + (", augmented" if self.augment else "")

    @property
    def keys(self) -> tuple[str, ...]:
        """Of its result."""
        return (f"draw {self.draw}, {self.settings}",)

    def run(self) -> list[dict[str, Any]]:
        """Compress, write the file, run it by itself, score it."""
        case, reference = loaded(self.case)
        picked = torch.randperm(len(case.pool), generator=torch.Generator().manual_seed(self.draw))[:SAMPLES]
        refine = Refine(steps=self.steps, augment=case.augment if self.augment else None)
        method = PostTraining(divergence=cosine_distance if case.embeds else None, refine=refine)
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.lac"
            small = laconic.compress_trained(
                *(copy.deepcopy(case.network), list(case.pool[picked].split(250)), self.target),
                method=method,
                seed=self.draw,
            )
            laconic.save(small, path, example=case.test[:1])
            seconds = time.process_time() - start
            runs = load(path, limits=Limits.trusted())
            parts = [torch.from_numpy(np.asarray(runs(part.numpy()))) for part in in_batches(case.test)]
            point = score(self.settings, path.stat().st_size, torch.cat(parts), reference, case)
        told = {"draw": self.draw, "steps": self.steps, "max_bytes": self.target.max_bytes}
        return [{**point._asdict(), **told, "seconds": seconds, "met": bool(small.facts["target_met"])}]


@dataclass(frozen=True)
class Theirs:
    """Some of NNCodec's settings.

    Args:
        case: The file of the case.
        python: That of NNCodec's environment.
        form: Whether batch norms are as they are, or folded.
        opt_qp: NNCodec's own choice of a quantisation parameter for each tensor.
        qps: Quantisation parameters.
    """

    case: Path
    python: Path
    form: str
    opt_qp: bool
    qps: tuple[int, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Of its results: the settings in words."""
        return tuple(f"{self.form}, qp {qp}{', opt_qp' if self.opt_qp else ''}" for qp in self.qps)

    def run(self) -> list[dict[str, Any]]:
        """Code and score all settings."""
        case, reference = loaded(self.case)
        network = forms_of(case)[self.form]
        settings = [{"qp": qp, "opt_qp": self.opt_qp} for qp in self.qps]
        coded = code_all(self.python, network, settings)
        points = (
            score(key, size, outputs_of(decoded, case.test), reference, case)
            for key, (size, decoded) in zip(self.keys, coded, strict=True)
        )
        return [point._asdict() for point in points]


Job = Ours | Theirs


def stored(case: Case, path: Path) -> Path:
    """Write a case for the processes that run its jobs."""
    torch.save((case, outputs_of(case.network, case.test)), path)
    return path


@lru_cache(1)
def loaded(path: Path) -> tuple[Case, Tensor]:
    """A case, and the original's outputs on its test inputs."""
    found: tuple[Case, Tensor] = torch.load(path, mmap=True, weights_only=False)
    return found


def done(jobs: list[Job], processes: int) -> Iterator[tuple[Job, list[dict[str, Any]]]]:
    """Run jobs in parallel; each with its results as soon as these are there."""
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        waiting = {pool.submit(_run, job): job for job in jobs}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _run(job: Job) -> list[dict[str, Any]]:
    return job.run()
