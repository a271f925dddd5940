"""LeNet-5-Caffe and ResNet-20 in int8, counted by hand from the shapes of ``test_by_hand``: exactly equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.cost import Cost
from laconic.cost.show import as_data
from laconic.errors import InputError
from laconic.export import build_packed
from laconic.pack.graph.ops import make_node
from laconic.records import ActivationRange, Graph, PackedModel, RawTensor, ValueSpec
from laconic.runtime import Network, calibrate
from laconic.zoo import LeNet5, ResNet20
from tests.cost.devices import MICRO
from tests.cost.test_by_hand import (
    KERNELS,
    LENET_MACS,
    LENET_MOVED,
    LENET_PEAK,
    LENET_WEIGHTS,
    NORMS,
    RESNET_MACS,
    RESNET_MOVED,
    RESNET_PEAK,
    RESNET_TENSORS,
    A,
    B,
    C,
)

# --- LeNet-5-Caffe: 580 rows of weights, each with a scale and a bias ------------------------------

LENET_ROWS = 20 + 50 + 500 + 10
# a byte a weight; a float32 scale and an int32 bias a row
LENET_BYTES = (LENET_WEIGHTS - LENET_ROWS) + 8 * LENET_ROWS
# 4 bytes a number to 1, and the 10 logits back again
LENET_DOORS = 784 * (4 + 1) + 10 * (1 + 4)
# two poolings of 2 x 2; one requantisation for each output of a layer (ReLU saturates it); the doors
LENET_OTHER = 20 * 12 * 12 * 4 + 50 * 4 * 4 * 4 + (11520 + 3200 + 500 + 10)
LENET_AT_DOORS = 784 + 10

# --- ResNet-20: the norms are in the kernels and biases, 688 of them, and of the linear layer 10 ---

RESNET_ROWS = NORMS + 10
RESNET_BYTES = KERNELS + 64 * 10 + 8 * RESNET_ROWS
RESNET_DOORS = 3 * 32 * 32 * (4 + 1) + 10 * (1 + 4)
# every convolution requantises; a sum adds, and rescales both operands and itself; the mean reads C
RESNET_OTHER = (7 * A + 6 * B + 6 * C + 10) + 4 * 3 * (A + B + C) + C
RESNET_AT_DOORS = 3 * 32 * 32 + 10


def calibrated(network: nn.Module, *shape: int) -> PackedModel:
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    return calibrate(build_packed(network.eval(), {}, torch.from_numpy(x[:1]))[0], [(x,)])


@pytest.fixture(scope="module")
def lenet_file() -> PackedModel:
    return calibrated(LeNet5(generator=torch.Generator().manual_seed(0)), 1, 28, 28)


@pytest.fixture(scope="module")
def lenet(lenet_file: PackedModel) -> Cost:
    return laconic.cost_of(lenet_file, device=MICRO)


@pytest.fixture(scope="module")
def resnet_file() -> PackedModel:
    return calibrated(ResNet20(generator=torch.Generator().manual_seed(0)), 3, 32, 32)


@pytest.fixture(scope="module")
def resnet(resnet_file: PackedModel) -> Cost:
    return laconic.cost_of(resnet_file, device=MICRO)


def test_lenet_counts(lenet: Cost) -> None:
    assert lenet.precision == as_data(lenet)["precision"] == "int8"
    assert lenet.macs_by_bits == {(8, 8): LENET_MACS}
    assert lenet.other_ops == LENET_OTHER + LENET_AT_DOORS
    assert lenet.weights == LENET_WEIGHTS
    assert lenet.weights_dense_bytes == 4 * LENET_WEIGHTS  # what it would take in float32
    assert lenet.weights_few_bit_bytes == lenet.weights_stored_bytes == LENET_BYTES
    assert lenet.peak_activation_bytes == LENET_PEAK
    # the ReLU is in fc1
    assert lenet.traffic_bytes == LENET_BYTES + LENET_MOVED + LENET_DOORS


def test_lenet_live_bytes_layer_by_layer(lenet: Cost) -> None:
    live = [layer.live_bytes for layer in lenet.layers]
    maps = [784 + 11520, 11520 + 2880, 2880 + 3200, 3200 + 800]
    assert live == [5 * 784, *maps, 800, 800 + 500, 500 + 10, 5 * 10]


def test_lenet_energy_and_time(lenet: Cost) -> None:
    """int8 arithmetic costs 1 and float32, at the doors, 11; a byte of flash 7, of RAM 3."""
    assert lenet.estimated is not None
    arithmetic = LENET_MACS + LENET_OTHER + 11 * LENET_AT_DOORS
    memory = 7 * LENET_BYTES + 3 * (LENET_MOVED + LENET_DOORS)
    assert lenet.estimated.energy_fj == arithmetic + memory
    # conv1: two MACs (or requantisations) a cycle of a microsecond, and a millisecond a call
    conv1 = lenet.estimated.layers[1]
    assert conv1.arithmetic == "int8"
    assert conv1.seconds == pytest.approx((288_000 + 11_520) / 2 * 1e-6 + 1e-3)
    # fc1 waits for its weights: one byte a microsecond, and its activations at four
    fc1 = next(layer for layer in lenet.estimated.layers if layer.name == "fc1")
    assert fc1.seconds == pytest.approx((500 * 800 + 8 * 500 + (800 + 500) / 4) * 1e-6 + 1e-3)


def test_resnet_counts(resnet: Cost) -> None:
    assert resnet.macs_by_bits == {(8, 8): RESNET_MACS}
    assert resnet.other_ops == RESNET_OTHER + RESNET_AT_DOORS
    assert resnet.weights == RESNET_TENSORS
    assert resnet.weights_few_bit_bytes == resnet.weights_stored_bytes == RESNET_BYTES
    assert resnet.peak_activation_bytes == RESNET_PEAK
    assert resnet.traffic_bytes == RESNET_BYTES + RESNET_MOVED + RESNET_DOORS


def test_resnet_energy(resnet: Cost) -> None:
    assert resnet.estimated is not None
    arithmetic = RESNET_MACS + RESNET_OTHER + 11 * RESNET_AT_DOORS
    memory = 7 * RESNET_BYTES + 3 * (RESNET_MOVED + RESNET_DOORS)
    assert resnet.estimated.energy_fj == arithmetic + memory
    assert resnet.estimated.fits_all  # in float32 its activations do not


def test_a_batch_reads_its_weights_once(lenet_file: PackedModel) -> None:
    cost = laconic.cost_of(lenet_file, batch=3)
    assert cost.traffic_bytes == LENET_BYTES + 3 * (LENET_MOVED + LENET_DOORS)
    assert cost.peak_activation_bytes == 3 * LENET_PEAK


@pytest.mark.parametrize("file", ["lenet_file", "resnet_file"])
def test_the_runtime_holds_these_weights(file: str, request: pytest.FixtureRequest) -> None:
    """Beside them it holds zero points, scales of activations and of biases, and channels filled with zeros.

    (LeNet-5's 50 channels become 52, also in the 400,000 weights of fc1: 4 %.)
    """
    model = request.getfixturevalue(file)
    counted = laconic.cost_of(model).weights_stored_bytes
    assert counted <= Network.from_packed(model, 1).nbytes <= 1.06 * counted


def test_the_same_file_in_float32(lenet_file: PackedModel) -> None:
    cost = laconic.cost_of(lenet_file, precision="fp32")
    assert (cost.precision, cost.macs_by_bits) == ("fp32", {(32, 32): LENET_MACS})
    assert cost.peak_activation_bytes == 4 * LENET_PEAK
    assert cost.traffic_bytes == 4 * (LENET_WEIGHTS + LENET_MOVED)
    with pytest.raises(InputError, match="this file holds none"):
        laconic.cost_of(nn.Linear(4, 2), torch.zeros(1, 4), precision="int8")


def test_what_has_no_range_stays_float32() -> None:
    """A linear layer in int8, a tanh, and one in float32 with the same matrix, which is then held twice."""
    weight = RawTensor("fc.weight", np.ones((3, 3), np.float32))
    nodes = (make_node("linear", (0, -1)), make_node("tanh", (1,)), make_node("linear", (2, -1)))
    ranges = (ActivationRange(0, 0.5, 0), ActivationRange(1, 0.5, 0))
    graph = Graph((ValueSpec("float32", (None, 3)),), nodes, (3,), ranges)
    cost = laconic.cost_of(PackedModel((weight,), graph))
    assert [layer.op for layer in cost.layers] == ["quantize", "linear", "dequantize", "tanh", "linear"]
    assert cost.macs_by_bits == {(8, 8): 9, (32, 32): 9}
    assert (cost.weights, cost.weights_few_bit_bytes) == (9, (9 + 4 * 3) + 4 * 3 + 4 * 9)
    assert [layer.other_ops for layer in cost.layers] == [3, 3, 3, 3, 0]
    # in and out of each; tanh works on what dequantize hands over
    assert [layer.activation_traffic for layer in cost.layers] == [15, 6, 15, 0, 24]
    assert [layer.live_bytes for layer in cost.layers] == [15, 6, 15, 12, 24]


def test_a_concatenation_rescales_what_has_another_range() -> None:
    weight = RawTensor("w", np.ones((2, 3), np.float32))
    nodes = (make_node("linear", (0, -1)), make_node("linear", (0, -1)), make_node("concat", (1, 2)))
    ranges = tuple(ActivationRange(v, s, 0) for v, s in enumerate((0.5, 0.5, 0.25, 0.5)))
    graph = Graph((ValueSpec("float32", (None, 3)),), nodes, (3,), ranges)
    cost = laconic.cost_of(PackedModel((weight,), graph))
    assert [layer.other_ops for layer in cost.layers if layer.op == "concat"] == [2]
    assert cost.weights_few_bit_bytes == (6 + 8) + 8  # both layers read one matrix and one bias of zeros


def test_a_recurrent_layer_between_int8_layers_stays_float32() -> None:
    """As the runtime and the emulation run it: 4 x 8 rows of 6 + 8 weights, five steps, in float32."""

    class Spotter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.cells, self.fc = (
                nn.Linear(4, 6),
                nn.LSTM(6, 8, batch_first=True),
                nn.Linear(8, 3),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.fc(self.cells(self.front(x))[0][:, -1])
            return y

    cost = laconic.cost_of(calibrated(Spotter(), 5, 4))
    assert cost.macs_by_bits == {(8, 8): 5 * 4 * 6 + 8 * 3, (32, 32): 5 * 32 * (6 + 8)}
    int8 = (4 * 6 + 8 * 6) + (8 * 3 + 8 * 3)
    assert cost.weights_few_bit_bytes == int8 + 4 * 32 * (6 + 8 + 2)
