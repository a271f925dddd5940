"""The fused step against torch's plain one, also where memory is laid out in another way than the weights."""

import copy

import pytest
import torch

from laconic.train.optimizers import SGD, Adam

LAST = torch.channels_last


def weight():
    drawn = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return torch.nn.Parameter(drawn.contiguous(memory_format=LAST))


def gradient(step):
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(step + 1))


def trained(optimizer, parameter, lay_grad, lay_moments):
    for step in range(3):
        parameter.grad = lay_grad(gradient(step))
        optimizer.step()
        state = optimizer.state[parameter]
        for key in ("exp_avg", "exp_avg_sq"):
            state[key] = lay_moments(state[key])
    return parameter.detach()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("lay_grad", [torch.Tensor.contiguous, lambda t: t.contiguous(memory_format=LAST)])
@pytest.mark.parametrize("lay_moments", [torch.Tensor.contiguous, lambda t: t.contiguous(memory_format=LAST)])
def test_the_fused_step_is_the_plain_one_in_any_layout(decay, lay_grad, lay_moments):
    ours, theirs = weight(), weight()
    fused = Adam(decay)([{"params": [ours], "lr": 0.01}])
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    plain = kind([theirs], lr=0.01, weight_decay=decay)
    assert fused.defaults["fused"] and isinstance(fused, kind)
    got, expected = (trained(o, p, lay_grad, lay_moments) for o, p in ((fused, ours), (plain, theirs)))
    assert torch.allclose(got, expected, atol=1e-6)


def test_moments_of_a_checkpoint_are_laid_out_as_the_weight_is():
    ours, theirs = weight(), weight()
    fused, plain = Adam()([{"params": [ours], "lr": 0.01}]), torch.optim.Adam([theirs], lr=0.01)
    for optimizer, parameter in ((fused, ours), (plain, theirs)):
        parameter.grad = gradient(0)
        optimizer.step()
    state = copy.deepcopy(fused.state_dict())
    for key in ("exp_avg", "exp_avg_sq"):
        state["state"][0][key] = state["state"][0][key].contiguous()
    fused.load_state_dict(state)
    for optimizer, parameter in ((fused, ours), (plain, theirs)):
        parameter.grad = gradient(1)
        optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_complex_weights_and_other_devices_get_torchs_usual_step():
    elsewhere = torch.nn.Parameter(torch.zeros(2, device="meta"))
    complex_weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    assert Adam()([{"params": [complex_weight], "lr": 0.01}]).defaults["fused"] is None
    assert Adam()([{"params": [elsewhere], "lr": 0.01}]).defaults["fused"] is None


def test_a_parameter_without_gradient_and_sgd():
    left = weight()
    Adam()([{"params": [left], "lr": 0.01}]).step()
    assert torch.equal(left, weight())
    assert SGD()([{"params": [left], "lr": 0.1}]).defaults["nesterov"]
    assert not SGD(momentum=0.0)([{"params": [left], "lr": 0.1}]).defaults["nesterov"]
