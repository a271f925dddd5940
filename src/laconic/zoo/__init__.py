"""Reference networks, one per file, and their usual training.

Every constructor takes ``generator``: with one, the weights depend on it alone; without, they come from
torch's defaults.
"""

from __future__ import annotations

from laconic.zoo.digits_cnn import DigitsCNN
from laconic.zoo.digits_lstm import DigitsLSTM
from laconic.zoo.digits_mlp import DigitsMLP
from laconic.zoo.digits_resnet import DigitsResNet
from laconic.zoo.init import initialise
from laconic.zoo.lenet5 import LeNet5
from laconic.zoo.lenet300 import LeNet300
from laconic.zoo.lenet500 import LeNet500
from laconic.zoo.recipes import (
    DIGITS,
    LENET5_MNIST,
    LENET300_MNIST,
    RESNET20_CIFAR10,
    TrainRecipe,
)
from laconic.zoo.resnet import ResNet20

__all__ = [
    "DIGITS",
    "LENET5_MNIST",
    "LENET300_MNIST",
    "RESNET20_CIFAR10",
    "DigitsCNN",
    "DigitsLSTM",
    "DigitsMLP",
    "DigitsResNet",
    "LeNet5",
    "LeNet300",
    "LeNet500",
    "ResNet20",
    "TrainRecipe",
    "initialise",
]
