"""A graph as steps, and what follows from it alone: shapes, types, memory, work. Nothing is built or run."""
