"""The idx reader against bytes written by hand, and everything a damaged file can say."""

from __future__ import annotations

import pytest

from laconic.data.idx import read_idx
from laconic.errors import DataError

TWO_BY_THREE = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])


def test_reads_sizes_and_elements() -> None:
    assert read_idx(TWO_BY_THREE, "f").tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not an idx file: it starts with nothing"),
        (b"\x1f\x8b\x08\x00rest", "starts with 1f8b0800"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 0]), "type 0x0d"),
        (TWO_BY_THREE[:9], "ends inside its header: 9 bytes, 12 needed"),
        (TWO_BY_THREE[:-1], r"says \(2, 3\), 6 bytes, but 5 follow"),
        (TWO_BY_THREE + b"0", "but 7 follow"),
        (bytes([0, 0, 8, 2]) + b"\xff" * 8 + b"1", "but 1 follow"),
    ],
)
def test_refuses(data: bytes, why: str) -> None:
    with pytest.raises(DataError, match=why):
        read_idx(data, "f")
