"""Narrow modules against torch's own: on zero-padded numbers, and where nothing was removed."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.records import KeepPlan
from laconic.structure import find_groups, shrink
from laconic.structure.narrow import NarrowAttention, NarrowLayerNorm, narrow_layer_norm


@pytest.mark.parametrize("kept", [1, 3, 8])
def test_layer_norm_of_padded_numbers(kept):
    generator = torch.Generator().manual_seed(kept)
    x = torch.zeros(4, 5, 8, dtype=torch.float64)
    x[..., :kept] = torch.randn(4, 5, kept, generator=generator, dtype=torch.float64)
    weight, bias = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    got = narrow_layer_norm(x[..., :kept], 8, weight[:kept], bias[:kept], 1e-5)
    assert torch.allclose(got, F.layer_norm(x, (8,), weight, bias, 1e-5)[..., :kept], atol=1e-13)
    got = narrow_layer_norm(x[..., :kept], 8, weight[:kept], None, 1e-5, centred=False)
    assert torch.allclose(got, F.rms_norm(x, (8,), weight, 1e-5)[..., :kept], atol=1e-13)


def test_counting_what_is_left_would_be_something_else():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(narrow_layer_norm(x, 8, None, None, 1e-5), F.layer_norm(x, (4,)), atol=1e-2)


def test_gradients_reach_all_parameters():
    norm = NarrowLayerNorm(8, torch.ones(5), torch.zeros(5), 1e-5)
    norm(torch.randn(3, 5)).square().sum().backward()
    assert norm.weight.grad is not None and norm.bias.grad is not None


def narrow(full: nn.MultiheadAttention) -> NarrowAttention:
    weights, biases = full.in_proj_weight.detach().chunk(3), full.in_proj_bias.detach().chunk(3)
    parts = dict(zip(("q_proj", "k_proj", "v_proj"), zip(weights, biases, strict=True), strict=True))
    parts["out_proj"] = (full.out_proj.weight.detach(), full.out_proj.bias.detach())
    return NarrowAttention(parts, full.num_heads, dropout=0.0, batch_first=full.batch_first).eval()


@pytest.mark.parametrize(
    ("batch_first", "batched", "masks"), itertools.product([True, False], [True, False], range(4))
)
def test_attention_is_torchs_where_nothing_is_gone(batch_first, batched, masks):
    generator = torch.Generator().manual_seed(0)
    full = nn.MultiheadAttention(12, 3, batch_first=batch_first).eval()
    q, k, v = (torch.randn(2, n, 12, generator=generator) for n in (4, 5, 5))
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    options = {}
    if masks in (1, 3):
        options["attn_mask"] = torch.randn(4, 5, generator=generator)
    if masks == 2:
        options["attn_mask"] = torch.randn(4, 5, generator=generator) > 1
    if masks == 3:
        options["key_padding_mask"] = padding.float().masked_fill(padding, float("-inf"))
    if not batched:
        q, k, v = q[0], k[0], v[0]
        options = {n: m[0] if n == "key_padding_mask" else m for n, m in options.items()}
    elif not batch_first:
        q, k, v = (t.transpose(0, 1) for t in (q, k, v))
    for average in (True, False):
        got = narrow(full)(q, k, v, average_attn_weights=average, **options)
        wanted = full(q, k, v, average_attn_weights=average, **options)
        for a, b in zip(got, wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-6)
    assert narrow(full)(q, k, v, need_weights=False)[1] is None


def test_one_mask_a_head():
    full = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    x = torch.randn(2, 4, 12)
    mask = torch.randn(6, 4, 4)
    assert torch.allclose(
        narrow(full)(x, x, x, attn_mask=mask)[0], full(x, x, x, attn_mask=mask)[0], atol=1e-6
    )


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, image, shift=0.0):
        return self.last(torch.relu(self.first(image))) * self.scale + shift


def test_a_network_that_selects_calls_its_layers_and_inputs_as_before(tmp_path):
    torch.manual_seed(0)
    model = Named()
    coupling = find_groups(model, torch.zeros(2, 6))
    (pixels,) = [g for g in coupling.groups if g.of_input]
    small = shrink(model, coupling, KeepPlan({pixels.name: (1, 4)}, {pixels.name: 6}))
    x = torch.randn(3, 6)
    with torch.no_grad():
        model.first.weight[:, [0, 2, 3, 5]] = 0
    for one in (small, copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert set(one.state_dict()) == {*model.state_dict(), "input0_gaps_1"}
        torch.testing.assert_close(one(image=x, shift=1.0), model(x, 1.0))
    one.train()
    assert one.net.training and one.first.training
    one.load_state_dict({**small.state_dict(), "scale": torch.full((3,), 2.0)})
    torch.testing.assert_close(one.double().eval()(x.double()), 2 * model.double()(x.double()))
    laconic.save(small, tmp_path / "small.lac", example=x)
    net = laconic.runtime.load(tmp_path / "small.lac")
    graph = laconic.pack.read(tmp_path / "small.lac").graph
    assert graph.input_names == ("image",)
    model.float()
    np.testing.assert_allclose(net(image=x.numpy()), model(x).detach().numpy(), atol=1e-5)
    names = {row.name for row in laconic.pack.layout((tmp_path / "small.lac").read_bytes())}
    assert {"first.weight", "scale", "input0_gaps_1"} <= names
