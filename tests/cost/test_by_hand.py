"""LeNet-5-Caffe and ResNet-20 counted by hand, from layer shapes written out here: exactly equal.

The sums are spelled out, so that a reader can check them with a pencil: (what, how many).
"""

from __future__ import annotations

import pytest
import torch

import laconic
from laconic.cost import Cost
from laconic.zoo import LeNet5, ResNet20
from tests.cost.devices import MICRO

# --- LeNet-5-Caffe, input 1x28x28 ------------------------------------------------------------

LENET_MACS = 20 * 24 * 24 * (1 * 5 * 5) + 50 * 8 * 8 * (20 * 5 * 5) + 500 * 800 + 10 * 500
LENET_WEIGHTS = (20 * 25 + 20) + (50 * 20 * 25 + 50) + (500 * 800 + 500) + (10 * 500 + 10)
# two poolings of 2 x 2, one ReLU
LENET_OTHER = 20 * 12 * 12 * 4 + 50 * 4 * 4 * 4 + 500
# each reads its input and writes its output; the ReLU works inside fc1
LENET_MOVED = (784 + 11520) + (11520 + 2880) + (2880 + 3200) + (3200 + 800) + (800 + 500) + (500 + 10)
# the first pooling: 20 maps of 24 x 24 in, of 12 x 12 out
LENET_PEAK = 20 * 24 * 24 + 20 * 12 * 12


@pytest.fixture(scope="module")
def lenet() -> Cost:
    network = LeNet5(generator=torch.Generator().manual_seed(0))
    return laconic.cost_of(network, torch.zeros(1, 1, 28, 28), device=MICRO)


def test_the_hand_is_right_about_lenet() -> None:
    assert (LENET_MACS, LENET_WEIGHTS, LENET_PEAK) == (2_293_000, 431_080, 14_400)


def test_lenet_counts(lenet: Cost) -> None:
    assert lenet.macs == lenet.macs_nonzero == LENET_MACS
    assert lenet.macs_by_bits == {(32, 32): LENET_MACS}
    assert lenet.other_ops == LENET_OTHER
    assert lenet.weights == LENET_WEIGHTS
    assert lenet.weights_dense_bytes == lenet.weights_stored_bytes == 4 * LENET_WEIGHTS
    assert lenet.peak_activation_bytes == 4 * LENET_PEAK
    assert lenet.traffic_bytes == 4 * (LENET_WEIGHTS + LENET_MOVED)


def test_lenet_live_bytes_layer_by_layer(lenet: Cost) -> None:
    live = [layer.live_bytes // 4 for layer in lenet.layers]
    maps = [784 + 11520, 11520 + 2880, 2880 + 3200, 3200 + 800]
    # flatten is a view; the ReLU writes over fc1's output
    assert live == [*maps, 800, 800 + 500, 500, 500 + 10]


def test_lenet_energy(lenet: Cost) -> None:
    assert lenet.estimated is not None
    arithmetic = 11 * (LENET_MACS + LENET_OTHER)
    memory = 7 * 4 * LENET_WEIGHTS + 3 * 4 * LENET_MOVED
    assert lenet.estimated.energy_fj == arithmetic + memory
    assert sum(layer.arithmetic_fj for layer in lenet.estimated.layers) == arithmetic


def test_lenet_energy_on_a_shipped_device() -> None:
    """Horowitz: a float product 3.7 pJ and a sum 0.9; an access of 64 bits to 1 MB of SRAM 100 pJ."""
    network = LeNet5(generator=torch.Generator().manual_seed(0))
    cost = laconic.cost_of(network, torch.zeros(1, 1, 28, 28), device="cortex-m7")
    assert cost.estimated is not None
    moved = 4 * (LENET_WEIGHTS + LENET_MOVED)
    assert cost.estimated.energy_fj == 4_600 * (LENET_MACS + LENET_OTHER) + moved * 100_000 // 8


def test_lenet_of_a_batch_reads_its_weights_once() -> None:
    network = LeNet5(generator=torch.Generator().manual_seed(0))
    cost = laconic.cost_of(network, torch.zeros(3, 1, 28, 28))
    assert cost.macs == 3 * LENET_MACS
    assert cost.peak_activation_bytes == 3 * 4 * LENET_PEAK
    assert cost.traffic_bytes == 4 * (LENET_WEIGHTS + 3 * LENET_MOVED)


def test_lenet_in_eight_bits() -> None:
    network = LeNet5(generator=torch.Generator().manual_seed(0))
    cost = laconic.cost_of(network, torch.zeros(1, 1, 28, 28), activation_bits=8)
    assert cost.peak_activation_bytes == LENET_PEAK
    assert cost.traffic_bytes == 4 * LENET_WEIGHTS + LENET_MOVED
    assert cost.macs_by_bits == {(32, 8): LENET_MACS}


# --- ResNet-20, input 3x32x32 ------------------------------------------------------------------

# three stages: channels, pixels; the first block of the second and third halves the pixels
A, B, C = 16 * 32 * 32, 32 * 16 * 16, 64 * 8 * 8
STEM = A * 27
FULL = 9 * 16 * A  # a 3x3 convolution that keeps its shape takes as much in every stage
assert FULL == 9 * 32 * B == 9 * 64 * C
HALF = 9 * 16 * B  # the first convolution of a stage reads half the channels
assert HALF == 9 * 32 * C
RESNET_MACS = STEM + 6 * FULL + (HALF + 5 * FULL) + (HALF + 5 * FULL) + 64 * 10

NORMS = 16 * 7 + 32 * 6 + 64 * 6  # channels that a batch norm serves
KERNELS = 27 * 16 + 9 * (6 * 16 * 16 + (16 * 32 + 5 * 32 * 32) + (32 * 64 + 5 * 64 * 64))
RESNET_TENSORS = KERNELS + 4 * NORMS + (64 * 10 + 10)  # a norm keeps weight, bias, mean and variance

# norm and ReLU after the stem; per block two norms, a sum, two ReLUs; the global mean reads C
RESNET_OTHER = 2 * A + 3 * 5 * A + 3 * 5 * B + 3 * 5 * C + C

# per plain block: the first convolution reads and writes, so does the second, the sum reads the shortcut
PLAIN = 5
# a halving block from size p to q: both convolutions; the shortcut drops every second row, then every second
# column (it reads what it keeps), and pads channels; the sum reads the second convolution's output
HALVING_B = (A + B) + (B + B) + 2 * (A // 2) + 2 * (A // 4) + (A // 4 + B) + B
HALVING_C = (B + C) + (C + C) + 2 * (B // 2) + 2 * (B // 4) + (B // 4 + C) + C
RESNET_MOVED = (
    (3 * 32 * 32 + A) + 3 * PLAIN * A + HALVING_B + 2 * PLAIN * B + HALVING_C + 2 * PLAIN * C
    + (C + 64) + (64 + 10)
)  # fmt: skip
# the second convolution of a block of the first stage: shortcut, input, output
RESNET_PEAK = 3 * A


@pytest.fixture(scope="module")
def resnet() -> Cost:
    network = ResNet20(generator=torch.Generator().manual_seed(0))
    return laconic.cost_of(network, torch.zeros(1, 3, 32, 32), device=MICRO)


def test_the_hand_is_right_about_resnet() -> None:
    assert (RESNET_MACS, RESNET_TENSORS - 2 * NORMS) == (40_551_040, 269_722)


def test_resnet_counts(resnet: Cost) -> None:
    assert resnet.macs == RESNET_MACS
    assert resnet.other_ops == RESNET_OTHER
    assert resnet.weights == RESNET_TENSORS
    assert resnet.weights_dense_bytes == 4 * RESNET_TENSORS
    assert resnet.peak_activation_bytes == 4 * RESNET_PEAK
    assert resnet.traffic_bytes == 4 * (RESNET_TENSORS + RESNET_MOVED)


def test_resnet_energy(resnet: Cost) -> None:
    assert resnet.estimated is not None
    arithmetic = 11 * (RESNET_MACS + RESNET_OTHER)
    assert resnet.estimated.energy_fj == arithmetic + 7 * 4 * RESNET_TENSORS + 3 * 4 * RESNET_MOVED


def test_resnet_does_not_fit_the_ram(resnet: Cost) -> None:
    assert resnet.estimated is not None
    weights, activations = resnet.estimated.fits
    assert weights.fits
    assert weights.needed_bytes == 4 * RESNET_TENSORS
    assert not activations.fits
    assert activations.spare_bytes == 100_000 - 4 * RESNET_PEAK
