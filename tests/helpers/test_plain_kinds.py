"""Values of stored tensors in plain Python: right by hand, and other for every other field."""

import numpy as np

from tests.helpers.plain_bytes import Bytes, read_names
from tests.helpers.plain_kinds import Grid, float32, hashed, product, quantiles, random_codes, word


def test_the_words_are_those_of_splitmix64():
    assert [word(0, k) for k in range(2)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    assert word(0, 0) != word(1, 0)


def test_grids():
    steps, levels = Grid(False, None, [[0.1]]), Grid(True, 0, [[-1.0, 0.0], [0.0, 2.0]])
    assert steps.reals((2,), [3, -1]) == [float(np.float32(0.1) * np.float32(3)), -float32(0.1)]
    assert steps.reals((1,), [3]) != [3 * 0.1]  # float64 arithmetic is another number
    assert levels.reals((2, 2), [0, 1, 0, 1]) == [-1.0, 0.0, 0.0, 2.0]
    assert steps.zero == 0 and levels.zero == -1 and Grid(True, None, [[-1.0, 0.0]]).zero == 1


def test_other_seeds_buckets_and_orders_give_other_values():
    buckets = [1.0, 2.0, 3.0]
    assert hashed(16, 1, buckets) != hashed(16, 2, buckets)
    assert {abs(v) for v in hashed(64, 1, buckets)} == set(buckets)
    codes = random_codes((4, 2), 1, 4, [0, 3], [1.0])
    assert codes != random_codes((4, 2), 2, 4, [0, 3], [1.0])
    assert codes[:4] == random_codes((4, 2), 1, 4, [0, 4], [1.0])[:4]
    assert codes[4:] != random_codes((4, 2), 1, 4, [0, 4], [1.0])[4:]
    assert product([1.0, 2.0], [3.0, 4.0], 2, 1, 2) == [3.0, 4.0, 6.0, 8.0]
    assert product([1.0, 2.0], [3.0, 4.0], 1, 2, 1) == [11.0]


def test_the_quantiles_are_a_normal_distributions():
    table = np.array(quantiles())
    assert len(table) == 4096 and (np.diff(table) > 0).all() and (table == -table[::-1]).all()
    assert abs(table.std() - 1) < 1e-3


def test_integers_and_names():
    assert Bytes(bytes([0xAC, 0x02])).varint() == 300
    assert [Bytes(b"\x01").signed(), Bytes(b"\x02").signed()] == [-1, 1]
    path = bytes([0x01]) + b"a" + bytes([1]) + bytes([0x11]) + b"b" + bytes([3])
    assert read_names(Bytes(path), 2) == ["a.weight", "ab.bias"]
