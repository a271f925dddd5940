"""The table of operations: one row for each operation of the format (``ops/row.py`` lists the columns).

An operation is a row of the format's closed table (``pack/graph/ops.py``), a row here, and the rule by which
``export`` captures it. A test compares both tables and the cost of each kind.
"""

from __future__ import annotations

from laconic.errors import CorruptFileError
from laconic.records import Node
from laconic.runtime.ops import arithmetic, layers, moves, searches, sequences, sizes
from laconic.runtime.ops.row import Int8, Op

TABLE: dict[str, Op] = {
    **arithmetic.ROWS,
    **layers.ROWS,
    **moves.ROWS,
    **searches.ROWS,
    **sequences.ROWS,
    **sizes.ROWS,
}


def row_of(op: str) -> Op:
    """The table's row for an operation; ``CorruptFileError`` for one that this runtime does not know.

    >>> row_of("relu").int8
    'move'
    """
    row = TABLE.get(op)
    if row is None:
        raise CorruptFileError(f"the graph uses {op!r}, which this runtime does not know")
    return row


def int8_of(node: Node) -> Int8:
    """How integer arithmetic runs a node, if all that it reads has a range.

    >>> int8_of(Node("pad", (0,))), int8_of(Node("pad", (0,), {"value": 1.0}))
    ('move', 'float')
    """
    entry = row_of(node.op).int8
    return entry if isinstance(entry, str) else entry(node)
