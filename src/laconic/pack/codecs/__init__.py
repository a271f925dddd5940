"""The entropy coder and the models that it codes with (FORMAT.md, "Codec 1" and "Codec 2")."""
