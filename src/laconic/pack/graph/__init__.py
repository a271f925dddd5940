"""The closed table of operations, and how a graph is written (FORMAT.md, "Graph section")."""
