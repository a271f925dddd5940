"""The shapes of what each operation gives."""
