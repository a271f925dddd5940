"""Fewer examples and smaller images, where the network takes them."""

import torch
from torch import nn

from laconic.structure.small_inputs import few_examples, smaller_images


def test_few_examples_and_small_images_stand_for_many():
    """Only where the network computes each example independently, and takes images of any size."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    images = (torch.randn(5, 1, 130, 40),)
    with torch.no_grad():
        assert few_examples(net, images, net(*images))[0].shape == (2, 1, 130, 40)
        assert smaller_images(net, images)[0].shape == (5, 1, 64, 40)
        fixed = nn.Sequential(nn.Flatten(), nn.Linear(5200, 2)).eval()
        assert smaller_images(fixed, images) is images
        centred = type("Centred", (nn.Module,), {"forward": lambda self, x: x - x.mean(0)})()
        assert few_examples(centred, images, centred(*images)) is images
    sequences = (torch.zeros(2, 400, 300),)
    assert smaller_images(nn.Identity(), sequences) is sequences  # they are no images
