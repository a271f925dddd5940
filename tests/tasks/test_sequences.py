"""Sequence labelling and language modelling: figures by hand, how tokens are split, and what both refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from laconic.errors import DataError, InputError
from laconic.tasks import LanguageModelling, SequenceLabelling, Task

BOTH: list[Task] = [SequenceLabelling(), LanguageModelling()]


def test_token_error_by_hand() -> None:
    task = SequenceLabelling(ignore=0)
    logits = np.eye(4)[[[1, 2, 3], [3, 1, 1]]]
    labels = np.array([[1, 2, 1], [0, 0, 1]])
    assert task.measure(logits, labels).tolist() == [1.0, 4.0]
    assert task.value(task.measure(logits, labels)) == 25.0


def test_perplexity_by_hand_and_from_batches_of_different_sizes() -> None:
    task = LanguageModelling()
    logits = np.log([[[0.5, 0.25, 0.25]] * 3])
    sums = task.measure(logits, np.array([[0, 1, 1]])) + task.measure(logits, np.array([[0, -100, -100]]))
    assert sums[1] == 4
    assert task.value(sums) == pytest.approx((2 * 4 * 4 * 2) ** (1 / 4))
    assert task.metric.allowance(50.0) == 0.5
    assert task.value(np.array([1e6, 1.0])) == math.inf


def test_one_tensor_of_tokens_is_split() -> None:
    tokens = torch.arange(10).view(2, 5)
    batch = LanguageModelling().split(tokens)
    assert batch.inputs.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert batch.target.tolist() == [[1, 2, 3, 4], [6, 7, 8, 9]]
    assert LanguageModelling().terms(batch.target) == 8


def test_other_batches_are_split_as_everywhere() -> None:
    assert LanguageModelling().split(("tokens", "next")) == ("tokens", "next")
    task = LanguageModelling(target="labels", inputs=("ids",))
    assert task.split({"ids": 1, "labels": 2, "doc": 3}) == ({"ids": 1}, 2)
    with pytest.raises(DataError, match="a batch is a str"):
        LanguageModelling().split("tokens")


def test_targets_that_were_not_shifted_are_refused() -> None:
    tokens = torch.arange(10).view(2, 5)
    labels = tokens.masked_fill(tokens > 7, -100)
    task = LanguageModelling(target="labels")
    for batch in ((tokens, tokens), (tokens.numpy(), labels.numpy())):
        with pytest.raises(DataError, match="the targets of a batch are its inputs"):
            LanguageModelling().split(batch)
    with pytest.raises(DataError, match="the targets of a batch are its inputs"):
        task.split({"ids": tokens, "attention_mask": torch.ones(2, 5), "labels": labels})
    same = torch.full((2, 5), 3)
    assert LanguageModelling().split((same, same)).target is same
    assert LanguageModelling().split((same, same - 103)).inputs is same


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 5, 6)])
def test_tokens_that_cannot_be_split(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"a batch of tokens is \(N, T \+ 1\) with T >= 1"):
        LanguageModelling().split(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("task", BOTH)
def test_all_ignored(task: Task) -> None:
    logits, labels = torch.ones(2, 3, 4), torch.full((2, 3), -100)
    assert (
        task.terms(labels)
        == 0
        == task.nll(logits, labels).item()
        == task.nats(logits.numpy(), labels.numpy())
    )
    with pytest.raises(DataError, match="nothing to measure"):
        task.value(task.measure(logits.numpy(), labels.numpy()))


@pytest.mark.parametrize("task", BOTH)
@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        ((2, 3), (2,), "outputs have 2 axes, not 3. Cure: the task Classification"),
        ((2, 3, 4), (2,), "labels have 1 axes, not 2"),
        ((2, 3, 4), (3, 3), "axis 0, the sequences, is 2 in the outputs and 3 in the labels"),
        ((2, 3, 4), (2, 4), "axis 1, the tokens, is 3 in the outputs and 4.*outputs.transpose"),
        ((2, 3, 4), (2, 5), "axis 1, the tokens, is 3 in the outputs and 5 in the labels. Cure"),
        ((2, 3, 1), (2, 3), "axis 2 of the outputs, the classes, has size 1"),
        ((2, 3, 4, 5), (2, 4, 5), "outputs have 4 axes, not 3. Cure: the task Segmentation"),
    ],
)
def test_refuses(task: Task, outputs: tuple[int, ...], labels: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task.nll(torch.zeros(outputs), torch.zeros(labels, dtype=torch.int64))


@pytest.mark.parametrize("task", BOTH)
def test_refuses_values(task: Task) -> None:
    with pytest.raises(DataError, match="label 49 is out of range for a network with 12 outputs"):
        task.measure(np.zeros((1, 2, 12)), np.array([[49, 0]]))
    with pytest.raises(InputError, match="labels must be integers, and are float"):
        task.nll(torch.zeros(1, 2, 12), torch.zeros(1, 2))
    with pytest.raises(DataError, match="NaN for 2 of 2 tokens"):
        task.measure(np.full((1, 2, 12), np.nan), np.array([[3, 0]]))
