import copy
import io
import pickle

import pytest
import torch

from laconic.errors import InputError
from laconic.networks.noise import NoiseSource, quantiles, standard_normal_like


def test_one_seed_one_stream():
    a, b, c = NoiseSource(1), NoiseSource(1), NoiseSource(2)
    t = torch.empty(10)
    assert torch.equal(a.like(t), b.like(t)) and not torch.equal(a.like(t), c.like(t))


def test_state_survives_a_checkpoint_that_cannot_run_code():
    source = NoiseSource(3)
    source.like(torch.empty(7))
    buffer = io.BytesIO()
    torch.save(source.get_state(), buffer)
    buffer.seek(0)
    expected = source.like(torch.empty(2000))
    other = NoiseSource(99)
    other.set_state(torch.load(buffer, weights_only=True))
    assert other.seed == 3 and torch.equal(other.like(torch.empty(2000)), expected)


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_continues_the_stream_on_its_own(twin_of):
    source = NoiseSource(4)
    source.like(torch.empty(3))
    twin = twin_of(source)
    assert torch.equal(twin.like(torch.empty(9)), source.like(torch.empty(9)))
    twin.like(torch.empty(1))
    assert not torch.equal(twin.like(torch.empty(9)), source.like(torch.empty(9)))


def test_what_shares_a_source_shares_its_copy():
    source = NoiseSource(1)
    first, second = copy.deepcopy([source, source])
    assert first is second is not source


@pytest.mark.parametrize("seed", [-1, True, 0.5, 2**63])
def test_what_is_no_seed(seed):
    with pytest.raises(InputError, match="seed"):
        NoiseSource(seed)


def test_what_is_no_state():
    with pytest.raises(InputError, match="no noise state"):
        NoiseSource().set_state({"seed": 1})


# --- what it draws ------------------------------------------------------------------------------

LAST = torch.channels_last


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1000, 1001), (5,)])
def test_noise_is_standard_normal(dtype, shape):
    noise = standard_normal_like(torch.empty(shape, dtype=dtype), seeded())
    assert noise.dtype == dtype and noise.shape == shape
    if noise.numel() > 5:
        z = noise.double()
        assert abs(z.mean()) < 4e-3 and abs(z.var() - 1) < 6e-3 and abs((z**4).mean() - 3) < 0.03
        assert abs((z[:, :-1] * z[:, 1:]).mean()) < 4e-3 and abs((z[:-1] * z[1:]).mean()) < 4e-3
        inside = torch.tensor([(z.abs() < t).double().mean() for t in (0.5, 1.0, 2.0, 3.0)])
        expected = torch.erf(torch.tensor([0.5, 1.0, 2.0, 3.0]).double() / 2**0.5)
        assert torch.allclose(inside, expected, atol=2e-3)


def test_noise_follows_layout_and_seed():
    image = torch.zeros(4, 20, 12, 12).to(memory_format=LAST)
    noise = standard_normal_like(image, seeded(5))
    assert noise.stride() == image.stride()
    assert torch.equal(noise, standard_normal_like(image, seeded(5)))
    assert not torch.equal(noise, standard_normal_like(image, seeded(6)))


def test_noise_never_touches_the_global_generator():
    state = torch.get_rng_state()
    standard_normal_like(torch.empty(5000), seeded())
    standard_normal_like(torch.empty(5), seeded())
    assert torch.equal(torch.get_rng_state(), state)


def test_quantiles_are_symmetric_and_rising():
    table = quantiles()
    assert (table.diff() > 0).all() and torch.equal(table, -table.flip(0))
