"""Properties of every method, a user's own included, checked in a few steps of training."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from laconic import api, pack, saving
from laconic.data import load, split
from laconic.export.build import build_packed
from laconic.methods import Compressed, Method
from laconic.runtime import load as load_runtime
from laconic.testing.requirements import require
from laconic.zoo import DigitsMLP

STEPS, BATCH, LR, TRAINING_SEED = 6, 32, 3e-3, 3
Build = Callable[[], nn.Module]


def check_method(
    method: Method, build: Build | None = None, folder: str | os.PathLike[str] | None = None
) -> Compressed:
    """Train a network for a few steps under a method, and check all properties.

    That is: the network handed in stays as it was. What ``prepare`` returns takes and gives the same, has the
    weights that the network came with, and each layer in the mode that it came in. A
    deep copy and a state dict carry all that was learnt. ``convert`` returns a plain network that holds
    exactly what its tensors decode to; layers and sizes change only where the method says so
    (``changes_architecture``). The file decodes to the same weights bit for bit, and to the same outputs
    within 1e-5 of the largest. The same seed gives the same tensors, byte for byte in a file.

    Args:
        method: The method, set so that it does its work within 6 steps of 32 examples.
        build: A function that returns the same network each time, from images (N, 1, 8, 8) to logits (N, 10);
            None: a perceptron with 64 hidden units.
        folder: Where ``first.lac`` is written; None: a folder that is removed again.

    Returns:
        What the method made of the network.

    Raises:
        AssertionError: A property does not hold; the message names it.

    >>> from laconic.methods import MagnitudePruning
    >>> small = check_method(MagnitudePruning(0.8, every=2))
    >>> sum(t.nonzeros() for t in small.tensors.values()) < 0.3 * 4810
    True
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as made:
            return check_method(method, build, made)
    build = build or _perceptron
    require(isinstance(method, Method), f"a method inherits laconic.methods.Method (got {type(method)})")
    model = build()
    before = copy.deepcopy(model)
    net = train(model, method, batches=True)
    _check_model_untouched(model, before)
    _check_forward(model, copy.deepcopy(net))  # a pass in training mode moves running statistics
    for given in (_in_mixed_modes(build()), build().eval()):
        kept = copy.deepcopy(given)
        start = prepare(given, method, batches=True)
        _check_model_untouched(given, kept)
        _check_start(start, given)
    _check_copies(net, prepare(build(), method, batches=True))
    small = api.convert(net)
    _check_plain(model, small, method)
    _check_file(small, Path(folder) / "first.lac")
    again = api.convert(train(build(), method, batches=True))
    require(_coded(small) == _coded(again), "the same seed gives the same file")
    return small


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """192 digits (192, 1, 8, 8) and their labels (192,)."""
    train = split(load("digits"), validation=200, seed=0).train
    return train.inputs[: STEPS * BATCH], train.labels[: STEPS * BATCH]


def prepare(
    model: nn.Module, method: Method, seed: int = TRAINING_SEED, *, batches: bool = False
) -> nn.Module:
    """A network prepared under a method for the digits, with the training batches at hand or without."""
    x, y = digits()
    given = list(zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True)) if batches else None
    return api.prepare(model, method, x[:2], data_size=len(x), seed=seed, total_steps=STEPS, batches=given)


def train(
    model: nn.Module,
    method: Method,
    *,
    steps: int = STEPS,
    seed: int = TRAINING_SEED,
    batches: bool = False,
) -> nn.Module:
    """A network prepared under a method and trained for some steps, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x, y = digits()
        net = prepare(model, method, seed, batches=batches)
        optimizer = torch.optim.Adam(api.param_groups(net, lr=LR))
        net.train()
        for k in range(steps):
            rows = slice(BATCH * k, BATCH * (k + 1))
            loss = api.objective(net, (x[rows], y[rows]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            api.step(net)
    finally:
        torch.set_num_threads(threads)
    return net


def _perceptron() -> nn.Module:
    return DigitsMLP(generator=torch.Generator().manual_seed(5))


def _check_model_untouched(model: nn.Module, before: nn.Module) -> None:
    """``prepare`` and training leave the input model as it was."""
    kinds = [[type(m) for m in network.modules()] for network in (model, before)]
    require(kinds[0] == kinds[1], "the input model keeps its layers")
    require(set(vars(model)) == set(vars(before)), "prepare leaves no attribute on the input model")
    _check_same_state(model.state_dict(), before.state_dict(), "the input model keeps its values")
    require(all(p.grad is None for p in model.parameters()), "the input model gets no gradients")
    moved = _other_modes(model, before)
    require(not moved, f"the input model keeps its mode (not so: {moved})")


def _check_start(net: nn.Module, model: nn.Module) -> None:
    """``prepare`` changes no weight, no buffer and no layer's mode; training alone does."""
    state = net.state_dict()
    for name, tensor in model.state_dict().items():
        if name in state and state[name].shape == tensor.shape:
            require(torch.equal(state[name], tensor), f"prepare leaves the values of {name!r} as they are")
    moved = _other_modes(net, model)
    require(not moved, f"prepare leaves each layer in its mode (not so: {moved})")


def _other_modes(net: nn.Module, model: nn.Module) -> list[str]:
    """The layers of the same name that are not in the same mode; the network itself is ``''``."""
    modes = {name: layer.training for name, layer in model.named_modules()}
    return [n for n, layer in net.named_modules() if n in modes and layer.training != modes[n]]


def _in_mixed_modes(model: nn.Module) -> nn.Module:
    """The network itself in training mode, and every second layer in evaluation mode."""
    for number, layer in enumerate(model.modules()):
        layer.training = number == 0 or number % 2 == 1
    return model


def _check_forward(model: nn.Module, net: nn.Module) -> None:
    """The same forward signature and output shape; a penalty that is one finite number."""
    wanted, got = inspect.signature(model.forward), inspect.signature(net.forward)
    require(wanted == got, f"the forward signature stays {wanted} (got {got})")
    x = digits()[0][:5]
    require(net(x).shape == model(x).shape, "the output keeps its shape")
    penalty = api.penalty(net)
    require(penalty.ndim == 0, f"the penalty is one number (got shape {tuple(penalty.shape)})")
    require(torch.isfinite(penalty.detach()), f"the penalty is finite (got {float(penalty.detach())})")


def _check_copies(net: nn.Module, fresh: nn.Module) -> None:
    """A deep copy, and a fresh network that got the state dict, compute and decide the same."""
    x = digits()[0][:5]
    net.eval()
    fresh.load_state_dict(net.state_dict())
    for kind, other in (("a deep copy", copy.deepcopy(net)), ("the state dict", fresh)):
        other.eval()
        with torch.no_grad():
            require(torch.equal(other(x), net(x)), f"{kind} carries the outputs")
        wanted, got = api.convert(copy.deepcopy(net)), api.convert(other)
        _check_same_tensors(got, wanted, f"{kind} carries the decision")


def _check_plain(model: nn.Module, small: Compressed, method: Method) -> None:
    """A network of the original classes, that holds exactly what its tensors decode to."""
    state = small.module.state_dict()
    if not method.changes_architecture:
        kinds = [[type(m) for m in network.modules()] for network in (small.module, model)]
        require(kinds[0] == kinds[1], "the converted module has the original classes")
        require(
            list(state) == list(model.state_dict()), "the converted module has the original state-dict keys"
        )
        require(not small.architecture_changed, "architecture_changed is False where changes_architecture is")
    left = [name for name in state if name.startswith("laconic_")]
    require(not left, f"nothing of the training is left in the converted module (got {left})")
    require(not small.module.training, "the converted module is in evaluation mode")
    for name, tensor in small.tensors.items():
        same = np.array_equal(tensor.values(), state[name].numpy())
        require(same, f"tensor {name!r} decodes to the converted module's values")
    try:
        json.dumps(dict(small.facts))
    except TypeError as error:
        require(False, f"facts are plain data for a JSON file ({error})")


def _check_file(small: Compressed, path: Path) -> None:
    """Decoded equals converted: weights bit for bit, outputs within 1e-5 of the largest."""
    saving.save(small, path)
    state = small.module.state_dict()
    decoded = {t.name: t.values() for t in pack.read(path).tensors if not t.name.startswith("@")}
    for name, values in decoded.items():
        require(np.array_equal(values, state[name].numpy()), f"tensor {name!r} is the same in the file")
    x = digits()[0][:16]
    with torch.no_grad():
        wanted = small.module(x).numpy()
    worst = float(np.abs(load_runtime(path, threads=1)(x.numpy()) - wanted).max())
    near = worst <= 1e-5 * float(np.abs(wanted).max())
    require(near, f"outputs from the file are the converted module's (they differ by {worst:.2e})")


def _coded(small: Compressed) -> bytes:
    """The tensors as a file's bytes, without the graph: capturing it takes most of a save."""
    return pack.encode(build_packed(small.module, small.tensors, None)[0])


def _check_same_state(got: dict[str, Tensor], wanted: dict[str, Tensor], text: str) -> None:
    require(list(got) == list(wanted), f"{text} (other names)")
    for name, tensor in wanted.items():
        require(torch.equal(got[name], tensor), f"{text} ({name})")


def _check_same_tensors(got: Compressed, wanted: Compressed, text: str) -> None:
    require(list(got.tensors) == list(wanted.tensors), f"{text} (other names)")
    for name, tensor in wanted.tensors.items():
        require(np.array_equal(got.tensors[name].values(), tensor.values()), f"{text} ({name})")
