import copy
import io
import pickle

import pytest
import torch

from laconic.bayes.layers import NoiseSource
from laconic.errors import InputError


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
