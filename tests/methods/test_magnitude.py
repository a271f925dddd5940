from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.errors import InputError
from laconic.methods import MagnitudePruning
from laconic.methods.common.masks import weight_masks_of
from laconic.networks.policy import weights_of
from laconic.prepared import prepared
from laconic.schedules import Cubic
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits

STEPS = 12


def _zeros_by_step(method: MagnitudePruning) -> tuple[nn.Module, list[int]]:
    """Train a little; after each step the number of weights cut so far, and none of them came back."""
    torch.set_num_threads(1)
    model = DigitsMLP(hidden=20, generator=torch.Generator().manual_seed(2))
    x, y = digits()
    net = laconic.prepare(model, method, x[:2], data_size=len(x), total_steps=STEPS)
    optimizer = torch.optim.Adam(laconic.param_groups(net, lr=0.02))
    cut: list[int] = []
    before = [mask.clone() for mask in weight_masks_of(net).values()]
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        laconic.step(net, terms=len(x))
        masks = weight_masks_of(net).values()
        assert not any(bool((new & ~old).any()) for new, old in zip(masks, before, strict=True))
        before = [mask.clone() for mask in masks]
        for weight, mask in zip(weights_of(net).values(), masks, strict=True):
            assert not weight[~mask].any()
        cut.append(sum(int((~mask).sum()) for mask in masks))
    return net, cut


def test_the_share_cut_follows_the_schedule_step_by_step() -> None:
    method = MagnitudePruning(0.9, every=3, schedule=Cubic(0.1, 0.8))
    net, cut = _zeros_by_step(method)
    size = sum(w.numel() for w in weights_of(net).values())
    wanted, latest = [], 0
    for step in range(1, STEPS + 1):
        if step % 3 == 0:
            latest = int(Cubic(0.1, 0.8)(step / STEPS, 0.9) * size)
        wanted.append(latest)
    assert cut == wanted
    assert float(laconic.penalty(net)) == 0.0


@pytest.mark.parametrize("per_layer", [False, True])
def test_the_final_share_is_exact(per_layer: bool) -> None:
    net, _ = _zeros_by_step(MagnitudePruning(0.83, every=4, per_layer=per_layer))
    small = laconic.convert(net)
    names = list(weights_of(net))
    sizes = {n: small.tensors[n].values().size for n in names}
    kept = {n: sizes[n] - int((~mask).sum()) for n, mask in weight_masks_of(net).items()}
    if per_layer:
        assert kept == {n: size - int(0.83 * size) for n, size in sizes.items()}
    assert sum(kept.values()) == sum(sizes.values()) - sum(
        int(0.83 * s) for s in (sizes.values() if per_layer else [sum(sizes.values())])
    )
    for name, mask in weight_masks_of(net).items():
        assert not small.tensors[name].values()[~mask.numpy()].any()


def test_convert_cuts_to_the_final_share_even_when_training_stopped_early() -> None:
    model = DigitsMLP(hidden=20, generator=torch.Generator().manual_seed(2))
    small = laconic.convert(laconic.prepare(model, MagnitudePruning(0.7), digits()[0][:2], data_size=9))
    size = sum(small.tensors[n].values().size for n in ("fc1.weight", "fc2.weight"))
    assert sum(small.tensors[n].nonzeros() for n in ("fc1.weight", "fc2.weight")) <= size - int(0.7 * size)


def test_the_schedule_counts_epochs_when_the_steps_are_unknown() -> None:
    method = MagnitudePruning(0.5, every=1, epochs=2.0, schedule=Cubic(end=1.0))
    x = digits()[0][:50]
    net = laconic.prepare(DigitsMLP(hidden=20), method, x[:2], data_size=50)
    for epoch in (1, 2):
        net.train()
        net(x)
        laconic.step(net, terms=50)
        assert prepared(net, "test").context.epochs == epoch
        size = sum(mask.numel() for mask in weight_masks_of(net).values())
        cut = sum(int((~mask).sum()) for mask in weight_masks_of(net).values())
        assert cut == int(Cubic(end=1.0)(epoch / 2, 0.5) * size)


def test_surviving_weights_are_off_by_half_a_step_at_most() -> None:
    net, _ = _zeros_by_step(MagnitudePruning(0.6, every=4))
    small = laconic.convert(net)
    for (name, weight), mask in zip(weights_of(net).items(), weight_masks_of(net).values(), strict=True):
        kept = mask.numpy()
        error = np.abs(small.tensors[name].values()[kept] - weight.detach().numpy()[kept])
        assert error.max() <= 0.5001 * small.tensors[name].grid.step  # type: ignore[union-attr]


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="sparsity must lie in .*, got 1.0"):
        MagnitudePruning(1.0)
    with pytest.raises(InputError, match="every and epochs must be positive, got 0, 10.0"):
        MagnitudePruning(every=0)
