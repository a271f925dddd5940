"""What stands beside a classifier's error: its likelihood, its calibration, the answers that flipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from laconic.cli.arithmetic import network_in
from laconic.cli.loaders import Loader
from laconic.cli.scoring import as_arrays
from laconic.networks import to_device
from laconic.networks.layout import run
from laconic.networks.modes import evaluating
from laconic.tasks import Classification, Task
from laconic.tasks.calibration import Flips, confidence_and_answer, expected_calibration_error


def quality(path: Path, original: nn.Module, test: Loader, task: Task) -> dict[str, float]:
    """Likelihood and calibration of the original, calibration of the decoded file, and flips between them.

    Args:
        path: The file, which holds a graph.
        original: The network that compression began with.
        test: The batches of the test set.
        task: The task; of any but classification nothing is told.

    Returns:
        ``original_test_nll`` (nats an example), ``original_test_ece`` and ``test_ece`` (%), each to six
        decimals, and the counts
        ``test_right_to_wrong``, ``test_wrong_to_right`` and ``test_changed``.
    """
    if not isinstance(task, Classification):
        return {}
    network = network_in(path, None, trusted=True)
    device = next((p.device for p in original.parameters()), torch.device("cpu"))
    rows: list[tuple[Any, ...]] = []
    nats, terms = 0.0, 0
    with evaluating(original), torch.inference_mode():
        for given in test:
            batch = task.split(given)
            target = as_arrays(batch.target)
            theirs = as_arrays(task.prediction(run(original, to_device(batch.inputs, device))))
            ours = as_arrays(task.prediction(_called(network, as_arrays(batch.inputs))))
            nats, terms = nats + task.nats(theirs, target), terms + task.terms(target)
            truth = target.argmax(1) if target.ndim == 2 else target
            kept = np.ones(len(truth), bool) if task.ignore is None else truth != task.ignore
            rows.append(
                (truth[kept], *confidence_and_answer(theirs[kept]), *confidence_and_answer(ours[kept]))
            )
    truth, was_sure, before, is_sure, after = (np.concatenate(part) for part in zip(*rows, strict=True))
    flips = Flips.between(before, after, truth)
    real = {
        "original_test_nll": nats / terms,
        "original_test_ece": expected_calibration_error(was_sure, before == truth),
        "test_ece": expected_calibration_error(is_sure, after == truth),
    }
    return {
        # torch adds in another order where memory is aligned otherwise, as in a run that goes on after a kill
        **{name: round(value, 6) for name, value in real.items()},
        "test_right_to_wrong": flips.right_to_wrong,
        "test_wrong_to_right": flips.wrong_to_right,
        "test_changed": flips.changed,
    }


def quality_text(metrics: Mapping[str, float]) -> str:
    """The same in one line; empty where it was not measured."""
    if "test_ece" not in metrics:
        return ""
    nll = ""
    if "test_nll" in metrics:
        nll = f"test nll {metrics['original_test_nll']:.4f} nats before, {metrics['test_nll']:.4f} after; "
    return (
        f"{nll}calibration error {metrics['original_test_ece']:.2f} % before, {metrics['test_ece']:.2f} % "
        f"after; {metrics['test_changed']:.0f} answers changed, {metrics['test_right_to_wrong']:.0f} from "
        f"right to wrong, {metrics['test_wrong_to_right']:.0f} from wrong to right"
    )


def _called(network: Callable[..., Any], inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return network(**inputs)
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)
