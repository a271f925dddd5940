"""What a conversion without validation batches did to the outputs, on one batch of training data.

Without a judge nothing is measured, so that a network can be ruined and nobody is told. The last batch that
training saw is at hand, and costs three forward passes: how far the predictions are from those of the trained
network, and the loss before and after. Both are of training data, and of one batch: enough to tell a network
that lost everything from one that did not, too little to choose settings by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.errors import InputError
from laconic.networks import call, to_device
from laconic.networks.modes import evaluating
from laconic.tasks import Batch, Task

UNJUDGED = "nothing was measured on validation batches, since convert was given no judge"
"""How the note on a conversion without a judge begins."""
CURE = "Cure: laconic.convert(net, laconic.methods.Judge(score)), or score what it returns"
FAR_NATS = 0.1
"""Nats per term between the predictions before and after, above which much of the network is lost. Without a
judge the finest settings are taken, which move predictions by less than a thousandth of a nat."""
FAR_SHARE = 0.5
"""The same of outputs that are no distribution: their distance as a share of their own size."""
WORSE_NATS = 0.5
"""By how many nats per term, and by which share of itself, the original's loss may rise."""


def compared(
    net: nn.Module,
    module: nn.Module,
    original: nn.Module | None,
    batch: Batch,
    task: Task,
    learnt: Mapping[str, Tensor],
) -> dict[str, float]:
    """How far a converted network's outputs are from those before, on a batch, noise off.

    Args:
        net: The network as it was trained.
        module: The converted one; it is run on the device of ``net`` and ends on the CPU.
        original: The network that was prepared; None where it is gone.
        batch: Inputs and target.
        task: What the network is for.
        learnt: The likelihood's own parameters by name.

    Returns:
        ``terms`` (likelihood terms of the batch); ``divergence`` (nats per term from the trained network's
        predictions) or, where these are no distribution, ``distance`` (as a share of their size); ``nll``,
        ``trained_nll`` and ``original_nll`` (nats per term).

    >>> from laconic.tasks import Classification
    >>> net, batch = nn.Linear(2, 3), Batch(torch.eye(2), torch.tensor([0, 1]))
    >>> found = compared(net, net, None, batch, Classification(), {})
    >>> found["divergence"], found["nll"] == found["trained_nll"]
    (0.0, True)
    """
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    own = {name: value.detach().to(device) for name, value in learnt.items()}
    with torch.no_grad():
        trained, target = _outputs(net, batch, task, device), to_device(batch.target, device)
        outputs = _outputs(module.to(device), batch, task, device)
        module.cpu()
        terms = task.terms(target)
        found = {"terms": float(terms), **_apart(outputs, trained, target, terms, task, own)}
        for name, each in (("nll", outputs), ("trained_nll", trained)):
            found[name] = float(task.nll(each, target, **own)) / terms
        if original is not None:
            place = next((p.device for p in original.parameters()), device)
            theirs = to_device(_outputs(original, batch, task, place), device)
            found["original_nll"] = float(task.nll(theirs, target, **own)) / terms
    return found


def _outputs(network: nn.Module, batch: Batch, task: Task, device: torch.device) -> Any:
    with evaluating(network):
        return task.prediction(call(network, to_device(batch.inputs, device)))


def _apart(
    outputs: Any, trained: Any, target: Any, terms: int, task: Task, learnt: Mapping[str, Tensor]
) -> dict[str, float]:
    """The divergence in nats per term; of a task that has none, the distance as a share."""
    try:
        nats = float(task.divergence(outputs, trained, task.counted(target), **learnt)) / terms
    except InputError:
        pairs = [
            (a.double(), b.double())
            for a, b in zip(tree_leaves(outputs), tree_leaves(trained), strict=True)
            if isinstance(b, Tensor) and b.is_floating_point()
        ]
        apart = sum(float((a - b).square().sum()) for a, b in pairs)
        size = sum(float(b.square().sum()) for _, b in pairs)
        return {"distance": math.sqrt(apart / size) if size > 0 else (math.inf if apart else 0.0)}
    return {"divergence": math.inf if math.isnan(nats) else max(0.0, nats)}


def ruined(found: Mapping[str, float]) -> bool:
    """Whether what :func:`compared` found is more than any careful setting does to a network.

    >>> ruined({"divergence": 0.001, "nll": 0.2, "original_nll": 0.1}), ruined({"divergence": 0.8})
    (False, True)
    """
    nll, before = found.get("nll", 0.0), found.get("original_nll")
    worse = before is not None and not nll - before <= WORSE_NATS * max(1.0, abs(before))
    far = found.get("divergence", 0.0) > FAR_NATS or not found.get("distance", 0.0) <= FAR_SHARE
    return far or worse


def unjudged(found: Mapping[str, float]) -> str:
    """The note on a conversion without a judge.

    >>> unjudged({}).startswith(UNJUDGED)
    True
    """
    if not found:
        return f"{UNJUDGED}. {CURE}"
    if "divergence" in found:
        apart = f"{found['divergence']:.3g} nats per term from the trained network's"
    else:
        apart = f"{100 * found['distance']:.3g} % of their size from the trained network's"
    first = found.get("original_nll", found["trained_nll"])
    whose = "original" if "original_nll" in found else "trained"
    told = (
        f"on the last training batch the predictions are {apart}, and the loss is {found['nll']:.3g} "
        f"(the {whose} network's {first:.3g})"
    )
    if ruined(found):
        lost = f"the network lost much of what it had learnt: {told}"
        return f"{lost}; {UNJUDGED}. {CURE}; then gentler settings"
    return f"{UNJUDGED}; {told}. {CURE}"
