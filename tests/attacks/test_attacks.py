"""Runs every attack: none may end the process, take too much time or memory, or raise a foreign error."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from laconic.pack import Limits
from tests.attacks import calls, chunks, integers, kinds, memory, names, numbers, sizes, work
from tests.attacks.files import attacks
from tests.attacks.measure import Cost, measured

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and forks")

SECONDS = 3.0
"""CPU time that refusing a file may take. A busy neighbour on a core makes it three times as long."""
ATTEMPTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": make
    for module in (sizes, memory, work, names, integers, calls, numbers, kinds, chunks)
    for name, make in attacks(module).items()
}


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, Cost]]:
    """The length of each attack, and the cost of loading and calling it."""
    files = [make() for make in ATTEMPTS.values()]
    found = measured(tmp_path_factory.mktemp("attacks"), files)
    return dict(zip(ATTEMPTS, zip(map(len, files), found, strict=True), strict=True))


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attack_is_refused_by_name_or_costs_little(name: str, costs: dict[str, tuple[int, Cost]]) -> None:
    length, cost = costs[name]
    assert not cost.outcome.startswith(("killed", "foreign")), cost
    assert cost.seconds <= SECONDS, cost
    assert cost.peak_bytes <= Limits().allowed_memory(length), cost


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("sizes.expand_to_a_negative_size", "CorruptFileError"),
        ("sizes.pad_by_less_than_nothing", "CorruptFileError"),
        ("sizes.slice_to_nothing_before_an_lstm", "CorruptFileError"),
        ("integers.range_at_a_convolution_whose_weight_is_a_vector", "CorruptFileError"),
        ("integers.range_at_a_convolution_without_weight", "CorruptFileError"),
        ("integers.range_at_a_convolution_of_no_channels", "CorruptFileError"),
        ("memory.recurrent_layers_that_share_weights", "LimitError"),
        ("memory.group_norms_of_distinct_groups", "LimitError"),
        ("work.convolution_of_two_constants", "LimitError"),
        ("work.convolution_of_two_small_constants", "LimitError"),
        ("work.linear_layer_at_a_claimed_size", "loaded"),
        ("names.long_name_read_often", "loaded"),
        ("calls.lstm_over_an_empty_batch", "loaded"),
        ("kinds.hashed_from_one_bucket", "LimitError"),
        ("kinds.hashed_as_large_as_memory_allows", "loaded"),
        ("kinds.product_of_long_factors", "LimitError"),
        ("kinds.product_of_thin_factors", "LimitError"),
        ("kinds.one_long_codebook_for_many_tensors", "LimitError"),
        ("numbers.range_to_a_huge_number", "LimitError"),
        ("numbers.ranges_to_the_longest", "LimitError"),
        ("numbers.range_times_itself", "LimitError"),
        ("numbers.expand_to_a_computed_size", "LimitError"),
        ("numbers.size_that_leaves_64_bits", "loaded"),
        ("numbers.slice_to_a_negative_size_before_a_slice", "CorruptFileError"),
        ("numbers.reversed_difference_of_sizes", "CorruptFileError"),
        ("numbers.lstm_over_a_computed_empty_batch", "loaded"),
        ("numbers.size_from_the_callers_numbers", "CorruptFileError"),
        ("numbers.topk_beyond_the_axis", "CorruptFileError"),
        ("numbers.topk_of_constants", "LimitError"),
        ("numbers.fold_to_a_huge_image", "LimitError"),
        ("numbers.fold_of_more_windows_than_there_are", "CorruptFileError"),
        ("numbers.scatter_beyond_the_value", "CorruptFileError"),
        ("numbers.projected_lstm_of_many_units", "LimitError"),
        ("numbers.axes_counted_one_by_one", "LimitError"),
        ("numbers.grids_of_extreme_places", "loaded"),
        ("chunks.as_they_should_be", "loaded"),
        ("chunks.no_rows", "CorruptFileError"),
        ("chunks.more_rows_than_there_are", "CorruptFileError"),
        ("chunks.length_of_nearly_64_bits", "CorruptFileError"),
        ("chunks.lengths_beyond_the_file", "CorruptFileError"),
        ("chunks.chunks_that_overlap", "ChecksumError"),
        ("chunks.last_chunk_cut_off", "ChecksumError"),
        ("chunks.billions_of_chunks", "LimitError"),
        ("chunks.more_chunks_than_bytes", "CorruptFileError"),
        ("chunks.thousands_of_the_smallest_chunks", "LimitError"),
        ("chunks.as_many_chunks_as_memory_allows", "loaded"),
        ("chunks.wrong_checksum_in_the_last_of_many", "ChecksumError"),
        ("chunks.graph_that_does_not_fit", "CorruptFileError"),
    ],
)
def test_what_came_of_it(name: str, outcome: str, costs: dict[str, tuple[int, Cost]]) -> None:
    """Files that did harm before: an invalid one is corrupt, a large one beyond a limit, others run."""
    assert costs[name][1].outcome == outcome, costs[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_rows", r"tensor 'w': .* has chunks of 0 rows"),
        ("lengths_beyond_the_file", r"tensor 'w': chunks of \d+ bytes and more, 429\d+ in all"),
        ("billions_of_chunks", r"tensor 'w': .* claims 17592186044416 elements in one tensor"),
        ("last_chunk_cut_off", r"tensor 'w': chunk 1: the symbol stream ends"),
        ("wrong_checksum_in_the_last_of_many", r"tensor 'w': chunk 127: .* checksum"),
        ("graph_that_does_not_fit", r"operation 'linear' .* \(1, 33\) and \(32, 256\)"),
    ],
)
def test_an_error_in_chunks_names_the_tensor(
    name: str, message: str, costs: dict[str, tuple[int, Cost]]
) -> None:
    assert re.search(message, costs[f"chunks.{name}"][1].message), costs[f"chunks.{name}"]


@pytest.mark.parametrize("door", ["look", "export"])
def test_other_functions_cost_little(door: str, tmp_path: Path) -> None:
    """Attacks on memory or work, through functions that do not run a file."""
    files = {name: make() for module in (memory, work, chunks) for name, make in attacks(module).items()}
    for (name, data), cost in zip(files.items(), measured(tmp_path, list(files.values()), door), strict=True):
        assert not cost.outcome.startswith(("killed", "foreign")), (name, cost)
        assert cost.seconds <= SECONDS, (name, cost)
        assert cost.peak_bytes <= Limits().allowed_memory(len(data)), (name, cost)
        if name == "one_wide_matrix_of_zeros":
            assert cost.outcome == "LimitError"


def test_costs_are_seen(tmp_path: Path) -> None:
    """300 MiB and half a second are measured as such; a process that ends is reported."""
    (hog,) = measured(tmp_path, [b""], "hog")
    assert 300 * 2**20 <= hog.peak_bytes < 330 * 2**20
    assert 0.5 <= hog.seconds < SECONDS
    (dead,) = measured(tmp_path, [b""], "abort")
    assert dead.outcome == "killed by -6"
