from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import InputError
from laconic.records import FloatArray
from laconic.schedules.steps import cubic_sparsity
from laconic.sparsify.selection.magnitude import keep_largest


def _weights(seed: int = 0) -> dict[str, FloatArray]:
    generator = np.random.default_rng(seed)
    shapes = {"conv": (4, 3, 3, 3), "fc": (10, 7), "small": (3,)}
    return {
        n: generator.normal(size=s).astype(np.float32) * (k + 1) for k, (n, s) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("sparsity", [0.0, 0.001, 0.25, 0.5, 0.9, 0.999])
def test_over_all_tensors_exactly_the_smallest_go(sparsity: float) -> None:
    weights = _weights()
    keeps = keep_largest(weights, sparsity)
    assert {n: k.shape for n, k in keeps.items()} == {n: w.shape for n, w in weights.items()}
    magnitudes = np.concatenate([np.abs(w).ravel() for w in weights.values()])
    kept = np.concatenate([k.ravel() for k in keeps.values()])
    assert int((~kept).sum()) == int(sparsity * magnitudes.size)
    assert magnitudes[~kept].max(initial=0.0) <= magnitudes[kept].min()


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.95])
def test_by_layer_every_tensor_loses_its_own_share(sparsity: float) -> None:
    weights = _weights(1)
    for name, keep in keep_largest(weights, sparsity, per_layer=True).items():
        magnitudes = np.abs(weights[name])
        assert int((~keep).sum()) == int(sparsity * keep.size)
        assert magnitudes[~keep].max(initial=0.0) <= magnitudes[keep].min()


def test_global_and_by_layer_differ_where_scales_do() -> None:
    weights = _weights(2)
    together, apart = keep_largest(weights, 0.5), keep_largest(weights, 0.5, per_layer=True)
    assert together["conv"].mean() < apart["conv"].mean()


def test_ties_go_by_position_and_counts_stay_exact() -> None:
    keeps = keep_largest({"a": np.ones(3, np.float32), "b": -np.ones((2, 2), np.float32)}, 5 / 7)
    assert keeps["a"].tolist() == [False, False, False]
    assert keeps["b"].tolist() == [[False, False], [True, True]]
    many = keep_largest({"w": np.tile(np.float32([1, 2]), 500)}, 0.2)["w"]
    assert not many[:400:2].any()
    assert many[1::2].all()
    assert many[400:].all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 2.0]), min_size=1, max_size=30), st.floats(0, 0.99))
def test_counts_are_exact_whatever_repeats(values: list[float], sparsity: float) -> None:
    keep = keep_largest({"w": np.asarray(values, np.float32)}, sparsity)["w"]
    assert int((~keep).sum()) == int(sparsity * len(values))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_cannot_be_is_refused(sparsity: float) -> None:
    with pytest.raises(InputError, match="sparsity must lie in"):
        keep_largest(_weights(), sparsity)


def test_the_cubic_schedule_is_zhu_and_guptas_equation_1() -> None:
    # s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3 with s_i = 0
    final, start, end = 0.9, 0.2, 0.7
    for progress in np.linspace(start, end, 11).tolist():
        published = final + (0.0 - final) * (1 - (progress - start) / (end - start)) ** 3
        assert cubic_sparsity(progress, final, start=start, end=end) == pytest.approx(published)


def test_the_schedule_is_flat_outside_and_never_falls() -> None:
    shares = [cubic_sparsity(p, 0.8, start=0.1, end=0.6) for p in np.linspace(-0.5, 2.0, 101).tolist()]
    assert shares == sorted(shares)
    assert shares[0] == cubic_sparsity(0.1, 0.8, start=0.1, end=0.6) == 0.0
    assert shares[-1] == cubic_sparsity(0.6, 0.8, start=0.1, end=0.6) == 0.8


@pytest.mark.parametrize(
    ("final", "start", "end"), [(1.0, 0, 1), (-0.1, 0, 1), (0.5, 0.5, 0.5), (0.5, 0, 1.1)]
)
def test_a_schedule_that_cannot_be_is_refused(final: float, start: float, end: float) -> None:
    with pytest.raises(InputError, match="0 <= start < end <= 1"):
        cubic_sparsity(0.5, final, start=start, end=end)
