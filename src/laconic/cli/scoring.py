"""The task's metric of a decoded file on a set, without torch: the source of all published figures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from laconic.cli.trust import limits_of
from laconic.errors import DataError, InputError, LaconicError, at
from laconic.files import unreadable
from laconic.records import AnyArray
from laconic.tasks import Classification, Task, reread

Batches = Iterable[Any]


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """A file that cannot be opened becomes a ReadError that names it."""
    try:
        yield
    except LaconicError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The file's bytes, or an InputError that names it."""
    with reading(path):
        return Path(path).read_bytes()


@dataclass(frozen=True, eq=False)
class TestSet:
    """Batches to be scored, and what they are called: "test", or "validation" where there is no test set."""

    __test__ = False

    name: str
    batches: Batches


def test_set(data: str) -> TestSet:
    """A built-in test set, or what a user's ``package.module:function`` returns.

    That is (inputs, targets) as NumPy arrays, or what ``compress --data`` takes: (train, validation) or
    (train, validation, test), of which the last one that there is is scored.
    """
    from laconic.cli.own import call_own
    from laconic.data import load
    from laconic.data.images import as_input

    if ":" not in data:
        images = load(data)
        return TestSet("test", in_batches(as_input(images.test_images, images.scale), images.test_labels))
    found = call_own(data, "--data")
    if not isinstance(found, tuple) or len(found) not in (2, 3):
        raise _unusable(data, found)
    if all(isinstance(part, np.ndarray) for part in found):
        if len(found) != 2:
            raise _unusable(data, found)
        return TestSet("test", in_batches(*found))
    name = "test" if len(found) == 3 and found[2] is not None else "validation"
    chosen = found[2] if name == "test" else found[1]
    try:
        with at(f"--data {data}: the {name} loader"):
            return TestSet(name, reread(chosen)())
    except TypeError as error:
        raise _unusable(data, found) from error


def _unusable(data: str, found: Any) -> InputError:
    kinds = ", ".join(type(part).__name__ for part in found) if isinstance(found, tuple) else ""
    told = f"a tuple of {kinds}" if kinds else f"a {type(found).__name__}"
    return InputError(
        f"--data {data} returned {told}. Cure: return two NumPy arrays (inputs and targets), or loaders as "
        "for compress: (train, validation, test)"
    )


def in_batches(inputs: AnyArray, targets: AnyArray, size: int = 1000) -> Batches:
    """Arrays in batches, the examples along their first axis.

    Raises DataError: different numbers of inputs and targets, or none.
    """
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
        raise DataError(
            f"inputs {inputs.shape} and targets {targets.shape} differ in number. Cure: one target an input"
        )
    return [(inputs[i : i + size], targets[i : i + size]) for i in range(0, len(inputs), size)]


def score_batches(
    path: str | os.PathLike[str],
    batches: Batches,
    task: Task = Classification(),  # noqa: B008 - frozen
    arithmetic: str | None = None,
    trusted: bool = False,
) -> dict[str, Any]:
    """The task's metric of a decoded file on batches, and nats per term where the task defines them.

    ``arithmetic`` as in :mod:`laconic.cli.arithmetic`. A ``trusted`` file may take any memory.

    Raises DataError or InputError: no batch, a batch that the task cannot split, inputs that the network does
    not take, outputs or targets that do not fit the task.
    """
    from laconic.cli.arithmetic import network_in, says
    from laconic.pack import layout

    with reading(path):
        net = network_in(path, arithmetic, trusted)
    sums: Any = None
    nats: float | None = 0.0
    terms = 0
    for given in batches:
        batch = task.split(given)
        inputs, target = as_arrays(batch.inputs), as_arrays(batch.target)
        outputs = task.prediction(_outputs(net, inputs))
        found = task.measure(outputs, target)
        sums = found if sums is None else task.add(sums, found)
        more = task.nats(outputs, target)
        nats = None if nats is None or more is None else nats + more
        terms += task.terms(target)
    if sums is None:
        raise DataError("the test set is empty: there is nothing to score. Cure: check what returns it")
    size = os.path.getsize(path)
    fp32 = 4 * sum(r.weights for r in layout(read_bytes(path), limits=limits_of(trusted)))
    return {
        "bytes": size,
        "fp32_bytes": fp32,
        "ratio": fp32 / size,
        "metric": task.metric.name,
        "unit": task.metric.unit,
        "higher_is_better": task.metric.higher_is_better,
        "value": task.value(sums),
        "terms": terms,
        "nll": None if nats is None or not terms else nats / terms,
        "torch_imported": "torch" in sys.modules,
        **({} if arithmetic is None else {"arithmetic": says(net, arithmetic)}),
    }


def _outputs(net: Any, inputs: Any) -> Any:
    """What the network returns for a batch's inputs: one, several in a tuple, or by name in a dictionary."""
    if isinstance(inputs, Mapping):
        return net(**inputs)
    return net(*inputs) if isinstance(inputs, tuple) else net(inputs)


def as_arrays(tree: Any) -> Any:
    """Tensors of any library as NumPy arrays, in tuples, lists and dictionaries too. Imports no torch."""
    if isinstance(tree, Mapping):
        return {key: as_arrays(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(as_arrays(value) for value in tree)
    if hasattr(tree, "detach"):
        tree = tree.detach().cpu()
        tree = tree.float() if "16" in str(tree.dtype) and "float" in str(tree.dtype) else tree
    return np.asarray(tree)
