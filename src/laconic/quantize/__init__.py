"""Which values may the surviving weights take? Integers and grids, never bytes."""
