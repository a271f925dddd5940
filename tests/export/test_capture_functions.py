"""Functions inside a forward: arithmetic, reductions, shapes, joins, masks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.parity import Fn, assert_parity

FUNCTIONS: dict[str, Callable[..., object]] = {
    "scalars": lambda x: (1 - x * 2 / 3 + x - 4) / 5,
    "scalar first": lambda x: 2 / (x.abs() + 1),
    "zeros": lambda x: (
        torch.maximum(x, torch.zeros(5)) + torch.zeros(4, 1) - torch.zeros(1, 5) + (torch.zeros(5) - x),
        x + torch.zeros(3, 1, 4, 5),
        x.relu().relu() * torch.zeros(5),
    ),
    "alpha": lambda x: torch.add(x, x * 3, alpha=2) - torch.sub(x, 1, alpha=3),
    "powers": lambda x: x**2 + x**3 + (x.abs() + 1) ** 0.5 + (x.abs() + 1).rsqrt(),
    "exp log": lambda x: x.exp().log().neg() + (x.abs() + 1).sqrt().reciprocal(),
    "rounding": lambda x: x.round() + x.floor() + x.ceil() + x.sign(),
    "trigonometry": lambda x: x.sin() + x.cos() + x.erf(),
    "clamp": lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0) + x.clamp_max(0.2),
    "clamp by tensor": lambda x: torch.clamp(x, min=x * 0.5),
    "extrema": lambda x: torch.maximum(x, x * 2) + torch.minimum(x, x * 2),
    "where": lambda x: torch.where(x > 0, x, x * 0.1) + torch.where(x > 1, 1.0, 0.0),
    "masked fill": lambda x: x.masked_fill(x < 0, -1.5),
    "logic": lambda x: ((x > 0) & (x <= 1)) | ~(x >= -1) | (x == 2) | (x != x),
    "to float": lambda x: (x < 0).float() + (x > 0).to(torch.float32),
    "mean": lambda x: x.mean(1) + x.mean((1, 2), keepdim=True)[:, 0],
    "sum": lambda x: (x.sum(-1), x.sum((1, 2))),
    "max over an axis": lambda x: x.max(1),
    "max values only": lambda x: x.max(1)[0] + x.amax(1) + x.amin(1),
    "over everything": lambda x: (x * 0 + 1).mean() + (x * 0).max(),
    "argmax": lambda x: x.argmax(-1),
    "variance": lambda x: x.var(1) + x.std(1, unbiased=False),
    "norms": lambda x: F.normalize(x, dim=1) + x.norm(dim=1, keepdim=True),
    "logsumexp": lambda x: torch.logsumexp(x, 1),
    "cumsum": lambda x: x.softmax(1).cumsum(1),
    "cosine": lambda x: F.cosine_similarity(x, x + 1, dim=1),
    "cat": lambda x: torch.cat([x, x * 2], 1),
    "stack": lambda x: torch.stack([x, x * 2], -1),
    "chunk": lambda x: x.chunk(2, 1)[1] * x.chunk(2, 1)[0],
    "split": lambda x: x.split([1, 3], 1),
    "unbind": lambda x: x.unbind(1)[2],
    "slices": lambda x: x[:, 1:3] + x[:, -1:] + x[:, ::2] + x[:, None, 1],
    "select": lambda x: x[:, -1] + x[:, 0],
    "index": lambda x: x[:, [2, 0]],
    "view": lambda x: x.view(x.size(0), -1).reshape(-1, 4, 5).flatten(1),
    "transposes": lambda x: (x.transpose(1, 2), x.permute(0, 2, 1), x.mT, x.movedim(1, 2)),
    "squeeze": lambda x: x.unsqueeze(-1).squeeze(-1).unsqueeze(1),
    "expand": lambda x: x.unsqueeze(2).expand(-1, -1, 6, -1),
    "repeats": lambda x: (x.repeat(1, 2, 1), x.repeat_interleave(2, 1), x.flip(1), x.roll((1, -2), (1, 2))),
    "products": lambda x: (x @ x.mT, torch.bmm(x, x.mT), torch.baddbmm(x @ x.mT, x, x.mT, beta=0.5, alpha=2)),
    "einsum": lambda x: torch.einsum("b i j, b k j -> b i k", x, x),
    "padding": lambda x: (
        F.pad(x, (1, 2)),
        F.pad(x, (1, 2, 0, 1), value=3.0),
        F.pad(x, (1, 1), mode="reflect"),
    ),
    "glu": lambda x: F.glu(x, 1),
    "constants": lambda x: x * torch.arange(5) + torch.linspace(0, 1, 5) + torch.tensor(2.0),
    "triangles": lambda x: x * torch.tril(torch.ones(4, 5)),
    "batch-sized constants": lambda x: torch.cat([torch.zeros(x.size(0), 1, 5), x, torch.ones_like(x)], 1),
    "in place": lambda x: (x * 1).add_(1).mul_(2).relu_(),
    "written through a view": lambda x: _written_through_a_view(x),
    "no grad inside": lambda x: _no_grad_inside(x),
    "attention, causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "attention, scaled": lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.3),
    "attention, float mask": lambda x: F.scaled_dot_product_attention(x, x, x, torch.ones(4, 4).tril()),
    "attention, boolean mask": lambda x: F.scaled_dot_product_attention(x, x, x, (x @ x.mT) > -9),
}


MASK = torch.tensor([[True] * 4, [False] * 4, [True, False] * 2, [True] * 4])
FUNCTIONS |= {
    "powers by a tensor": lambda x: (x.abs() + 1) ** torch.tensor([1.0, 2, 3, 0.5, 2]),
    "layer norm with a bias alone": lambda x: F.layer_norm(x, (5,), None, torch.arange(5.0)),
    "attention, closed row": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=MASK),
    "one index, two shapes": lambda x: (x[:, torch.tensor([1])], x.index_select(2, torch.tensor(1))),
    "same constant, two ranks": lambda x: (
        torch.where(x > 0, torch.tensor(2.0), x) * torch.tensor([2.0, 2]).repeat(3)[:5]
    ),
    "nearest to a size": lambda x: F.interpolate(x, size=3),
    "nearest by a scale": lambda x: F.interpolate(x, scale_factor=1.7),
    "nearest down": lambda x: F.interpolate(x, scale_factor=0.6),
    "nearest by a whole scale": lambda x: F.interpolate(x, scale_factor=3.0),
}


def _written_through_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.view(-1, 20).mul_(2)
    return y


def _no_grad_inside(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = x * 2
    return y + 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    assert_parity(Fn(FUNCTIONS[name]), torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1)))


def test_integers_stay_integers() -> None:
    ids = torch.arange(12).reshape(3, 4)
    assert_parity(Fn(lambda i: (i + 1) * 2 - 3), ids)
    assert_parity(Fn(lambda i: i / 2), ids)
    assert_parity(Fn(lambda i: (i != 0).sum(1)), ids)


@pytest.mark.parametrize(("before", "after"), [(14, 4), (20, 12), (21, 3), (14, 46), (5, 10)])
def test_nearest_neighbours_at_sizes_where_rounding_decides(before: int, after: int) -> None:
    x = torch.arange(2.0 * before).reshape(1, 2, before)
    assert_parity(Fn(lambda x: F.interpolate(x, size=after)), x)
    assert_parity(Fn(lambda x: F.interpolate(x, size=(after, 7))), x[..., None].repeat(1, 1, 1, 3))


def test_integer_powers() -> None:
    assert_parity(Fn(lambda i: (i**0.5, i**2)), torch.arange(12).reshape(3, 4))


def test_pixel_shuffle() -> None:
    assert_parity(Fn(lambda x: F.pixel_shuffle(x, 2)), torch.randn(3, 4, 3, 3))


def test_views_of_views_become_one_reshape() -> None:
    model = assert_parity(Fn(lambda x: x.reshape(-1, 2, 10).reshape(-1, 10, 2) * 1.5), torch.randn(3, 4, 5))
    assert model.graph is not None
    assert [node.op for node in model.graph.nodes] == ["reshape", "mul"]


def test_an_output_that_is_also_an_input_or_leaves_twice() -> None:
    assert_parity(Fn(lambda x: (x, x * 2, x * 2)), torch.randn(3, 4))


def test_a_batch_of_one_in_the_example_does_not_fix_the_batch() -> None:
    assert_parity(torch.nn.Linear(4, 2), torch.randn(1, 4), batches=(1, 6))
