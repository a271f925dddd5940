from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import laconic
from laconic.errors import RunFolderError
from laconic.files import file_hash
from laconic.methods import MagnitudePruning, SparseVD
from laconic.methods.contract import Target
from laconic.records import RunRecord
from laconic.tasks import Classification, SequenceLabelling
from laconic.train.fit import FitConfig
from laconic.train.job import Job, Stage
from laconic.train.record import from_json, to_json, versions
from laconic.train.results import missed, write_results
from laconic.train.run_folder import open_run
from laconic.train.start import count_terms
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Path]:
    root = tmp_path_factory.mktemp("run")
    method = MagnitudePruning(0.9)
    small = laconic.convert(laconic.prepare(DigitsMLP(), method, digits()[0][:2], data_size=100))
    with open_run(root, {}) as folder:
        return write_results(
            small, Job((Stage(method, FitConfig(epochs=3)),), seed=5), folder, {"test_nll": 0.25}
        ), root


def test_a_record_survives_json(record: tuple[RunRecord, Path]) -> None:
    written, root = record
    read = from_json(json.loads((root / "record.json").read_text()))
    assert json.dumps(to_json(read), sort_keys=True) == json.dumps(to_json(written), sort_keys=True)
    assert read.layers == written.layers
    assert read.layers[0].shape == (64, 64)


def test_a_record_of_an_earlier_version_tells_no_hash(record: tuple[RunRecord, Path]) -> None:
    data = json.loads((record[1] / "record.json").read_text())
    del data["file_hash"]
    assert from_json(data).file_hash == ""


def test_a_record_says_what_was_done_and_with_what(record: tuple[RunRecord, Path]) -> None:
    written, root = record
    assert written.file_bytes == (root / "model.lac").stat().st_size
    assert written.file_hash == file_hash(root / "model.lac")
    assert written.bytes_before == 4 * 4810
    assert written.seed == 5
    (stage,) = written.settings["stages"]
    assert stage["method"] == "MagnitudePruning"
    assert stage["method_settings"]["sparsity"] == 0.9
    assert stage["fit"]["epochs"] == 3
    assert stage["fit"]["optimizer"] == {"kind": "Adam", "weight_decay": 0.0}
    assert written.settings["task"]["name"] == "Classification"
    assert written.metrics["test_nll"] == 0.25
    assert {"python", "torch", "numpy", "onnxruntime", "laconic"} <= set(versions()) == set(written.versions)
    layers = {row.name: row for row in written.layers}
    assert list(layers) == ["fc1.weight", "fc2.weight", "fc1.bias", "fc2.bias"]
    fc1 = layers["fc1.weight"]
    assert (fc1.weights, fc1.bytes_before) == (4096, 16384)
    assert 0 < fc1.nonzeros < 0.2 * 4096
    assert 2 <= fc1.levels < 64
    assert 0 < sum(row.bytes_after for row in written.layers) < written.file_bytes


def test_what_is_no_record_is_refused(record: tuple[RunRecord, Path]) -> None:
    good = to_json(record[0])
    for bad in ({}, {**good, "colour": "red"}, {k: v for k, v in good.items() if k != "seed"}):
        with pytest.raises(RunFolderError, match=r"not a run record: .*Cure"):
            from_json(bad)


def test_a_missed_target_is_told() -> None:
    small = laconic.methods.Compressed(
        torch.nn.Linear(1, 1), {}, {"validation_metric": 2.5, "original_validation_metric": 2.0}
    )
    method = SparseVD()

    def told(target: Target) -> tuple[str, ...]:
        return missed(Job((Stage(method),), target), small, 100)

    assert told(Target(max_bytes=100, max_drop=0.5)) == ()
    (note,) = told(Target(max_bytes=99))
    assert (
        "100 bytes, the fewest that the listed grids reach (steps up to 1.4), with a validation error of "
        "2.50 % after 2.00 %; 99 were asked for. "
        "Cure: a higher kl_weight" in note
    )
    (note,) = told(Target(max_drop=0.4))
    assert "the validation error went from 2.00 % to 2.50 %; it may get worse by 0.40 %" in note
    assert "Cure: a lower kl_weight" in note


@pytest.mark.parametrize("keeps", [True, False])
def test_two_limits_that_do_not_meet_are_told_with_what_can_be_had(keeps: bool) -> None:
    reach = {"bytes_more": 40, "divergence": None, "drop": 0.3, "keeps": keeps}
    facts = {"validation_metric": 2.5, "original_validation_metric": 2.0, "reachable": reach}
    small = laconic.methods.Compressed(torch.nn.Linear(1, 1), {}, facts)
    job = Job((Stage(SparseVD()),), Target(max_bytes=100, max_drop=0.4 if keeps else 0.2))
    (note,) = missed(job, small, 99)
    assert "from 2.00 % to 2.50 %, the least in a file of at most 100 bytes; it may get worse by" in note
    assert "(0.30 % worse) has 139 bytes." in note
    assert f"or Target(max_bytes=146, max_drop={'0.4' if keeps else '0.3'}), or a lower kl_weight" in note
    assert note.count("Target(max_bytes=100, max_drop=0.5)") == 1
    long, short = missed(job, small, 101)
    assert "the file has 101 bytes" in long and "has 141 bytes. Cure: a higher kl_weight" in long
    assert "the least" not in short.partition(";")[0] and "Target(max_bytes=101, max_drop=0.5)" in short


def test_a_large_loss_is_told_although_nobody_set_a_target() -> None:
    def told(after: float, target: Target = Target()) -> tuple[str, ...]:  # noqa: B008 - frozen
        facts = {"validation_metric": after, "original_validation_metric": 40.0}
        small = laconic.methods.Compressed(torch.nn.Linear(1, 1), {}, facts)
        return missed(Job((Stage(SparseVD()),), target), small, 9)

    (note,) = told(50.0)
    assert "the validation error went from 40.00 % to 50.00 %, and no target was given" in note
    assert told(50.0, Target(max_drop=20)) == ()
    assert told(40.5) == ()


def count_examples(loader: Any) -> int:
    return count_terms(loader, Classification())


def test_tokens_and_labels_that_count_are_counted_by_a_pass() -> None:
    x, y = torch.zeros(5, 4, dtype=torch.int64), torch.zeros(5, 4, dtype=torch.int64)
    y[0, 2:] = -100
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=2)
    assert count_terms(loader, SequenceLabelling()) == 18
    few = [(torch.zeros(3, 1), torch.tensor([0, 9, 9]))]
    assert count_terms(few, Classification(ignore=9)) == 1


def test_examples_are_counted_without_a_pass_where_the_loader_knows() -> None:
    x, y = digits()

    class Knows:
        data_size = 77

        def __iter__(self) -> object:
            raise AssertionError("no pass needed")

    data = torch.utils.data.TensorDataset(x, y)
    assert count_examples(Knows()) == 77
    assert count_examples(torch.utils.data.DataLoader(data, batch_size=5)) == len(x)
    assert count_examples([(x[:7], y[:7]), (x[:5], y[:5])]) == 12


def test_a_sampler_says_how_many_examples_are_drawn() -> None:
    x, y = digits()
    utils = torch.utils.data
    data = utils.TensorDataset(x[:64], y[:64])
    few = utils.SubsetRandomSampler(range(16))
    assert count_examples(utils.DataLoader(data, sampler=few)) == 16
    assert count_examples(utils.DataLoader(data, batch_sampler=utils.BatchSampler(few, 5, True))) == 16
    whole = utils.DataLoader(data, batch_size=5, shuffle=True, drop_last=True)
    assert count_examples(whole) == 64
    pairs = [[0, 1], [5, 7], [9]]  # batches of indices: nobody but a pass can count them
    assert count_examples(utils.DataLoader(data, batch_sampler=pairs)) == 5


def test_a_stream_is_counted_by_its_length_or_a_pass() -> None:
    x, y = digits()

    class Stream(torch.utils.data.IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
        def __iter__(self) -> object:
            return iter(zip(x[:9], y[:9], strict=True))

    class Known(Stream):
        def __len__(self) -> int:
            return 9

    for stream in (Stream(), Known()):
        assert count_examples(torch.utils.data.DataLoader(stream, batch_size=4)) == 9
