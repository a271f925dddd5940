"""A user's network: copies of it, the plain network within, its weights, one way to run it."""

from laconic.networks.copies import (
    arguments,
    call,
    computed_weights,
    duplicate,
    flattened,
    fold_in_place,
    folded,
    inference,
    positional,
    refilled,
    sharing,
    to_device,
    with_tensors,
)

__all__ = [
    "arguments",
    "call",
    "computed_weights",
    "duplicate",
    "flattened",
    "fold_in_place",
    "folded",
    "inference",
    "positional",
    "refilled",
    "sharing",
    "to_device",
    "with_tensors",
]
