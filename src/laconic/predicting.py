"""The verb ``predict``: predictions averaged over draws of a network's weights, with their uncertainty."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Generator, Mapping
from contextlib import closing
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from laconic import pack
from laconic.bayes.predictive import Predictive, predictive
from laconic.errors import DataError, InputError, LaconicError, ReadError
from laconic.files import file_hash
from laconic.methods.common.spreads import SPREAD
from laconic.methods.contract import Compressed
from laconic.networks import arguments, call, check_names, inference
from laconic.networks.modes import evaluating
from laconic.networks.noise import NoiseSource
from laconic.networks.stochastic import sampling
from laconic.networks.wrappers import unwrapped
from laconic.prepared import likelihood_of, prepared
from laconic.quantize.redraw import LARGEST, redraw
from laconic.records import IntTensor, PackedModel
from laconic.records import Tensor as StoredTensor
from laconic.runtime import Network
from laconic.tasks import Classification, Loss, Task, as_task
from laconic.tasks.predictive import Predictive as Target

__all__ = ["Predictive", "predict"]

Place = str | os.PathLike[str]
Spread = Mapping[str, Any]


def predict(
    network: nn.Module | Compressed | Place,
    inputs: Any,
    *,
    samples: int = 30,
    generator: torch.Generator | None = None,
    task: Task | Loss | None = None,
    record: Place | None = None,
) -> Predictive:
    r"""Predict with ``samples`` draws of the weights: mean, variance, entropy and mutual information.

    .. math:: p(y | x) = \frac1S \sum_{s=1}^{S} p(y | x, w_s), \quad w_s \sim q(w)

    Each pass draws all weights (and gates, and dropout masks of a Bayesian method) anew, the same for all
    inputs. Batch norms and a network's own dropout are in evaluation mode. Training is not touched: neither
    modes nor the network's noise move on. One call is one batch in memory.

    A compressed network is drawn inside its own grid: each weight moves to a level near its own with the
    posterior's mass of that level's cell (:mod:`laconic.quantize.redraw`). Of the posterior little is kept,
    in the result's facts and in the ``record.json`` of a run, not in the file
    (:mod:`laconic.methods.common.spreads`): by tensor a deviation of its weights that are not zero, one of
    those at zero that were not removed, and factors by output and input. Biases, gates and tensors without a
    spread are as they were decided.

    Args:
        network: A prepared network of a method with a posterior; what ``convert`` returned;
            or the path of a file with a record.
        inputs: The inputs of one batch: a tensor or NumPy array, a tuple of inputs, or a dictionary of
            keyword inputs.
        samples: Number of passes S, at least 1.
        generator: Where the draws come from (None: from a fixed seed, so that two calls agree).
        task: What a compressed network is for (None: classification; a prepared network knows its own).
        record: The record of a file (None: ``record.json`` beside it).

    Returns:
        The prediction, term by term; entropies in nats.

    Raises:
        NotPreparedError: A plain network, or one whose method draws nothing.
        InputError: ``samples``, a task that does not say how targets are distributed, a compressed network
            whose method kept no spread, a task for a prepared network, or a keyword that it does not have.
        DataError: Inputs that the network refuses.
        ReadError: A record that cannot be read, or is another file's.

    >>> import laconic
    >>> from laconic.methods import SparseVD
    >>> net = laconic.prepare(nn.Linear(4, 3), SparseVD(init_log_var=-1.0), torch.zeros(1, 4), data_size=100)
    >>> p = laconic.predict(net, torch.ones(5, 4), samples=20)
    >>> tuple(p.mean.shape), tuple(p.entropy.shape), bool((p.mutual_information > 0).all())
    ((5, 3), (5,), True)
    """
    _check(samples, generator)
    if isinstance(network, nn.Module):
        if task is not None or record is not None:
            raise InputError("predict: a prepared network knows its task. Cure: leave out task and record")
        return _of_prepared(unwrapped(network), inputs, samples, generator)
    named = as_task(Classification() if task is None else task)
    rng = np.random.default_rng(0 if generator is None else _seed(generator))
    if isinstance(network, Compressed):
        target = _target(named, _learnt(network.facts))
        spreads = _spreads(network.facts, "the method of this result", network.tensors)
        return _averaged(_of_module(network, spreads, inputs, named, samples, rng), target)
    told, what = _read_record(Path(network), record), f"the record of {os.fspath(network)}"
    model, facts = pack.read(network), told["facts"]
    _check_record(told, what, network)
    spreads = _spreads(facts, what, {tensor.name: tensor for tensor in model.tensors})
    target = _target(named, _learnt(facts))
    outputs = _of_file(model, spreads, inputs, samples, rng)
    return _averaged((named.prediction(one) for one in outputs), target)


def _averaged(outputs: Generator[Tensor], target: Target) -> Predictive:
    """:func:`predictive` of passes that are ended in any case: they hold modes of the network."""
    with closing(outputs):
        return predictive(outputs, target)


def _of_prepared(net: nn.Module, inputs: Any, samples: int, generator: torch.Generator | None) -> Predictive:
    state = prepared(net, "predict")
    task, seed = state.context.task, state.context.noise.seed
    noise = NoiseSource(seed if generator is None else _seed(generator))
    given = _as_given(net, inputs)

    def passes() -> Generator[Tensor]:
        with evaluating(net), sampling(net, noise), torch.no_grad():
            for _ in range(samples):
                yield task.prediction(_called(net, given, state.context.example))

    return _averaged(passes(), _target(task, likelihood_of(net)))


def _of_module(
    small: Compressed,
    spreads: Mapping[str, Spread],
    inputs: Any,
    task: Task,
    samples: int,
    rng: np.random.Generator,
) -> Generator[Tensor]:
    """Outputs of a compressed network with other integers in each pass."""
    module, given = copy.deepcopy(small.module), _as_given(small.module, inputs)
    held = dict(module.named_parameters())
    with evaluating(module), inference():
        for _ in range(samples):
            for name, spread in spreads.items():
                drawn = _drawn(small.tensors[name], spread, rng)
                held[name].copy_(torch.from_numpy(np.asarray(drawn.values())))
            yield task.prediction(_called(module, given, small.example))


def _as_given(net: nn.Module, inputs: Any) -> Any:
    """The inputs with NumPy arrays as tensors; raises InputError for a keyword that the network has not."""
    if isinstance(inputs, Mapping):
        check_names(net, inputs)
    return tree_map(lambda x: torch.as_tensor(x) if isinstance(x, np.ndarray | np.generic) else x, inputs)


def _called(net: nn.Module, inputs: Any, example: Any) -> Any:
    """The network's result; raises DataError with the shapes where it refuses the inputs."""
    try:
        return call(net, inputs)
    except LaconicError:
        raise
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        wanted = "" if example is None else f", as {_shapes(example)} of its example"
        raise DataError(
            f"predict: {type(net).__name__} refuses inputs of {_shapes(inputs)}: {reason.rstrip('.')}. "
            f"Cure: inputs of the shapes and types that it was trained on{wanted}"
        ) from error


def _shapes(inputs: Any) -> str:
    """Shapes and types of inputs, for a message."""
    return ", ".join(
        f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}" if isinstance(x, Tensor) else f"{x!r:.20}"
        for x in tree_leaves(inputs)
    )


def _of_file(
    model: PackedModel,
    spreads: Mapping[str, Spread],
    inputs: Any,
    samples: int,
    rng: np.random.Generator,
) -> Generator[Any]:
    """Outputs of a decoded file with other integers in each pass, run without its file."""
    args, named = arguments(inputs)
    arrays = [_array(a) for a in args]
    by_name = {name: _array(a) for name, a in named.items()}
    for _ in range(samples):
        tensors = tuple(_drawn(t, spreads[t.name], rng) if t.name in spreads else t for t in model.tensors)
        yield _as_tensors(Network(PackedModel(tensors, model.graph, model.aliases))(*arrays, **by_name))


def _array(given: Any) -> Any:
    return np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)


def _drawn(tensor: StoredTensor, spread: Spread, rng: np.random.Generator) -> StoredTensor:
    if not isinstance(tensor, IntTensor):
        return tensor
    (held, zero), factors = spread["deviations"], spread["factors"]
    return redraw(tensor, held, zero, rng, factors=factors, share=spread["share"])


def _as_tensors(returned: Any) -> Any:
    if isinstance(returned, dict):
        return {name: torch.from_numpy(value) for name, value in returned.items()}
    if isinstance(returned, tuple):
        return tuple(torch.from_numpy(value) for value in returned)
    return torch.from_numpy(returned)


def _spreads(facts: Mapping[str, Any], what: str, tensors: Mapping[str, StoredTensor]) -> dict[str, Spread]:
    """The deviations that a result kept; raises InputError where it kept none, ReadError where they are not
    of these tensors.
    """
    found = facts.get(SPREAD) or {}
    if not found:
        raise InputError(
            f"predict: {what} kept no spread of a posterior, so there is nothing to draw. Cure: a method "
            "with posteriors whose weights go on grids, as MeanField() or SparseVD(), or the prepared network"
        )
    if not isinstance(found, Mapping):
        found = {"": None}
    known = {name: _as_spread(value, tensors.get(name)) for name, value in found.items()}
    if None in known.values():
        raise ReadError(
            f"predict: {SPREAD} of {what} must hold two finite numbers >= 0 by tensor, and factors that fit "
            "its shape. Cure: the record.json that laconic compress wrote"
        )
    strange = [name for name in found if not isinstance(tensors.get(name), IntTensor)]
    if strange:
        raise ReadError(
            f"predict: {what} has a spread of {strange[0]!r}, and the network no integers of that name. "
            "Cure: record=PATH, the record.json that was written with the file"
        )
    return {name: spread for name, spread in known.items() if spread is not None}


def _as_spread(value: Any, tensor: StoredTensor | None) -> Spread | None:
    """A tensor's spread; two numbers alone are of an earlier version. None for anything else."""
    told: Any = {"deviations": value, "factors": [], "share": 1.0} if isinstance(value, list) else value
    if not isinstance(told, Mapping) or not {"deviations", "factors", "share"} <= set(told):
        return None
    factors = told["factors"]
    if not (_are_sizes(told["deviations"], 2) and _are_sizes([told["share"]], 1) and told["share"] <= 1):
        return None
    if not isinstance(factors, list) or not all(isinstance(f, list) and _are_sizes(f) for f in factors):
        return None
    if isinstance(tensor, IntTensor):
        shape = tensor.integers.shape
        if len(factors) > len(shape) or any(f and len(f) != n for f, n in zip(factors, shape, strict=False)):
            return None
    return told


def _are_sizes(values: Any, count: int | None = None) -> bool:
    """Whether these are numbers >= 0 that no integer outgrows."""
    if not isinstance(values, list) or (count is not None and len(values) != count):
        return False
    return all(isinstance(v, int | float) and 0 <= v <= LARGEST for v in values)


def _learnt(facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The likelihood's own parameters, as a result's facts hold them."""
    try:
        return {name: torch.tensor(value) for name, value in facts.get("likelihood", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ReadError(
            f"predict: the likelihood's parameters cannot be read ({error}). Cure: the record.json that "
            "laconic compress wrote"
        ) from error


def _read_record(file: Path, record: Place | None) -> Mapping[str, Any]:
    """A run's record, whose facts are a mapping."""
    path = file.parent / "record.json" if record is None else Path(record)
    try:
        told = json.loads(path.read_text())
        if not isinstance(told["facts"], Mapping):
            raise TypeError(f"facts are {told['facts']!r:.40}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReadError(
            f"predict: the record {path} cannot be read ({error}). Cure: record=PATH, the record.json that "
            "laconic compress wrote beside the file"
        ) from error
    return dict(told)


def _check_record(told: Mapping[str, Any], what: str, file: Place) -> None:
    """Raises ReadError for a record of another file; records of earlier versions tell a length alone."""
    here = (os.path.getsize(file), file_hash(file))
    length, hashed = told.get("file_bytes", here[0]), told.get("file_hash") or here[1]
    if length != here[0]:
        found = f"is of a file of {length} bytes, and this one has {here[0]}"
    elif hashed != here[1]:
        found = f"is of another file of the same length (its hash is {hashed!s:.32}, this one's {here[1]})"
    else:
        return
    raise ReadError(
        f"predict: {what} {found}. Cure: record=PATH, the record.json that was written with the file"
    )


def _target(task: Task, learnt: dict[str, Tensor]) -> Target:
    """How the task's targets are distributed; raises InputError where it does not say."""
    try:
        found = task.predictive(**learnt)
    except TypeError as error:
        raise InputError(
            f"predict: {type(task).__name__} does not have the likelihood's parameters "
            f"{', '.join(learnt)}, which were learnt. Cure: task=, the task that the network was trained for"
        ) from error
    if found is None:
        raise InputError(
            f"predict: {type(task).__name__} does not say how targets are distributed given outputs. Cure: a "
            "task of laconic.tasks, as Classification() or Regression(), or a method predictive() of the task"
        )
    return found


def _seed(generator: torch.Generator) -> int:
    """A seed that is drawn from a generator, which moves on."""
    return int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))


def _check(samples: int, generator: torch.Generator | None) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InputError(
            f"generator must be a torch.Generator, got {type(generator).__name__}. Cure: "
            "torch.Generator().manual_seed(0)"
        )
    if isinstance(samples, bool) or not isinstance(samples, Integral) or samples < 1:
        raise InputError(f"samples must be a whole number of at least 1, got {samples!r}. Cure: samples=30")
