"""The curvature of each likelihood in the outputs: the square root's square is autograd's Hessian."""

import pytest
import torch

from laconic.errors import InputError
from laconic.tasks import (
    BinaryClassification,
    Categorical,
    Classification,
    Gaussian,
    LanguageModelling,
    MultiLabel,
    PlainLoss,
    Regression,
    Segmentation,
    SequenceLabelling,
)

NAN = float("nan")
CASES = {
    "classification": (Classification(), (3, 4), torch.tensor([1, 0, 3])),
    "an ignored example": (Classification(ignore=-1), (3, 4), torch.tensor([1, -1, 3])),
    "class probabilities": (Classification(), (1, 2), torch.tensor([[0.25, 0.75]])),
    "binary": (BinaryClassification(), (3, 1), torch.tensor([1, 0, 1])),
    "labels, one unknown": (MultiLabel(), (2, 2), torch.tensor([[1.0, NAN], [0.0, 1.0]])),
    "pixels": (Segmentation(), (1, 3, 2, 2), torch.tensor([[[0, 2], [-100, 1]]])),
    "tokens": (LanguageModelling(), (2, 2, 3), torch.tensor([[0, 2], [-100, 1]])),
    "tags": (SequenceLabelling(), (2, 2, 3), torch.tensor([[0, 2], [-100, 1]])),
    "regression": (Regression(noise=2.0), (3,), torch.tensor([0.5, NAN, 1.0])),
    "two noises": (Regression(noise=(2.0, 0.5)), (1, 2, 2), torch.ones(1, 2, 2)),
}


def outputs_of(shape):
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_square_of_the_root_is_the_hessian(name, temperature):
    task, shape, target = CASES[name]
    z = outputs_of(shape)
    one = task.predictive().at(temperature)
    counted = task.counted(target)
    columns = [
        one.masked(one.root(z, e.reshape(shape)), counted).reshape(-1)
        for e in torch.eye(z.numel(), dtype=torch.float64)
    ]
    if isinstance(one, Gaussian):  # a hotter Gaussian has more noise: its Hessian is that over T^2
        hessian = torch.autograd.functional.hessian(lambda v: task.nll(v, target), z) / temperature**2
    else:
        hessian = torch.autograd.functional.hessian(lambda v: task.nll(v / temperature, target), z)
    expected = hessian.reshape(z.numel(), z.numel())
    assert torch.allclose(sum(torch.outer(c, c) for c in columns), expected, atol=1e-9)
    if counted is None or bool(torch.as_tensor(counted).all()):
        assert one.positions(z) == task.terms(target)


def test_drawn_labels_have_the_same_second_moment():
    """The definition of the Fisher information, summed over all labels with their probabilities."""
    z = outputs_of((1, 5))
    p = z.softmax(1)[0]
    gradients = p - torch.eye(5, dtype=torch.float64)
    fisher = torch.einsum("y,ya,yb->ab", p, gradients, gradients)
    columns = [Categorical(axis=1).root(z, e[None])[0] for e in torch.eye(5, dtype=torch.float64)]
    assert torch.allclose(sum(torch.outer(c, c) for c in columns), fisher, atol=1e-12)


def test_learnt_noise_and_unknown_distributions():
    learnt = {"log_noise": torch.tensor(2.0).log()}
    assert Regression().predictive(**learnt).noise == pytest.approx(2.0)
    assert Regression().predictive().noise == 1.0
    assert PlainLoss(lambda outputs, target: outputs.mean()).predictive() is None
    with pytest.raises(InputError, match=r"temperature must be finite and > 0, got 0"):
        Categorical(0.0)
    with pytest.raises(InputError, match="noise must be finite and > 0"):
        Gaussian(noise=(1.0, -1.0))
