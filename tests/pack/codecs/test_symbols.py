"""The stream against an integer-only decoder written from FORMAT.md."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.errors import ChecksumError, CorruptFileError
from laconic.pack.codecs.symbols import Meter, StreamReader, StreamWriter
from tests.helpers.integer_ans import IntegerAns, table_of_bits, table_of_counts, table_of_probability

FIRST_WORD = 0x1234567


def _random_batches(seed: int) -> tuple[list[tuple[str, object, list[int]]], bytes, float]:
    rng = np.random.default_rng(seed)
    writer, meter = StreamWriter(), Meter()
    batches: list[tuple[str, object, list[int]]] = []
    for _ in range(40):
        n = int(rng.integers(0, 30))
        kind = ("flags", "draws", "bits")[int(rng.integers(3))]
        if kind == "flags":
            probabilities = rng.integers(1, 32768, n)
            known = (rng.random(n) < probabilities / 32768).astype(np.int32)
            for coder in (writer, meter):
                coder.flags(probabilities, known)
            batches.append((kind, probabilities.tolist(), known.tolist()))
        elif kind == "draws":
            counts = rng.integers(0, 50, int(rng.integers(2, 12)))
            counts[0] += 1
            known = rng.choice(len(counts), n, p=counts / counts.sum()).astype(np.int32)
            for coder in (writer, meter):
                coder.draws(counts, n, known)
            batches.append((kind, counts.tolist(), known.tolist()))
        else:
            width = int(rng.integers(0, 32))
            known = rng.integers(0, 2**width, n).astype(np.int32)
            for coder in (writer, meter):
                coder.bits(width, n, known)
            batches.append((kind, width, known.tolist()))
    return batches, writer.finish(FIRST_WORD), meter.total


@pytest.mark.parametrize("seed", range(5))
def test_integers_alone_decode_the_stream(seed: int) -> None:
    batches, data, _ = _random_batches(seed)
    oracle = IntegerAns(data)
    for kind, model, known in batches:
        if kind == "flags":
            found = [oracle.take(table_of_probability(probability)) for probability in model]  # type: ignore[attr-defined]
        elif kind == "draws":
            found = [oracle.take(table_of_counts(model)) for _ in known]  # type: ignore[arg-type]
        else:
            found = [0] * len(known)
            for shift in range(0, model, 16):  # type: ignore[call-overload]
                part = table_of_bits(min(16, model - shift))  # type: ignore[operator]
                found = [low | oracle.take(part) << shift for low in found]
        assert found == known
    assert oracle.finished
    assert oracle.state == FIRST_WORD | 1 << 31


def test_the_oracle_sees_a_wrong_table() -> None:
    writer = StreamWriter()
    writer.draws(np.array([3, 1]), 50, np.array([0, 1] * 25, np.int32))
    oracle = IntegerAns(writer.finish(FIRST_WORD))
    assert [oracle.take(table_of_counts([1, 3])) for _ in range(50)] != [0, 1] * 25


@pytest.mark.parametrize("seed", range(5))
def test_the_meter_counts_what_the_writer_writes(seed: int) -> None:
    _, data, bits = _random_batches(seed)
    assert abs(8 * len(data) - 32 - bits) < 12


def test_reading_what_was_written() -> None:
    batches, data, _ = _random_batches(7)
    reader = StreamReader(data)
    for kind, model, known in batches:
        if kind == "flags":
            found = reader.flags(np.array(model, np.int64), None)
        elif kind == "draws":
            found = reader.draws(np.array(model, np.int64), len(known), None)
        else:
            found = reader.bits(model, len(known), None)  # type: ignore[arg-type]
        assert found.tolist() == known
    reader.finish(FIRST_WORD)
    with pytest.raises(ChecksumError):
        reader.finish(FIRST_WORD + 1)


def test_a_stream_that_runs_dry_says_so() -> None:
    reader = StreamReader(StreamWriter().finish(5))
    with pytest.raises(ChecksumError, match="ends before"):
        reader.flags(np.full(1000, 16384), None)


@pytest.mark.parametrize("data", [b"", b"\0", b"\x01\x02\0"])
def test_a_stream_never_ends_in_zero(data: bytes) -> None:
    with pytest.raises(CorruptFileError):
        StreamReader(data)


def test_words_by_hand() -> None:
    """Golden words: one fair flag, one draw of three, one byte, over the first word 0x80000001."""
    writer = StreamWriter()
    writer.flags(np.array([16384]), np.array([1], np.int32))
    writer.draws(np.array([1, 2, 1]), 1, np.array([2], np.int32))
    writer.bits(8, 1, np.array([200], np.int32))
    assert writer.finish(1).hex() == "fdffc5070004"
