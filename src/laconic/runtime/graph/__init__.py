"""A graph as steps, and what is derived from it without running it: shapes, types, memory, work."""
