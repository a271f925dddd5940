"""Following one tensor through ``load`` or ``compress`` takes no more returns than were measured."""

from __future__ import annotations

from pathlib import Path

from laconic.pack import decode
from laconic.runtime.ops.table import row_of
from laconic.runtime.reading import bytes_of
from tests.reading_order import Walk, compressing, loading, one_layer, walk

MOST_RETURNS = 18
MOST_RETURNS_OF_COMPRESS = 135  # 134 were measured; some sets are gone through in any order


def test_loading_goes_through_each_room_a_few_times() -> None:
    found = loading()
    assert found.rooms >= 8, "the walk saw too little"
    assert found.returns <= MOST_RETURNS, "\n".join(found.stays)


def test_compressing_goes_through_each_room_a_few_times(tmp_path: Path) -> None:
    found = compressing(tmp_path)
    assert {"methods", "train", "export", "pack/codecs", "runtime"} <= set(found.stays), (
        "the walk saw too little"
    )
    assert found.returns <= MOST_RETURNS_OF_COMPRESS, "\n".join(found.stays)


def test_a_walk_counts_stays_and_returns() -> None:
    """There and back again: reading, operations, reading; a function that was read is not read again."""
    data = one_layer()

    def there_and_back() -> None:
        bytes_of(data)
        row_of("relu")
        row_of("relu")
        decode(data)

    decode(data)
    found = walk(there_and_back)
    assert found.stays[:2] == ("runtime", "runtime/ops")
    assert Walk(("a", "b", "a", "b")).returns == 2
    assert Walk(("a", "b", "c")).returns == 0
