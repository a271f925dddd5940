"""The Fisher information against brute force, in every kind of layer, and what is refused."""

import pytest
import torch
from torch import nn

from laconic.bayes.laplace import FisherSettings, gather_curvature
from laconic.errors import DataError, InputError, NonFiniteError
from laconic.tasks import Classification, LanguageModelling, PlainLoss, Regression
from tests.helpers.networks import seeded

EXACT = FisherSettings(kind="exact")


def randn(*shape, seed=2, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gathered(net, loader, task=None, seed=0, **options):
    return gather_curvature(net, loader, task, generator=torch.Generator().manual_seed(seed), **options)


def small_net():
    return seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))).double()


def brute_force(net, x, hessian):
    """By parameter the whole Gauss-Newton matrix, mean over examples, from Jacobians of single outputs."""
    names, found = [n for n, _ in net.named_parameters()], {}
    for one in x:
        z = net(one[None])[0]
        h = hessian(z.detach())
        rows = [torch.autograd.grad(v, list(net.parameters()), retain_graph=True) for v in z]
        for k, name in enumerate(names):
            j = torch.stack([row[k].reshape(-1) for row in rows])
            found[name] = found.get(name, 0) + j.T @ h @ j / len(x)
    return found


def softmax_hessian(temperature=1.0):
    def hessian(z):
        p = (z / temperature).softmax(0)
        return (p.diag() - torch.outer(p, p)) / temperature**2

    return hessian


# --- exactness ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_exact_diagonal_and_row_factors_are_brute_force(temperature):
    net, x = small_net(), randn(7, 3)
    settings = FisherSettings(kind="exact", temperature=temperature)
    y = torch.zeros(7, dtype=torch.long)
    batches = [(x[:3], y[:3]), (x[3:], y[3:])]
    found = gathered(net, batches, Classification(), settings=settings, factors=["2.weight"])
    whole = brute_force(net, x, softmax_hessian(temperature))
    assert (found.terms, found.kind, found.constant, dict(found.unreached)) == (7, "exact", (), {})
    for name, tensor in found.tensors.items():
        expected = whole[name].diagonal().float().reshape(tensor.diagonal.shape)
        assert torch.allclose(tensor.diagonal, expected, rtol=1e-5)
    hidden = net[1](net[0](x)).detach()
    a = hidden.T @ hidden / 7
    blocks = whole["2.weight"].reshape(3, 4, 3, 4)
    factors = found.factors["2.weight"]
    assert torch.allclose(factors.inputs[0], a)
    assert torch.allclose(factors.rows[0], torch.einsum("rksk->rs", blocks) / a.trace())
    tensor = found.tensors["2.weight"]
    assert torch.allclose(tensor.rows[0], factors.rows[0].diagonal())
    assert torch.allclose(tensor.inputs[0], a.diagonal())
    assert torch.allclose(tensor.smooth, torch.outer(tensor.rows[0], tensor.inputs[0]).float())


def test_of_a_linear_classifier_it_is_the_hessian():
    """Outputs linear in the weights have no second derivative, so Gauss-Newton is Newton."""
    layer, x, y = seeded(lambda: nn.Linear(3, 4, bias=False)).double(), randn(6, 3), torch.arange(6) % 4
    found = gathered(layer, [(x, y)], Classification())
    loss = nn.functional.cross_entropy
    hessian = torch.autograd.functional.hessian(lambda w: loss(x @ w.T, y), layer.weight.detach())
    expected = hessian.reshape(12, 12).diagonal().reshape(4, 3)
    assert torch.allclose(found.tensors["weight"].diagonal, expected.float(), rtol=1e-5)


def test_of_one_example_the_kronecker_product_is_exact():
    net, x = small_net(), randn(1, 3)
    found = gathered(net, [x], Classification(), labelled=False, factors=["0.weight", "2.weight"])
    whole = brute_force(net, x, softmax_hessian())
    for name, factors in found.factors.items():
        assert torch.allclose(torch.kron(factors.rows[0], factors.inputs[0]), whole[name], atol=1e-12)
        assert torch.allclose(found.tensors[name].smooth, found.tensors[name].diagonal, rtol=1e-5)


def test_the_size_of_batches_does_not_matter():
    net, x = small_net(), randn(9, 3)
    one, other = (gathered(net, x.split(size), settings=EXACT, factors=["2.weight"]) for size in (1, 5))
    for name, tensor in one.tensors.items():
        assert torch.allclose(tensor.diagonal, other.tensors[name].diagonal, rtol=1e-6)
    assert torch.allclose(one.factors["2.weight"].rows, other.factors["2.weight"].rows)
    assert torch.allclose(one.factors["2.weight"].inputs, other.factors["2.weight"].inputs)


def test_the_sampled_estimate_is_unbiased():
    """Its mean over draws comes close to the exact one, by as much as the number of draws allows."""
    net, x = small_net(), randn(8, 3)
    exact = gathered(net, [x], Classification(), labelled=False, settings=EXACT)
    settings = FisherSettings(kind="sampled", draws=400, examples=4)
    sampled = gathered(net, [x], Classification(), labelled=False, settings=settings)
    assert sampled.kind == "sampled"
    for name, tensor in exact.tensors.items():
        error = sampled.tensors[name].diagonal - tensor.diagonal
        assert error.norm() < 0.12 * tensor.diagonal.norm()  # 2 groups x 400 draws: about 5 %


def test_the_empirical_one_is_of_gradients_at_the_labels():
    net, x, y = small_net(), randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    found = gathered(net, [(x, y)], Classification(), settings=FisherSettings(kind="empirical"))
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for one, label in zip(x, y, strict=True):
        loss = nn.functional.cross_entropy(net(one[None]), label[None])
        expected += torch.autograd.grad(loss, net[2].weight)[0].square() / 5
    assert torch.allclose(found.tensors["2.weight"].diagonal, expected.float(), rtol=1e-5)


def test_a_learnt_noise_comes_from_the_residuals():
    layer = nn.Linear(1, 1, bias=False).double()
    x = randn(6, 1)
    y = layer(x).detach() + 3.0
    found = gathered(layer, [(x, y)], Regression())
    assert found.tensors["weight"].diagonal.item() == pytest.approx(float((x**2).mean()) / 9, rel=1e-5)


# --- every kind of layer -------------------------------------------------------------------------------


class Language(nn.Module):
    """Embedding, LSTM and attention over the tokens before."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
        self.head = nn.Linear(8, 11)

    def forward(self, tokens):
        return self.head(self.block(self.lstm(self.embed(tokens))[0]))


def picture_net():
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2, bias=False)),
        *(nn.ConvTranspose2d(4, 3, 2, stride=2), nn.PReLU(3), nn.Flatten(), nn.Linear(432, 12)),
    )


def test_convolutions_and_batch_norm():
    net = seeded(picture_net).double().train()
    found = gathered(net, [randn(3, 2, 10, 10)], Classification(), labelled=False)
    assert found.kind == "sampled"  # 12 outputs
    assert set(found.tensors) == {n for n, _ in net.named_parameters()}
    assert net[1].training and all(p.requires_grad and p.grad is None for p in net.parameters())
    for name in ("0.weight", "3.weight", "4.weight", "7.weight"):
        tensor = found.tensors[name]
        shape = dict(net.named_parameters())[name].shape
        assert tensor.smooth.shape == tensor.diagonal.shape == shape
        assert tensor.smooth.sum().item() == pytest.approx(tensor.diagonal.sum().item(), rel=1e-5)
    assert found.tensors["3.weight"].rows.shape == (2, 2) and found.tensors["4.weight"].rows.shape == (1, 3)
    assert found.tensors["1.weight"].rows is None  # a scale multiplies no input of its own
    assert all(bool(torch.isfinite(t.diagonal).all()) for t in found.tensors.values())


def test_a_convolution_sums_over_its_positions_before_it_squares():
    layer, x = seeded(lambda: nn.Conv2d(1, 2, 2, bias=False)).double(), randn(3, 1, 3, 3)
    found = gathered(layer, [x], settings=EXACT).tensors["weight"]
    patches = nn.functional.unfold(x, 2)  # each of the 4 outputs of a channel is one term of noise 1
    expected = patches.square().sum((0, 2)) / (3 * 4 * 2)
    assert torch.allclose(found.diagonal.reshape(2, 4), expected.expand(2, 4).float(), rtol=1e-5)


def test_recurrence_attention_and_embeddings():
    net = seeded(Language).double()
    tokens = torch.randint(0, 9, (6, 5), generator=torch.Generator().manual_seed(1))
    found = gathered(net, [tokens[:4], tokens[4:]], LanguageModelling())
    assert found.terms == 24 and found.kind == "sampled"
    for name in ("embed.weight", "lstm.weight_hh_l0", "block.self_attn.in_proj_weight", "head.weight"):
        tensor = found.tensors[name]
        assert tensor.rows is not None and bool((tensor.rows >= 0).all())
        assert tensor.smooth.sum().item() == pytest.approx(tensor.diagonal.sum().item(), rel=1e-5)
    assert found.tensors["embed.weight"].rows.shape == (1, 8)
    shares = torch.bincount(tokens[:, :-1].reshape(-1), minlength=11) / 24
    assert torch.allclose(found.tensors["embed.weight"].inputs[0].float(), shares)
    unseen = float((shares == 0).double().mean())
    assert found.unreached["embed.weight"] == pytest.approx(unseen) and unseen >= 2 / 11
    assert "head.weight" not in found.unreached


def test_ignored_tokens_are_no_terms():
    """Without mixing over time, ignoring the last tokens is leaving them out."""
    net = seeded(lambda: nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5))).double()
    tokens = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])
    inputs, target = tokens[:, :-1], tokens[:, 1:].clone()
    target[:, -1] = -100
    some = gathered(net, [(inputs, target)], LanguageModelling(), settings=EXACT)
    short = gathered(net, [tokens[:, :-1]], LanguageModelling(), settings=EXACT)
    assert some.terms == short.terms == 4
    for name, tensor in some.tensors.items():
        assert torch.allclose(tensor.diagonal, short.tensors[name].diagonal, rtol=1e-6)


def test_tied_weights_are_taken_as_the_matrix():
    net = seeded(lambda: nn.Sequential(nn.Embedding(5, 3), nn.Tanh(), nn.Linear(3, 5, bias=False))).double()
    net[2].weight = net[0].weight
    found = gathered(net, [torch.tensor([[0, 1, 2]])], LanguageModelling())
    assert list(found.tensors) == ["0.weight"]
    assert found.tensors["0.weight"].axis == 1 and found.tensors["0.weight"].rows.shape == (1, 5)


# --- what the data do not say -------------------------------------------------------------------------


def test_what_is_never_reached_is_named():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    net.unused = nn.Linear(2, 2).double()
    net.forward = lambda x: net[2](net[1](net[0](x)))  # type: ignore[method-assign]
    with torch.no_grad():
        net[0].weight.fill_(1.0), net[0].bias.copy_(torch.tensor([0.0, 0.0, -100.0]))  # unit 2 is dead
    found = gathered(net, [randn(5, 2).abs()])
    assert found.unreached["unused.weight"] == found.unreached["unused.bias"] == 1.0
    assert found.unreached["0.weight"] == pytest.approx(1 / 3)
    assert found.unreached["2.weight"] == pytest.approx(1 / 3)
    assert "2.bias" not in found.unreached


def test_constant_inputs_are_named_and_constant_data_refused():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).double()
    with torch.no_grad():
        net[0].weight[:, 1] = 0.0
    x = randn(4, 2)
    x[:, 0] = 2.0
    with pytest.raises(DataError, match=r"all 4 calibration examples give the same outputs.*Cure"):
        gathered(net, [x[:2], x[2:]])
    net.add = nn.Linear(2, 1).double()
    net.forward = lambda x: net[1](net[0](x)) + net.add(x)  # type: ignore[method-assign]
    assert gathered(net, [x[:2], x[2:]]).constant == ("1.weight",)


def test_bad_input():
    net, x, y = small_net(), randn(4, 3), torch.zeros(4, dtype=torch.long)
    for call, error, words in (
        (lambda: gathered(net, []), DataError, "curvature: the loader gave no batch"),
        (lambda: gathered(net, [x * torch.nan]), NonFiniteError, r"input of '0\.weight' holds NaN.*Cure"),
        (lambda: gathered(net, [x], Classification()), DataError, "Cure.*; or labelled=False"),
        (lambda: gathered(nn.LSTM(3, 2).double(), [x]), InputError, "returns a tuple.*Cure: forward="),
        (
            lambda: gathered(net, [x], forward=lambda n, x: n(x).detach()),
            InputError,
            "have no gradient.*Cure",
        ),
        (
            lambda: gathered(net, [(x, y - 1)], Classification(ignore=-1)),
            DataError,
            "all labels .* are ignored",
        ),
        (
            lambda: gathered(net, [(x, y)], PlainLoss(lambda z, t: z.mean())),
            InputError,
            "PlainLoss does not say how its targets are distributed.*Cure",
        ),
        (
            lambda: gathered(net, [x], settings=FisherSettings(kind="empirical")),
            InputError,
            "needs a task and labels",
        ),
        (
            lambda: gathered(net, [x], factors=["2.bias"]),
            InputError,
            r"'2\.bias' was not seen to multiply any input",
        ),
        (lambda: FisherSettings(kind="fast"), InputError, "kind must be one of auto, exact"),  # type: ignore[arg-type]
        (lambda: FisherSettings(draws=0), InputError, "draws must be a whole number >= 1, got 0"),
        (lambda: FisherSettings(temperature=0.0), InputError, "temperature must be finite and > 0"),
        (lambda: FisherSettings("empirical", temperature=2.0), InputError, "has no temperature"),
    ):
        with pytest.raises(error, match=words):
            call()


def test_batches_that_cannot_be_cut():
    lstm = seeded(lambda: nn.LSTM(2, 3, batch_first=True)).double()
    inputs = randn(4, 5, 2), (torch.zeros(1, 4, 3).double(), torch.zeros(1, 4, 3).double())
    options = {"forward": lambda net, some: net(*some)[0][:, -1]}
    with pytest.raises(InputError, match=r"batch of 4 examples cannot be cut along axis 0.*Cure"):
        gathered(lstm, [inputs], settings=EXACT, **options)
    settings = FisherSettings(kind="sampled", draws=300)
    whole = gathered(lstm, [inputs], settings=settings, **options)
    apart = gathered(lstm, [inputs[0]], settings=EXACT, forward=lambda net, x: net(x)[0][:, -1])
    a, b = (c.tensors["weight_ih_l0"].diagonal for c in (whole, apart))
    assert whole.kind == "sampled" and (a - b).norm() < 0.25 * b.norm()


def test_a_network_of_16_bits_has_squares_that_do_not_vanish():
    net, x = small_net(), 3e-4 * randn(5, 3)
    exact = gathered(net, [x], settings=EXACT).tensors["0.weight"].diagonal
    half = gathered(net.half(), [x.half()], settings=EXACT).tensors["0.weight"].diagonal
    assert exact.max() < 6e-8  # the least positive number of 16 bits
    assert torch.allclose(half, exact, rtol=0.05)


def test_inputs_of_a_feature_map_may_be_from_some_positions():
    net = seeded(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(300, 2)))
    x = randn(9, 2, 12, 12, dtype=torch.float32)
    settings = (FisherSettings(kind="sampled", positions=n) for n in (0, 400))
    whole, thinned = (
        gathered(net, [x], Classification(), labelled=False, settings=s).tensors for s in settings
    )
    assert torch.equal(whole["0.weight"].diagonal, thinned["0.weight"].diagonal)
    assert torch.equal(whole["2.weight"].rows, thinned["2.weight"].rows)  # nine positions are few
    ratio = thinned["0.weight"].inputs / whole["0.weight"].inputs
    assert 0 < float((ratio - 1).abs().max()) < 0.3
    with pytest.raises(InputError, match="positions must be a whole number >= 0"):
        FisherSettings(positions=-1)
