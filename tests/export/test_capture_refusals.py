"""What cannot be captured says which operation, where, and what to do; nothing is left changed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.errors import CaptureError, InputError
from laconic.export.graph_capture import capture
from laconic.export.rules import RULES
from laconic.networks.modules import shared_names
from tests.helpers.parity import Fn, assert_parity

X = torch.randn(3, 4)


class RunningMaximum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cummax(-1)[0]


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(4, 4), RunningMaximum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(self.first(x))


def test_an_operation_without_a_rule_is_named_with_its_module() -> None:
    named = r"aten\.cummax.*module 'inner' \(RunningMaximum\).*Cure: torch\.cumsum.*restore"
    with pytest.raises(CaptureError, match=named):
        capture(Outer(), X)


def test_data_dependent_control_flow(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaptureError, match="data-dependent control flow.*Cure"):
        capture(Fn(lambda x: x if x.sum() > 0 else -x), X)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("result", [lambda x: {"logits": 3.0}, lambda x: (x, range(3)), lambda x: 3.0])
def test_results_that_are_not_tensors(result: object) -> None:
    with pytest.raises(CaptureError, match="returns a (range|float).*Cure: wrap it"):
        capture(Fn(result), X)


def test_double_precision_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"float64.*Cure: module\.float\(\)"):
        capture(nn.Linear(4, 2).double(), X.double())


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: F.dropout(x), "dropout stays active"),
        (lambda x: F.batch_norm(x, None, None, training=True), "running statistics"),
        (lambda x: x[x > 0], "mask|data-dependent|trace"),
        (lambda x: torch.fft.rfft(x).abs(), "cosines and sines"),
        (lambda x: x.unique(), "size depends on the data"),
        (
            lambda x: F.max_unpool1d(*F.max_pool1d(x[:, None], 2, return_indices=True), 2),
            "in place of unpool",
        ),
        (lambda x: torch.pdist(x), r"torch\.cdist"),
        (lambda x: x.round(decimals=2), "'decimals' has no rule for 2"),
        (lambda x: x.view(torch.int32), "bytes as another type"),
        (lambda x: F.max_pool1d(x[:, None], 2, return_indices=True), "has no rule"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5), "'dropout_p' has no rule for 0.5"),
        (lambda x: F.rrelu(x, training=True), "random|'training'"),
        (lambda x: x + torch.randn(4), "draws random numbers"),
        (lambda x: x + torch.rand_like(x), "draws random numbers"),
        (lambda x: F.dropout(torch.ones(4)) + x, "dropout stays active"),
        (lambda x: F.max_pool1d(x, 2), "no batch"),
        (lambda x: F.conv1d(x[:, :2], torch.ones(1, 3, 1)), "no batch"),
        (lambda x: torch.arange(x.size(0)) * x.size(0) * torch.randn(3), "random"),
    ],
)
def test_other_refusals(function: object, text: str) -> None:
    with pytest.raises(CaptureError, match=text):
        capture(Fn(function), X)


def test_an_embedding_bag_that_leaves_out_an_index() -> None:
    with pytest.raises(CaptureError, match="without weights or padding"):
        capture(nn.EmbeddingBag(10, 4, padding_idx=0, mode="sum"), torch.arange(6).reshape(2, 3))


def test_a_rule_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(low: object, call: object) -> None:
        raise KeyError("seven")

    monkeypatch.setitem(RULES, torch.ops.aten.relu, rule)
    with pytest.raises(CaptureError, match=r"aten\.relu.*its rule fails \(KeyError: 'seven'\)"):
        capture(nn.ReLU(), X)


def test_an_example_of_the_wrong_shape() -> None:
    with pytest.raises(InputError, match=r"Sequential refuses the example input \(3, 5\) float32.*Cure"):
        capture(nn.Sequential(nn.Linear(4, 2)), torch.randn(3, 5))
    with pytest.raises(InputError, match="must be a tensor, got list"):
        capture(nn.Linear(4, 2), ([1.0],))


def test_the_module_and_the_example_are_left_as_they_were() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.ReLU(inplace=True))
    module[1].eval()
    flags = [m.training for m in module.modules()]
    before = {k: v.clone() for k, v in module.state_dict().items()}
    example = X.clone()
    capture(Fn(lambda m, x: m(x.add_(1)), module), example)
    assert [m.training for m in module.modules()] == flags
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert torch.equal(example, X)
    assert torch.backends.mha.get_fastpath_enabled()


class Shared(nn.Module):
    """One layer in two places, and an embedding whose weight is also the head's."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.mix = nn.Linear(4, 4)
        self.again = self.mix
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.again(torch.relu(self.mix(self.words(ids)))))


def test_shared_weights_are_one_tensor() -> None:
    module = Shared()
    model = assert_parity(module, torch.arange(6).reshape(2, 3))
    assert [t.name for t in model.tensors] == ["words.weight", "mix.weight", "mix.bias"]
    assert model.aliases == {
        "again.weight": "mix.weight",
        "again.bias": "mix.bias",
        "head.weight": "words.weight",
    }
    assert model.graph is not None
    linear = [node.inputs[1:] for node in model.graph.nodes if node.op == "linear"]
    assert linear == [(-2, -3), (-2, -3), (-1,)]
    assert shared_names(module)["again.bias"] == "mix.bias"


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(4))
        self.register_buffer("kept", torch.randn(4))
        self.register_buffer("counter", torch.tensor(3))
        self.register_buffer("lost", torch.randn(4), persistent=False)
        self.plain = torch.randn(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.kept + self.lost * self.plain


def test_parameters_buffers_and_lifted_constants() -> None:
    model = assert_parity(Positions(), X)
    # the two tensors that no state dict holds are folded into one constant; the counter is not read
    assert [t.name for t in model.tensors] == ["scale", "kept", "@0"]


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        rows = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.lstm(rows)[1][0][-1]


class Gathered(Padded):
    """What the cure says: the last output of each sequence, from the padded batch."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        outputs = self.lstm(x)[0]
        last = (lengths - 1)[:, None, None].expand(-1, 1, outputs.shape[2])
        return outputs.gather(1, last)[:, 0]


def test_packed_sequences_are_named_with_a_cure_that_gives_the_same_numbers() -> None:
    x, lengths = torch.randn(3, 5, 4), torch.tensor([5, 2, 3])
    with pytest.raises(CaptureError, match=r"packs sequences at test_\w+\.py:\d+ in forward.*Cure: .*gather"):
        capture(Padded(), (x, lengths))
    cured, plain = Gathered().eval(), Padded().eval()
    cured.load_state_dict(plain.state_dict())
    assert torch.allclose(cured(x, lengths), plain(x, lengths), atol=1e-6)
    assert_parity(cured, x, lengths)


def test_what_has_no_rule_is_named_after_one_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that no other trace would change costs one trace, and nothing is taken apart before it."""
    traced: list[object] = []
    export = torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: traced.append(a) or export(*a, **k))
    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", None)
    with pytest.raises(CaptureError, match=r"aten\.cummax"):
        capture(Fn(lambda x: torch.special.entr(x.sigmoid()).cummax(1)[0]), X)
    assert len(traced) == 1
