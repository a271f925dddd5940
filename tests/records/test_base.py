"""Records are made as dataclasses are: by place, by name, with defaults; a wrong call is a TypeError."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from laconic.records import Node, ValueSpec


def test_fields_are_given_by_place_by_name_or_by_default() -> None:
    node = Node("relu", inputs=(0,))
    assert (node.op, node.inputs, node.attrs, node.n_outputs) == ("relu", (0,), {}, 1)
    assert node.attrs is not Node("relu", (0,)).attrs
    assert list(inspect.signature(ValueSpec).parameters) == ["dtype", "shape", "name", "axes"]


@pytest.mark.parametrize(
    ("values", "named", "said"),
    [
        (("a",), {}, "missing required arguments: 'inputs'"),
        (("a", (), {}, 1, 2), {}, "takes 4 arguments but 5"),
        (("a", ()), {"op": "b"}, "multiple values for argument 'op'"),
        (("a", ()), {"z": 1}, "unexpected keyword argument 'z'"),
    ],
)
def test_a_wrong_call_is_a_type_error(values: tuple[Any, ...], named: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Node(*values, **named)
