"""Both coders, compiled and in Python: constriction's words, the same integers, the same refusals."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laconic.pack import decode, encode
from laconic.pack.codecs import ans, compiled
from laconic.pack.codecs.compiled import Ans
from laconic.pack.codecs.symbols import StreamReader, StreamWriter
from laconic.records import IntTensor, PackedModel, UniformGrid
from laconic.records.children import ChildTensor
from tests.helpers.fresh import run_fresh
from tests.pack.test_golden import GOLDEN, KINDS_HEX

PLAIN = compiled.plain_coder()
BOTH = [
    pytest.param(PLAIN, id="python"),
    pytest.param(
        compiled.coder(),
        id="compiled",
        marks=pytest.mark.skipif(compiled.coder() is PLAIN, reason="installed without a compiler"),
    ),
]
FIRST = 0x7654321
ONE = 1 << 15
Batch = tuple[str, Any, Any]


def flags(rng: np.random.Generator, n: int) -> Batch:
    """Probabilities of all kinds, the extremes among them, and what is likely or not under them."""
    probabilities = rng.choice([1, 2, 16384, ONE - 2, ONE - 1, *rng.integers(1, ONE, 20)], n)
    return (
        "flags",
        probabilities,
        (rng.random(n) < rng.choice([probabilities / ONE, np.full(n, 0.5)])).astype(np.int32),
    )


def draws(rng: np.random.Generator, n: int) -> Batch:
    """Tables of few, many and no occurrences, with ever so uneven counts; symbols also that have count 0."""
    classes = int(rng.choice([2, 3, 16, 300, 4096]))
    counts = rng.integers(0, int(rng.choice([2, 100, 2**40])), classes)
    counts[rng.integers(classes)] = int(rng.choice([1, 2**17, 2**52]))
    likely, any_of_all = rng.choice(classes, n, p=counts / counts.sum()), rng.integers(0, classes, n)
    return "draws", counts, np.where(rng.random(n) < 0.9, likely, any_of_all).astype(np.int32)


def bits(rng: np.random.Generator, n: int) -> Batch:
    """Every width, with the largest integers of it."""
    width = int(rng.integers(0, 32))
    return "bits", width, rng.choice([0, 2**width - 1, *rng.integers(0, 2**width, 20)], n).astype(np.int32)


def batches(seed: int) -> list[Batch]:
    rng = np.random.default_rng(seed)
    kinds = [(flags, draws, bits)[k] for k in rng.integers(0, 3, 12)]
    return [kind(rng, int(rng.choice([0, 1, 7, 300, 2000]))) for kind in kinds]


def written(coder: Ans, all_batches: list[Batch]) -> bytes:
    stream = StreamWriter(coder)
    for kind, model, symbols in all_batches:
        size = () if kind == "flags" else (len(symbols),)
        getattr(stream, kind)(model, *size, symbols)
    return stream.finish(FIRST)


def by_constriction(all_batches: list[Batch]) -> bytes:
    constriction = pytest.importorskip("constriction")
    models = constriction.stream.model
    coder = constriction.stream.stack.AnsCoder(np.array([FIRST | 1 << 31], np.uint32))
    for kind, model, symbols in reversed(all_batches):
        if kind == "flags":
            coder.encode_reverse(symbols, models.Bernoulli(perfect=False), model / np.float64(ONE))
        elif kind == "draws":
            coder.encode_reverse(symbols, models.Categorical(model.astype(np.float64), perfect=False))
        else:
            for shift in range(0, model, 16)[::-1]:
                part = min(16, model - shift)
                coder.encode_reverse(symbols >> shift & ((1 << part) - 1), models.Uniform(1 << part))
    words: bytes = coder.get_compressed().astype("<u4").tobytes()
    return words.rstrip(b"\0")


@pytest.mark.parametrize("coder", BOTH)
@pytest.mark.parametrize("seed", range(40))
def test_words_are_those_of_constriction(coder: Ans, seed: int) -> None:
    assert written(coder, batches(seed)) == by_constriction(batches(seed))


@pytest.mark.parametrize("coder", BOTH)
@pytest.mark.parametrize("seed", range(40))
def test_what_was_written_is_read(coder: Ans, seed: int) -> None:
    stream = StreamReader(written(PLAIN, batches(seed)), None, coder)
    for kind, model, symbols in batches(seed):
        size = () if kind == "flags" else (len(symbols),)
        assert np.array_equal(getattr(stream, kind)(model, *size, None), symbols)
    stream.finish(FIRST)


def test_another_table_gives_other_words() -> None:
    """The comparisons above can fail: one count in a thousand moves one slot."""
    symbols = np.arange(3000, dtype=np.int32) % 3
    one, other = (written(PLAIN, [("draws", np.array([500, 499 + k, 500]), symbols)]) for k in (0, 1))
    assert one != other


@pytest.mark.parametrize("seed", range(30))
def test_both_make_the_same_of_any_words_and_any_state(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**32, 50, np.uint32)
    left, state = int(rng.integers(0, 51)), int.from_bytes(rng.bytes(8)) >> int(rng.integers(64))
    for kind, model, symbols in (make(rng, 300) for make in (flags, draws, bits)):
        said = []
        for coder in (PLAIN, compiled.coder()):
            out = np.zeros(len(symbols), np.int32)
            said.append((getattr(coder, kind)(words, left, state, model, out), out.tolist()))
            room = np.zeros(2 * len(symbols), np.uint32)
            used, end = getattr(coder, f"put_{kind}")(room, state, model, symbols)
            said[-1] += (room[:used].tolist(), end)
        assert said[0] == said[1]


def good() -> dict[str, list[Any]]:
    """Arguments that each function takes."""
    probabilities, counts = np.full(5, 9), np.array([3, 0, 1])
    symbols, words, room = np.array([0, 1, 1, 0, 1], np.int32), np.ones(4, np.uint32), np.zeros(10, np.uint32)
    return {
        "flags": [words, 3, 2**40, probabilities, np.zeros(5, np.int32)],
        "draws": [words, 3, 2**40, counts, np.zeros(5, np.int32)],
        "bits": [words, 3, 2**40, 7, np.zeros(5, np.int32)],
        "put_flags": [room, 2**40, probabilities, symbols],
        "put_draws": [room, 2**40, counts, symbols],
        "put_bits": [room, 2**40, 31, symbols],
    }


@pytest.mark.parametrize("coder", BOTH)
@pytest.mark.parametrize("name", good())
def test_good_arguments_are_taken(coder: Ans, name: str) -> None:
    words, state = getattr(coder, name)(*good()[name])
    assert 0 <= words <= 10
    assert 0 <= state < 2**64


_S = np.array([0, 1, 2, 0, 1], np.int32)
BAD_MODELS = [
    *[(f"{put}flags", np.array([9, 9, 9, bad, 9])) for put in ("", "put_") for bad in (0, -1, ONE, 2**40)],
    *[(f"{put}draws", np.array(bad)) for put in ("", "put_") for bad in ([3], [0, 0], [5, -1], [2**53, 1])],
    *[(f"{put}draws", np.ones(4097, np.int64)) for put in ("", "put_")],
    *[(f"{put}draws", np.full(4, 2**62)) for put in ("", "put_")],
    *[(f"{put}bits", bad) for put in ("", "put_") for bad in (-1, 32, 2**70)],
]  # fmt: skip
BAD_SYMBOLS = [
    ("put_flags", _S), ("put_flags", -_S), ("put_draws", _S + 1), ("put_draws", -_S), ("put_bits", -_S),
]  # fmt: skip


@pytest.mark.parametrize("coder", BOTH)
@pytest.mark.parametrize(("name", "model"), BAD_MODELS)
def test_a_model_that_cannot_be_is_refused(coder: Ans, name: str, model: Any) -> None:
    arguments = good()[name]
    arguments[-2] = model
    with pytest.raises(ValueError, match=r"wrong|number"):
        getattr(coder, name)(*arguments)


@pytest.mark.parametrize("coder", BOTH)
@pytest.mark.parametrize(("name", "symbols"), BAD_SYMBOLS)
def test_a_symbol_outside_its_model_is_refused(coder: Ans, name: str, symbols: Any) -> None:
    with pytest.raises(ValueError, match="wrong symbol"):
        getattr(coder, name)(*good()[name][:-1], symbols)


def test_bits_that_a_width_cannot_hold_are_refused() -> None:
    for coder in (PLAIN, compiled.coder()):
        with pytest.raises(ValueError, match="wrong symbol"):
            coder.put_bits(np.zeros(10, np.uint32), 2**40, 2, np.array([0, 4], np.int32))


_ROOM = np.zeros(10, np.uint32)
BAD_SIZES = [
    ("flags", 1, -1), ("flags", 1, 5), ("flags", 1, 2**70), ("flags", 2, -1), ("flags", 2, 2**64),
    ("flags", 0, np.zeros(5, np.uint8)), ("flags", 4, np.zeros(4, np.int32)), ("draws", 1, 5),
    ("draws", 4, np.zeros(5, np.uint8)), ("draws", 3, np.zeros(9, np.uint8)), ("bits", 1, 5),
    ("bits", 4, np.zeros(5, np.uint8)), ("put_flags", 0, np.zeros(4, np.uint32)), ("put_flags", 1, 2**64),
    ("put_flags", 3, np.zeros(4, np.int32)), ("put_draws", 0, np.zeros(4, np.uint32)), ("put_draws", 1, -1),
    ("put_bits", 0, np.zeros(9, np.uint32)), ("put_bits", 1, -1), ("put_bits", 3, np.zeros(5, np.uint8)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "place", "value"), BAD_SIZES)
def test_compiled_code_checks_what_it_is_given(name: str, place: int, value: Any) -> None:
    code = compiled.coder()
    if code is PLAIN:
        pytest.skip("installed without a compiler")
    arguments = good()[name]
    arguments[place] = value
    with pytest.raises(ValueError, match="wrong"):
        getattr(code, name)(*arguments)


def test_symbols_are_not_overwritten_while_they_are_written() -> None:
    code, symbols = compiled.coder(), np.zeros(5, np.int32)
    if code is PLAIN:
        pytest.skip("installed without a compiler")
    with pytest.raises(ValueError, match="wrong room"):
        code.put_draws(symbols, 2**40, np.array([1, 1]), symbols)


def test_every_file_is_read_and_written_without_compiled_code_and_constriction(tmp_path: Path) -> None:
    """The same integers, and the same bytes when they are written again."""
    q = np.random.default_rng(0).choice([0, 0, 0, 1, -1, 5, 70_000], (30, 40)).astype(np.int32)
    files = [path.read_bytes() for path in sorted(GOLDEN.glob("*.lac"))] + [bytes.fromhex(KINDS_HEX)]
    files.append(encode(PackedModel((IntTensor("w", q, UniformGrid(1.0)),))))
    for number, data in enumerate(files):
        (tmp_path / f"{number:03}.lac").write_bytes(data)
    said = run_fresh(
        f"""
import sys, zlib
from pathlib import Path
for name in ("laconic.pack.codecs._adaptive", "laconic.pack.codecs._coder", "constriction"):
    sys.modules[name] = None  # importing it raises
from laconic.pack import decode, encode
from laconic.records.children import ChildTensor
for path in sorted(Path({str(tmp_path)!r}).glob("*.lac")):
    model = decode(path.read_bytes())
    alone = [t for t in model.tensors if not isinstance(t, ChildTensor)]
    print([zlib.crc32(t.values().tobytes()) for t in alone], zlib.crc32(encode(model)))
"""
    )
    for line, data in zip(said.splitlines(), files, strict=True):
        model = decode(data)
        alone = [tensor for tensor in model.tensors if not isinstance(tensor, ChildTensor)]
        sums = [zlib.crc32(tensor.values().tobytes()) for tensor in alone]
        assert line == f"{sums} {zlib.crc32(encode(model))}"


def test_a_large_static_tensor_in_python_alone() -> None:
    """More symbols than one sweep holds."""
    symbols = (np.random.default_rng(0).random(150_000) < 0.05).astype(np.int32)
    counts = np.array([95, 5])
    data = written(PLAIN, [("draws", counts, symbols), ("bits", 20, symbols)])
    assert data == written(compiled.coder(), [("draws", counts, symbols), ("bits", 20, symbols)])
    stream = StreamReader(data)
    assert np.array_equal(stream.draws(counts, len(symbols), None), symbols)
    assert ans.table(counts)[1] == int(95 * ((2**24 - 2) / 100)) + 1
