"""A user's network: copying and unwrapping it, its weights, and how it is called."""

from laconic.networks.copies import computed_weights, duplicate, fold_in_place, folded, sharing
from laconic.networks.inputs import (
    arguments,
    call,
    check_names,
    flattened,
    inference,
    is_nested,
    no_tensor,
    place_name,
    positional,
    refilled,
    to_device,
    with_forward,
    with_tensors,
)

__all__ = [
    "arguments",
    "call",
    "check_names",
    "computed_weights",
    "duplicate",
    "flattened",
    "fold_in_place",
    "folded",
    "inference",
    "is_nested",
    "no_tensor",
    "place_name",
    "positional",
    "refilled",
    "sharing",
    "to_device",
    "with_forward",
    "with_tensors",
]
