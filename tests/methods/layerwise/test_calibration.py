"""Calibration inputs are shared out without overlap; labels only say which positions count."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from laconic.errors import DataError, InputError
from laconic.methods.layerwise import calibration
from laconic.methods.layerwise.calibration import Calls, calibration_calls
from laconic.methods.layerwise.comparison import Comparison
from laconic.methods.layerwise.sensitivity import measured_sensitivities
from laconic.tasks import Classification, LanguageModelling, Regression, SequenceLabelling


class TwoInputs(nn.Module):
    """Two inputs by position."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


def _rows(calls: Calls) -> list[float]:
    return [float(x) for inputs in calls.inputs for x in inputs[:, 0]]


def test_no_example_both_decides_and_measures() -> None:
    x = torch.arange(40.0).reshape(40, 1)
    deciding, measuring = calibration_calls(nn.Linear(1, 1), [x[:25], x[25:]], Classification(), 40, 0.25, 3)
    assert (deciding.examples, measuring.examples) == (30, 10)
    assert sorted(_rows(deciding) + _rows(measuring)) == list(range(40))
    again = calibration_calls(nn.Linear(1, 1), [x[:25], x[25:]], Classification(), 40, 0.25, 3)
    assert _rows(again[0]) == _rows(deciding)
    assert len(deciding.inputs) == 1  # batches of one shape run in one call


class Named(nn.Module):
    """Inputs by name, one of which is optional."""

    def forward(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        return a if b is None else a + b


def test_dictionaries_of_the_same_names_and_shapes_run_in_one_call() -> None:
    a, b = torch.arange(40.0).reshape(20, 2), torch.arange(40.0, 80.0).reshape(20, 2)
    batches = [{"a": a[i : i + 4], "b": b[i : i + 4]} for i in range(0, 20, 4)]
    deciding, measuring = calibration_calls(Named(), batches, Classification(), 20, 0.25, 0)
    assert (len(deciding.inputs), deciding.examples) == (1, 15)
    assert (len(measuring.inputs), measuring.examples) == (1, 5)
    rows = torch.cat([call["a"] for call in (*deciding.inputs, *measuring.inputs)])
    assert rows[rows[:, 0].argsort()].tolist() == a.tolist()
    for call in (*deciding.inputs, *measuring.inputs):
        assert sorted(call) == ["a", "b"] and torch.equal(call["b"], call["a"] + 40)


def test_dictionaries_of_other_names_or_shapes_stay_apart() -> None:
    a = torch.arange(40.0).reshape(20, 2)
    batches = [
        {"a": a[:4]},
        {"a": a[4:8], "b": a[4:8]},
        {"a": a[8:12, :1]},
        {"a": a[12:16].double()},
        {"a": a[16:20]},
    ]
    deciding, _ = calibration_calls(Named(), batches, Classification(), 20, 0.25, 0)
    assert sorted(len(call["a"]) for call in deciding.inputs) == [3, 3, 3, 6]


def test_batches_of_one_example_are_shared_out_whole() -> None:
    batches = [torch.full((1, 2), float(k)) for k in range(12)]
    deciding, measuring = calibration_calls(nn.Linear(2, 1), batches, Classification(), 10, 0.25, 0)
    assert (deciding.examples, measuring.examples) == (8, 2)


def test_two_examples_are_one_that_decides_and_one_that_measures() -> None:
    x = torch.arange(2.0).reshape(2, 1)
    for batches in ([x], [x[:1], x[1:]]):
        deciding, measuring = calibration_calls(nn.Linear(1, 1), batches, Classification(), 2, 0.25, 0)
        assert (_rows(deciding), _rows(measuring)) == ([0.0], [1.0])


def test_one_example_cannot_decide_and_measure() -> None:
    with pytest.raises(DataError, match=r"\(1 example\) cannot be shared out.*Cure: some hundred inputs"):
        calibration_calls(nn.Linear(1, 1), [torch.ones(1, 1)], Classification(), 8, 0.25, 0)


def test_labels_that_are_no_tensors_are_not_needed() -> None:
    x = torch.arange(8.0).reshape(8, 1)
    calls = calibration_calls(nn.Linear(1, 1), [(x, ["cat"] * 8)], Classification(), 8, 0.25, 0)
    assert sorted(_rows(calls[0]) + _rows(calls[1])) == list(range(8))


def test_inputs_and_labels_are_told_apart_by_the_forward_signature() -> None:
    a, b, y = torch.randn(8, 3), torch.randn(8, 3), torch.zeros(8, dtype=torch.long)
    for batch in ((a, b), (a, b, y)):
        deciding, _ = calibration_calls(TwoInputs(), [batch], Classification(), 8, 0.5, 0)
        assert [x.shape for x in deciding.inputs[0]] == [(4, 3), (4, 3)]
    deciding, _ = calibration_calls(TwoInputs(), [{"a": a, "b": b, "labels": y}], Classification(), 8, 0.5, 0)
    assert sorted(deciding.inputs[0]) == ["a", "b"]
    deciding, _ = calibration_calls(nn.Linear(3, 2), [(a, y)], Classification(), 8, 0.5, 0)
    assert deciding.inputs[0].shape == (4, 3)


def test_padded_tokens_are_left_out_of_the_mean() -> None:
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3)).eval()
    other = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3)).eval()
    tokens, labels = torch.tensor([[1, 2, 0]]), torch.tensor([[0, 2, -100]])
    task = SequenceLabelling()
    batches = [(tokens.repeat(2, 1), labels.repeat(2, 1))]
    calls, _ = calibration_calls(net, batches, task, 2, 0.5, 0)
    with torch.no_grad():
        apart = task.divergence(other(tokens[:, :2]), net(tokens[:, :2])) / 2
    assert Comparison(net, calls, task).of(other) == pytest.approx(float(apart), rel=1e-5)


def test_a_tensor_of_tokens_is_all_inputs() -> None:
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    calls, _ = calibration_calls(net, [torch.tensor([[1, 2, 0]] * 2)], LanguageModelling(), 2, 0.5, 0)
    assert calls.inputs[0].shape == (1, 3)


def test_a_network_that_breaks_is_infinitely_far() -> None:
    net, x = nn.Linear(2, 2), torch.randn(4, 2)
    comparison = Comparison(net, Calls((x,), (None,), 4), Classification())
    broken = nn.Linear(2, 2)
    broken.weight.data.fill_(math.nan)
    assert comparison.of(broken) == math.inf
    with pytest.raises(DataError, match="the original network gives NaN"):
        Comparison(broken, Calls((x,), (None,), 4), Classification())


def test_large_batches_are_split_by_their_bytes_and_by_their_examples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, task = nn.Flatten(), Classification()
    x, y = torch.arange(60.0).reshape(60, 1, 1), torch.arange(60)
    monkeypatch.setattr(calibration, "TOGETHER_BYTES", 7 * 4)
    parts = calibration_calls(net, [(x[:50], y[:50]), (x[50:], y[50:])], task, 60, 0.25, 1, labels=True)
    for part in parts:
        assert max(len(inputs) for inputs in part.inputs) == 7
        assert sum(len(inputs) for inputs in part.inputs) == part.examples
        for inputs, target in zip(part.inputs, part.targets, strict=True):
            assert torch.equal(inputs.flatten(), target.float())
    assert sorted(float(v) for part in parts for inputs in part.inputs for v in inputs) == list(range(60))
    monkeypatch.setattr(calibration, "TOGETHER", 4)
    deciding, _ = calibration_calls(net, [x], task, 60, 0.25, 1)
    assert [len(inputs) for inputs in deciding.inputs] == [4] * 11 + [1]


def test_an_example_larger_than_all_bytes_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "TOGETHER_BYTES", 1)
    deciding, measuring = calibration_calls(
        nn.Linear(2, 1), [torch.randn(8, 2)], Classification(), 8, 0.25, 0
    )
    assert [len(x) for x in (*deciding.inputs, *measuring.inputs)] == [1] * 8


def test_empty_batches_are_passed_over() -> None:
    x = torch.arange(8.0).reshape(8, 1)
    calls = calibration_calls(nn.Linear(1, 1), [x[:0], x, x[:0]], Classification(), 8, 0.25, 0)
    assert [c.examples for c in calls] == [6, 2]


def test_terms_of_sequences_first_are_cut_along_their_examples() -> None:
    tokens = torch.arange(18).reshape(6, 3) % 5  # 6 positions of 3 examples
    task = SequenceLabelling(batch_axis=1)
    calls = calibration_calls(nn.Embedding(5, 2), [(tokens, tokens)], task, 3, 0.34, 0)
    assert [tuple(c.counted[0].shape) for c in calls] == [(6, 2), (6, 1)]


def test_a_similarity_is_no_divergence() -> None:
    net, calls = nn.Linear(2, 3), Calls((torch.eye(2),), (None,), 2)
    comparison = Comparison(
        net, calls, Regression(noise=1.0), divergence=lambda a, b: -(a - b).square().sum()
    )
    assert comparison.of(net) == 0.0
    with pytest.raises(InputError, match="must not be below 0.*Cure: a distance"):
        comparison.of(nn.Linear(2, 3))


def test_a_divergence_that_is_no_number_is_told_before_anything_is_tried() -> None:
    net, calls = nn.Linear(2, 3), Calls((torch.eye(2),), (None,), 2)
    with pytest.raises(InputError, match=r"from themselves is NaN\. Cure: look for log"):
        Comparison(net, calls, Regression(noise=1.0), divergence=lambda a, b: (a - b).sum() * math.nan)
    with pytest.raises(InputError, match=r"one number.*got None\. Cure: \.sum"):
        Comparison(net, calls, Regression(noise=1.0), divergence=lambda a, b: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(InputError, match=r"one number.*got shape \(2, 3\)"):
        Comparison(net, calls, Regression(noise=1.0), divergence=lambda a, b: a - b)


def test_sensitivities_of_a_linear_network_are_the_curvature() -> None:
    """D = E|W' (x)|^2 / 2 of a linear map with unit noise: 2 D / sigma^2 is the outputs times E|x|^2."""
    torch.manual_seed(0)
    net, x = nn.Linear(6, 40, bias=False), torch.randn(300, 6)
    calls = Calls((x,), (None,), 300)
    comparison = Comparison(net, calls, Regression(noise=1.0))
    before = net.weight.clone()
    found = measured_sensitivities(net, ["weight"], comparison, seed=0)["weight"]
    wanted = float(x.square().sum(1).mean())  # per entry of the output, each of which is a term
    assert found == pytest.approx(wanted, rel=0.15)
    assert torch.equal(net.weight, before)
