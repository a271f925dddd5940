"""A user's network: copying and unwrapping it, its weights and what they multiply, and how it is called."""

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
from laconic.networks.second_moments import (
    CrossMoments,
    SecondMoments,
    as_matrices,
    from_matrices,
    gather_cross_moments,
    gather_second_moments,
)

__all__ = [
    "CrossMoments",
    "SecondMoments",
    "arguments",
    "as_matrices",
    "call",
    "check_names",
    "computed_weights",
    "duplicate",
    "flattened",
    "fold_in_place",
    "folded",
    "from_matrices",
    "gather_cross_moments",
    "gather_second_moments",
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
