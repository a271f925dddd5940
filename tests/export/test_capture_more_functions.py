"""Functions that become several operations, and those of order, scattering and windows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.export.build import build_packed
from laconic.export.graph_capture import capture
from laconic.pack.graph.section import decode_graph, encode_graph
from laconic.runtime import Network
from tests.helpers.parity import Fn, assert_parity

Functions = dict[str, Callable[..., object]]


def _with_slices_written(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, 1:3] = x[:, :2]
    y[:, 0] = 0
    y[:, ::2] = y[:, 1:3] * 2
    y[:, -1:] = 1
    return y


def _with_entries_written(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[y < 0] = 0.5
    y[:, torch.tensor([0, -1])] = x[:, :2] * 3
    y[:, torch.tensor([1])] = 7.0
    y[:, :, torch.tensor([3, 1])] = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    return y


ON_SEQUENCES: Functions = {
    "topk": lambda x: x.topk(2, 1),
    "the smallest": lambda x: x.topk(3, -1, largest=False),
    "sort": lambda x: (x.sort(1), x.sort(-1, descending=True)[0]),
    "argsort": lambda x: x.argsort(1, descending=True),
    "median": lambda x: (x.median(1), x.median(2, keepdim=True)[0]),
    "kth value and quantile": lambda x: (x.kthvalue(2, 1), x.quantile(0.3, 1)),
    "buckets": lambda x: (
        torch.bucketize(x, torch.tensor([-1.0, 0, 1])),
        torch.searchsorted(torch.tensor([-1.0, 0, 1]), x, right=True),
        torch.bucketize((x > 0).float(), torch.tensor([0.0, 1]), right=True),
    ),
    "scatter": lambda x: (
        torch.zeros_like(x).scatter(2, x.argmax(-1, keepdim=True), 1.0),
        x.scatter(1, x.argmin(1, keepdim=True), x.amax(1, keepdim=True)),
    ),
    "scatter add": lambda x: torch.zeros_like(x).scatter_add(1, (x > 0).long(), x),
    "scatter reduce": lambda x: x.scatter_reduce(1, (x > 0).long(), x * 2, "amax"),
    "scatter reduce, what was there left out": lambda x: [
        x.scatter_reduce(1, (x > 0).long(), x * 2, kind, include_self=False)
        for kind in ("sum", "prod", "amax", "amin")
    ],
    "scatter reduce of integers": lambda x: (x * 9).long().scatter_reduce(
        1, (x > 0).long(), (x * 5).long(), "amax", include_self=False
    ),
    "slices written": _with_slices_written,
    "entries written": _with_entries_written,
    "scattered pieces": lambda x: (
        torch.slice_scatter(x, x[:, :2] * 2, 1, 1, 3),
        torch.select_scatter(x, x[:, 0] * 2, 1, 2),
        x.index_fill(1, torch.tensor([0]), 1.0),
    ),
    "indexing two axes": lambda x: x[:, torch.tensor([0, -1]), torch.tensor([2, 3])],
    "indexing by computed numbers": lambda x: x[:, torch.tensor([0, 1]), (x[0, :2, 0] > 0).long() - 1],
    "a fixed mask": lambda x: x[:, torch.tensor([True, False, True, True])],
    "repeats of their own": lambda x: x.repeat_interleave(torch.tensor([1, 2, 0, 3]), dim=1),
    "diagonals": lambda x: (x.diagonal(dim1=1, dim2=2), x.diagonal(1, 1, 2), x.diagonal(-2, 1, 2)),
    "one hot": lambda x: F.one_hot((x > 0).long(), 3),
    "windows": lambda x: (x.unfold(1, 2, 1), x.unfold(-1, 3, 2)),
    "fewer entries": lambda x: (F.pad(x, (-1, 1)), F.pad(x, (0, -2, 1, -1), value=2.0)),
    "any and all": lambda x: ((x > 0).any(1), (x > 0).all(-1, keepdim=True), x * (x > -99).all()),
    "integers clamped": lambda x: (x * 9).long().clamp(-3, 5).clamp_min(0),
    "norms of other orders": lambda x: (
        x.norm(p=3, dim=1),
        x.norm(p=math.inf, dim=1),
        torch.linalg.vector_norm(x, -math.inf, dim=(1, 2)),
        torch.linalg.vector_norm(x, 0, dim=2, keepdim=True),
    ),
    "distances": lambda x: [torch.cdist(x, x[:, 1:] + 1, p=p) for p in (1.0, 2.0, 3.0, math.inf)],
    "mean and variance at once": lambda x: (torch.var_mean(x, 1), torch.std_mean(x, (1, 2), correction=0)),
    "sum of products": lambda x: torch.addbmm(torch.ones(4, 4), x, x.mT, beta=0.5, alpha=2),
    "softplus with a threshold": lambda x: F.softplus(x, 2.0, 0.5),
    "subtracted from, with a factor": lambda x: torch.rsub(x, 1, alpha=2),
    "exclusive or": lambda x: (x > 0) ^ (x > 1),
    "remainders": lambda x: (x % 0.7, x.fmod(0.7), torch.fmod(x, -x - 3)),
    "division rounded towards zero": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
    "grouped queries": lambda x: F.scaled_dot_product_attention(
        x[:, None].expand(-1, 4, -1, -1), *[x[:, None].repeat(1, 2, 1, 1)] * 2, enable_gqa=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_SEQUENCES)
def test_sequences(name: str) -> None:
    assert_parity(Fn(ON_SEQUENCES[name]), torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1)))


ON_NUMBERS: Functions = {
    "trigonometry": lambda x: (x.tan(), x.atan(), (x / 9).asin(), (x / 9).acos()),
    "hyperbolic": lambda x: (x.sinh(), x.cosh(), x.asinh(), (x / 9).atanh(), (x.abs() + 1).acosh()),
    "the ends of arcs": lambda x: (x.sign().asin(), x.sign().acos()),
    "logarithms": lambda x: (x.abs().log1p(), (x.abs() + 1).log2(), (x.abs() + 1).log10(), x.exp2()),
    "rounded towards zero": lambda x: (x.trunc(), x.frac(), x.erfc()),
    "angles": lambda x: (torch.atan2(x, x.flip(0)), torch.atan2(x, x * 0), torch.hypot(x, x + 1)),
    "signs": lambda x: (torch.copysign(x, -x - 1), x.signbit(), torch.logaddexp(x, x + 1)),
    "not numbers": lambda x: (
        (x / x.relu()).isnan(),
        (1 / x.relu()).isinf(),
        (1 / x.relu()).isfinite(),
        (x / x.relu()).nan_to_num(2.0, 3.0, -4.0),
        torch.xlogy(x, x.abs() + 1),
    ),
}


@pytest.mark.parametrize("name", ON_NUMBERS)
def test_numbers(name: str) -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(2)) * 2
    assert_parity(Fn(ON_NUMBERS[name]), x)


@pytest.mark.parametrize("name", ["log1p", "expm1", "sinh", "asinh", "atanh"])
def test_tiny_numbers_are_not_lost(name: str) -> None:
    """1 + 1e-6 has one digit of 1e-6 in float32; the composed functions keep all of them."""
    assert_parity(Fn(getattr(torch, name)), torch.tensor([[1e-6, -3e-7, 2e-12, 0.0]]), batches=(1,))


ON_IMAGES: Functions = {
    "grid sample": lambda x: _sampled(x, align_corners=False),
    "grid sample, nearest": lambda x: _sampled(x, mode="nearest", padding_mode="border", align_corners=True),
    "grid sample, cubic": lambda x: _sampled(x, mode="bicubic", padding_mode="reflection"),
    "pools that do not divide": lambda x: (
        F.adaptive_avg_pool2d(x, (3, 5)),
        F.adaptive_max_pool2d(x, (3, 7)),
        F.adaptive_avg_pool1d(x[:, :, 0], 5),
        F.adaptive_max_pool1d(x[:, :, 0], 3),
        F.adaptive_avg_pool3d(x[:, None], (2, 3, 8)),
        F.adaptive_avg_pool2d(x, (11, 8)),
    ),
    "pools with a divisor": lambda x: F.avg_pool2d(x, (2, 3), divisor_override=5, count_include_pad=False),
    "any scale": lambda x: (
        F.interpolate(x, scale_factor=1.3, mode="bilinear"),
        F.interpolate(x, scale_factor=0.6, mode="bicubic"),
        F.interpolate(x, scale_factor=(1.5, 0.5), mode="bilinear", align_corners=True),
        F.interpolate(x[:, :, 0], scale_factor=1.7, mode="linear"),
        F.interpolate(x[:, None], scale_factor=0.75, mode="trilinear"),
    ),
    "smoothed": lambda x: F.interpolate(x, size=5, mode="bilinear", antialias=True),
    "smoothed, cubic": lambda x: F.interpolate(x, size=(3, 6), mode="bicubic", antialias=True),
    "nearest, exactly": lambda x: F.interpolate(x, size=(5, 11), mode="nearest-exact"),
    "areas": lambda x: F.interpolate(x, size=(5, 11), mode="area"),
    "unfold": lambda x: (F.unfold(x, 3, padding=1), F.unfold(x, (2, 3), dilation=2, stride=(1, 2))),
    "fold": lambda x: (
        F.fold(F.unfold(x, 3, padding=1), 8, 3, padding=1),
        F.fold(F.unfold(x, (2, 3), stride=(2, 1)), (8, 8), (2, 3), stride=(2, 1)),
    ),
}


def _sampled(
    x: torch.Tensor, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool = False
) -> torch.Tensor:
    return F.grid_sample(x, x.permute(0, 2, 3, 1)[:, 1:, :, :2] * 0.7, mode, padding_mode, align_corners)


@pytest.mark.parametrize("name", ON_IMAGES)
def test_images(name: str) -> None:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    assert_parity(Fn(ON_IMAGES[name]), x)


def test_a_bilinear_layer() -> None:
    assert_parity(nn.Bilinear(5, 6, 7), torch.randn(3, 5), torch.randn(3, 6))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_an_lstm_with_projections(layers: int, both: bool) -> None:
    """All outputs and the final states, against PyTorch's own kernels."""
    lstm = nn.LSTM(5, 6, layers, batch_first=True, bidirectional=both, proj_size=3, bias=layers > 1)
    model = assert_parity(lstm, torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(4)))
    assert model.graph is not None
    assert [node.op for node in model.graph.nodes] == ["lstm"]


def test_new_operations_survive_their_bytes() -> None:
    function = Fn(
        lambda x: (_sampled(x), F.fold(F.unfold(x, 2), 8, 2), x.topk(2, 1, largest=False)[0].atan())
    )
    graph = capture(function, torch.randn(2, 4, 8, 8)).graph
    assert {"grid_sample", "fold", "topk", "atan"} <= {node.op for node in graph.nodes}
    assert decode_graph(encode_graph(graph), 9) == graph


def test_angles_and_signs_of_zeros_and_infinities_are_pytorch_s() -> None:
    corners = torch.tensor([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, 1e30, -1e-30, math.nan])
    y, x = (t.reshape(-1, 1) for t in torch.meshgrid(corners, corners, indexing="ij"))

    module = Fn(lambda layer, y, x: (torch.atan2(y, x), torch.copysign(y, x)), nn.Linear(1, 1))
    model = build_packed(module, {}, (torch.ones(2, 1), torch.ones(2, 1)))[0]
    angle, signed = Network.from_packed(model)(y.numpy(), x.numpy())
    np.testing.assert_allclose(angle, torch.atan2(y, x).numpy(), rtol=1e-6)
    ordinary = ~torch.isnan(x)  # whose sign is nobody's business
    wanted = torch.copysign(y, x)
    assert np.array_equal(signed[ordinary], wanted[ordinary].numpy(), equal_nan=True)
