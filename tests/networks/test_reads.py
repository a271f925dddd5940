"""What reads each weight: patches times weights are what the layer gives, recurrences are loops over time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.errors import InputError
from laconic.networks.reads import watch_reads
from laconic.networks.second_moments import as_matrices, from_matrices


def reads_of(net, *inputs):
    found = []
    with torch.no_grad():
        watch_reads(net, lambda: net(*inputs), found.append)
    return found


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


CONVOLUTIONS = [
    (nn.Conv2d, (4, 6, 3), {"stride": 2, "padding": 1}),
    (nn.Conv2d, (4, 6, (2, 3)), {"dilation": (2, 1), "groups": 2}),
    (nn.Conv2d, (4, 8, 3), {"groups": 4, "padding": (0, 2)}),
    (nn.Conv2d, (4, 6, 4), {"padding": "same"}),
    (nn.Conv2d, (4, 6, 3), {"padding": 1, "padding_mode": "reflect"}),
    (nn.Conv1d, (4, 6, 3), {"stride": 3, "padding": 2}),
    (nn.Conv3d, (4, 6, 2), {"padding": 1, "groups": 2}),
    (nn.ConvTranspose2d, (4, 6, 3), {}),
    (nn.ConvTranspose2d, (4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    (nn.ConvTranspose2d, (4, 6, (2, 3)), {"stride": (3, 1), "groups": 2, "dilation": (1, 2)}),
    (nn.ConvTranspose2d, (4, 8, 2), {"groups": 4, "padding": 2}),
    (nn.ConvTranspose1d, (4, 6, 3), {"stride": 2}),
]


@pytest.mark.parametrize(("kind", "sizes", "options"), CONVOLUTIONS)
def test_patches_times_weights_are_the_convolution(kind, sizes, options):
    layer = kind(*sizes, bias=False, **options).double()
    dims = layer.weight.ndim - 2
    x = randn(2, 4, *(7, 6, 5)[:dims])
    (read,) = reads_of(layer, x)
    patches = torch.stack(read.patches())
    matrices = as_matrices(layer.weight.detach(), read.axis, len(patches))
    assert torch.equal(from_matrices(matrices, layer.weight, read.axis), layer.weight)
    out = torch.cat(list(patches @ matrices.transpose(1, 2)), 1)  # positions, channels
    expected = layer(x).movedim(1, -1)
    assert torch.allclose(out, expected.reshape(-1, expected.shape[-1]), atol=1e-12)
    assert (read.positions, read.inputs) == patches.shape[1:]
    some = torch.tensor([0, 3, len(patches[0]) - 1])
    assert torch.equal(torch.stack(read.patches(some)), patches[:, some])
    if options.get("padding_mode") is None:
        channels = torch.cat(read.channels, 1)
        assert torch.equal(channels, x.movedim(1, -1).reshape(-1, 4))


def test_an_image_without_a_batch():
    layer = nn.Conv2d(2, 3, 3, bias=False).double()
    x = randn(2, 5, 5)
    (read,) = reads_of(layer, x)
    out = read.patches()[0] @ layer.weight.flatten(1).T
    assert torch.allclose(out.T.reshape(3, 3, 3), layer(x))


def test_some_positions_of_a_linear_map():
    layer, x = nn.Linear(3, 2).double(), randn(4, 5, 3)
    (read,) = reads_of(layer, x)
    assert (read.positions, read.inputs) == (20, 3)
    assert torch.equal(read.patches(torch.tensor([7, 19]))[0], x.reshape(20, 3)[[7, 19]])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [(nn.LSTM, {}), (nn.LSTM, {"proj_size": 2}), (nn.GRU, {}), (nn.RNN, {}), (nn.LSTM, {"bias": False})],
)
def test_recurrent_layers_against_a_loop_of_cells(kind, options, batch_first):
    """Two layers, both ways, from states that are not zero."""
    net = kind(3, 4, 2, bidirectional=True, batch_first=batch_first, **options).double()
    shown = options.get("proj_size") or 4
    x, h = randn(2, 5, 3), randn(4, 2, shown)
    c = randn(4, 2, 4) + 1
    given = x if batch_first else x.transpose(0, 1).contiguous()
    reads = {}
    for read in reads_of(net, given, (h, c) if kind is nn.LSTM else h):
        assert read.name not in reads
        rows = read.channels[0]
        reads[read.name] = rows if batch_first else rows.reshape(5, 2, -1).transpose(0, 1).flatten(0, 1)
    weights = dict(net.named_parameters())
    below = x
    for layer in range(2):
        outs = []
        for way, suffix in enumerate((f"l{layer}", f"l{layer}_reverse")):
            own = {n.removesuffix("_" + suffix): w for n, w in weights.items() if n.endswith("_" + suffix)}
            sequence = below.flip(1) if way else below
            k = 2 * layer + way
            states, hidden = loop(kind, sequence, own, h[k], c[k])
            previous = torch.stack([h[k], *states[:-1]], 1)
            assert torch.allclose(reads[f"weight_ih_{suffix}"], below.flatten(0, 1) if not way else
                                  sequence.flatten(0, 1))  # fmt: skip
            assert torch.allclose(reads[f"weight_hh_{suffix}"], previous.flatten(0, 1))
            if "weight_hr" in own:
                assert torch.allclose(reads[f"weight_hr_{suffix}"], torch.stack(hidden, 1).flatten(0, 1))
            out = torch.stack(states, 1)
            outs.append(out.flip(1) if way else out)
        below = torch.cat(outs, -1)
    assert torch.allclose(below if batch_first else below.transpose(0, 1),
                          net(given, (h, c) if kind is nn.LSTM else h)[0])  # fmt: skip


def loop(kind, x, own, h, c):
    """States shown and hidden of one layer in one direction, by the equations of the manual."""
    states, hidden = [], []
    zero = x.new_zeros(())
    for t in range(x.shape[1]):
        a = x[:, t] @ own["weight_ih"].T + own.get("bias_ih", zero)
        b = h @ own["weight_hh"].T + own.get("bias_hh", zero)
        if kind is nn.LSTM:
            i, f, g, o = (a + b).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            u = o.sigmoid() * c.tanh()
        elif kind is nn.GRU:
            (ar, az, an), (br, bz, bn) = a.chunk(3, -1), b.chunk(3, -1)
            z = (az + bz).sigmoid()
            u = (1 - z) * (an + (ar + br).sigmoid() * bn).tanh() + z * h
        else:
            u = (a + b).tanh()
        h = u @ own["weight_hr"].T if "weight_hr" in own else u
        states.append(h)
        hidden.append(u)
    return states, hidden


def test_attention_hands_its_heads_to_the_last_map():
    net = nn.MultiheadAttention(6, 2, batch_first=True).double().eval()
    with torch.no_grad():
        net.out_proj.bias.normal_(generator=torch.Generator().manual_seed(0))
    q, k, v = randn(2, 3, 6), randn(2, 4, 6) + 1, randn(2, 4, 6) - 1
    reads = {r.name: r for r in reads_of(net, q, k, v)}
    assert [tuple(c.shape) for c in reads["in_proj_weight"].channels] == [(6, 6), (8, 6), (8, 6)]
    heads = reads["out_proj.weight"].channels[0]
    out = (heads @ net.out_proj.weight.T + net.out_proj.bias).reshape(3, 2, 6).transpose(0, 1)
    assert torch.allclose(out, net(q, k, v)[0])
    (same,) = [r for r in reads_of(net, q, q, q) if r.name == "in_proj_weight"]
    assert len(same.channels) == 1


def test_attention_over_other_widths():
    net = nn.MultiheadAttention(6, 2, kdim=4, vdim=5, batch_first=True).double().eval()
    names = {
        r.name: r.channels[0].shape[1] for r in reads_of(net, randn(1, 3, 6), randn(1, 3, 4), randn(1, 3, 5))
    }
    assert names == {"q_proj_weight": 6, "k_proj_weight": 4, "v_proj_weight": 5, "out_proj.weight": 6}


def test_a_matrix_of_ones_own_and_a_shared_one():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(3, 4)), nn.Linear(4, 4)
            self.c = nn.Linear(4, 4)
            self.c.weight = self.b.weight

        def forward(self, x):
            return self.c(self.b(x @ self.a)) + F.linear(x, self.a.T)  # the last is no weight by itself

    assert [(r.name, r.axis) for r in reads_of(Own(), torch.randn(2, 3))] == [
        ("a", 0), ("b.weight", 1), ("b.weight", 1)
    ]  # fmt: skip


def test_packed_sequences_are_refused():
    net = nn.LSTM(3, 4)
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 2, 3), [5, 3])
    with pytest.raises(InputError, match=r"packed sequence.*Cure"):
        reads_of(net, packed)
