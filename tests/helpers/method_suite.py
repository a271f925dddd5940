"""The suite that every method must pass, whatever its paper: see CONTRIBUTING.md, "A method".

``check_method(method, build, folder)`` trains the network that ``build()`` makes for a few steps under
``method`` and raises AssertionError with the promise that was broken.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import laconic
from laconic import pack
from laconic.data import load, split
from laconic.methods import Compressed, Method
from laconic.runtime import load as load_runtime

STEPS, BATCH = 6, 32
Build = Callable[[], nn.Module]


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """192 digits and their labels."""
    train = split(load("digits"), validation=200, seed=0).train
    return train.inputs[: STEPS * BATCH], train.labels[: STEPS * BATCH]


def train(model: nn.Module, method: Method, *, steps: int = STEPS, seed: int = 3) -> nn.Module:
    """A network prepared under ``method`` and trained for ``steps`` steps, on one thread."""
    torch.set_num_threads(1)
    x, y = digits()
    net = laconic.prepare(model, method, x[:2], data_size=len(x), seed=seed, total_steps=STEPS)
    optimizer = torch.optim.Adam(laconic.param_groups(net, lr=3e-3))
    net.train()
    for k in range(steps):
        rows = slice(BATCH * k, BATCH * (k + 1))
        loss = laconic.objective(net, (x[rows], y[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        laconic.step(net)
    return net


def check_method(method: Method, build: Build, folder: Path) -> Compressed:
    """All promises; returns what the method made of the network."""
    model = build()
    before = copy.deepcopy(model)
    net = train(model, method)
    check_model_untouched(model, before)
    check_forward(model, copy.deepcopy(net))  # a pass in training mode moves running statistics
    x = digits()[0]
    check_copies(net, laconic.prepare(build(), method, x[:2], data_size=len(x), total_steps=STEPS))
    small = laconic.convert(net)
    check_plain(model, small)
    check_file(small, folder / "first.lac")
    again = laconic.convert(train(build(), method))
    laconic.save(again, folder / "second.lac")
    first, second = (folder / "first.lac").read_bytes(), (folder / "second.lac").read_bytes()
    assert first == second, "the same seed gave another file"
    return small


def check_model_untouched(model: nn.Module, before: nn.Module) -> None:
    """``prepare`` and training leave the input model as it was."""
    assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()], "a layer changed"
    assert set(vars(model)) == set(vars(before)), "prepare left something on the input model"
    assert_same_state(model.state_dict(), before.state_dict(), "the input model was changed")
    assert not any(p.grad is not None for p in model.parameters()), "the input model got gradients"
    assert model.training == before.training, "the input model's mode was changed"


def check_forward(model: nn.Module, net: nn.Module) -> None:
    """The same forward signature and output shape; a penalty that is one finite number."""
    wanted, got = inspect.signature(model.forward), inspect.signature(net.forward)
    assert wanted == got, f"the forward signature is {got}, not {wanted}"
    x = digits()[0][:5]
    assert net(x).shape == model(x).shape, "the output's shape changed"
    penalty = laconic.penalty(net)
    assert penalty.ndim == 0, f"the penalty has shape {tuple(penalty.shape)}"
    assert bool(torch.isfinite(penalty)), f"the penalty is {penalty}"


def check_copies(net: nn.Module, fresh: nn.Module) -> None:
    """A deep copy, and a fresh network that got the state dict, compute and decide the same."""
    x = digits()[0][:5]
    net.eval()
    fresh.load_state_dict(net.state_dict())
    for kind, other in (("a deep copy", copy.deepcopy(net)), ("the state dict", fresh)):
        other.eval()
        with torch.no_grad():
            assert torch.equal(other(x), net(x)), f"{kind} does not carry the outputs"
        wanted, got = laconic.convert(copy.deepcopy(net)), laconic.convert(other)
        assert_same_tensors(got, wanted, f"{kind} does not carry the decision")


def check_plain(model: nn.Module, small: Compressed) -> None:
    """The result is a network of the original classes, that holds exactly what its tensors decode to."""
    assert [type(m) for m in small.module.modules()] == [type(m) for m in model.modules()], "not plain"
    assert list(small.module.state_dict()) == list(model.state_dict()), "the state-dict keys changed"
    assert not small.module.training, "the converted module is in training mode"
    state = small.module.state_dict()
    for name, tensor in small.tensors.items():
        same = np.array_equal(tensor.values(), state[name].numpy())
        assert same, f"tensor {name!r} does not decode to the converted module's values"


def check_file(small: Compressed, path: Path) -> None:
    """Decoded equals converted: weights bit for bit, outputs within 1e-5 of the largest."""
    laconic.save(small, path)
    state = small.module.state_dict()
    decoded = {t.name: t.values() for t in pack.read(path).tensors if not t.name.startswith("@")}
    for name, values in decoded.items():
        assert np.array_equal(values, state[name].numpy()), f"tensor {name!r} changed in the file"
    x = digits()[0][:16]
    with torch.no_grad():
        wanted = small.module(x).numpy()
    worst = float(np.abs(load_runtime(path, threads=1)(x.numpy()) - wanted).max())
    assert worst <= 1e-5 * float(np.abs(wanted).max()), f"outputs from the file differ by {worst:.2e}"


def assert_same_state(got: dict[str, Tensor], wanted: dict[str, Tensor], text: str) -> None:
    """Two state dicts hold the same names and bits."""
    assert list(got) == list(wanted), f"{text}: other names"
    for name, tensor in wanted.items():
        assert torch.equal(got[name], tensor), f"{text}: {name}"


def assert_same_tensors(got: Compressed, wanted: Compressed, text: str) -> None:
    """Two results hold the same names, grids and integers."""
    assert list(got.tensors) == list(wanted.tensors), f"{text}: other names"
    for name, tensor in wanted.tensors.items():
        assert np.array_equal(got.tensors[name].values(), tensor.values()), f"{text}: {name}"
