"""Networks that return their prediction by name: in a dictionary, or in a dataclass as transformers does."""

from __future__ import annotations

import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import laconic
from laconic.bayes.laplace import gather_curvature
from laconic.errors import InputError
from laconic.methods import Distillation, MagnitudePruning, PostTraining, Target
from laconic.methods.contract import Method
from laconic.tasks import Classification, PlainLoss, Regression
from laconic.tasks.likelihoods import cosine_distance, relative_squared_error
from laconic.tasks.outputs import main_tensor
from laconic.train.evaluate import evaluate
from laconic.train.fit import FitConfig
from tests.helpers.libraries import Output, TinyForSequenceClassification


def _network(hidden: bool = False) -> nn.Module:
    torch.manual_seed(0)
    config = types.SimpleNamespace(output_hidden_states=hidden)
    return TinyForSequenceClassification(config).eval()


def _batch(count: int = 64) -> dict[str, Tensor]:
    ids = torch.randint(0, 20, (count, 5), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": (torch.arange(5) < 4).long().expand(count, 5).contiguous()}


def test_the_tensor_that_matters() -> None:
    a, b = np.zeros(2), np.ones(3)
    assert main_tensor(a) is a
    assert main_tensor({"aux": a, "out": b}) is b
    assert main_tensor({"last_hidden_state": a, "pooler_output": b}) is a
    assert main_tensor(Output(logits=torch.ones(1), loss=torch.zeros(()))).shape == (1,)
    assert main_tensor({"only": a, "states": (b, b)}) is a
    several, pair = {"start": a, "end": b}, (a, b)
    assert main_tensor(several) is several and main_tensor(pair) is pair and main_tensor(Output) is Output


def test_tasks_of_a_users_own_get_everything() -> None:
    returned = Output(logits=torch.ones(2, 3))
    loss = PlainLoss(lambda outputs, target: outputs.logits.sum())
    assert loss.prediction(returned) is returned
    assert Classification().prediction(returned) is returned.logits


def test_several_tensors_without_a_known_name_are_refused() -> None:
    class Two(nn.Linear):
        def forward(self, input: Tensor) -> Any:
            y = super().forward(input)
            return {"start": y, "end": -y}

    x = torch.randn(32, 4)
    with pytest.raises(InputError, match="a dict, not one tensor"):
        laconic.compress_trained(Two(4, 3), [x], Target(max_kl=0.01))


def test_a_trained_network_is_compressed_and_its_file_runs(tmp_path: Path) -> None:
    network, batch = _network(), _batch()
    small = laconic.compress_trained(network, [batch], Target(max_kl=0.01))
    assert small.facts["divergence"] <= 0.01
    assert isinstance(small.module(**batch), Output)
    laconic.save(small, tmp_path / "a.lac")
    got = laconic.runtime.load(tmp_path / "a.lac")(**{k: v.numpy() for k, v in batch.items()})
    np.testing.assert_allclose(got["logits"], small.module(**batch).logits.detach(), atol=1e-5)


@pytest.mark.parametrize("divergence", [cosine_distance, relative_squared_error])
def test_a_distance_of_the_library_reads_it_too(divergence: Any) -> None:
    small = laconic.compress_trained(
        _network(True), [_batch()], Target(max_kl=0.01), method=PostTraining(divergence=divergence)
    )
    assert small.facts["divergence"] <= 0.01


def test_a_divergence_of_a_users_own_gets_everything() -> None:
    def distance(outputs: Any, reference: Any) -> Tensor:
        return (outputs.logits - reference.logits).square().sum()

    small = laconic.compress_trained(
        _network(), [_batch()], Target(max_kl=0.01), method=PostTraining(divergence=distance)
    )
    assert small.facts["divergence"] <= 0.01


@pytest.mark.parametrize(
    "method", [MagnitudePruning(sparsity=0.5), Distillation(method=MagnitudePruning(sparsity=0.5))]
)
def test_training_and_its_score(method: Method) -> None:
    network, batch = _network(), _batch()
    with torch.no_grad():
        labels = network(**batch).logits.argmax(1)
    data = [{**batch, "target": labels}]
    task = Classification(target="target")
    assert evaluate(network, data, task).metric == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = laconic.compress(
            network, data, data, method, Target(max_drop=100.0), fit=FitConfig(epochs=2), task=task
        )
    assert evaluate(small.module, data, task).terms == 64


def test_a_training_loop_of_ones_own() -> None:
    network, batch = _network(), _batch()
    data = {**batch, "target": torch.zeros(64, dtype=torch.int64)}
    net = laconic.prepare(
        network, MagnitudePruning(), batch, data_size=64, task=Classification(target="target")
    )
    wanted = nn.functional.cross_entropy(network(**batch).logits, data["target"])
    torch.testing.assert_close(laconic.objective(net, data), wanted)


def test_curvature_without_a_task() -> None:
    found = gather_curvature(_network(), [_batch(8)], generator=torch.Generator().manual_seed(0))
    assert float(found.tensors["classifier.weight"].diagonal.sum()) > 0


def test_noise_that_is_learnt_starts_from_the_named_prediction() -> None:
    class Named(nn.Linear):
        def forward(self, input: Tensor) -> Any:
            return {"out": super().forward(input)}

    torch.manual_seed(0)
    x = torch.randn(64, 4)
    net = Named(4, 1)
    y = net(x)["out"].detach() + 0.1 * torch.randn(64, 1)
    small = laconic.compress_trained(net, [(x, y)], Target(max_kl=0.01), task=Regression())
    assert small.facts["divergence"] <= 0.01
