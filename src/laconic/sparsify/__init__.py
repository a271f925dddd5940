"""Which weights go? Decisions as boolean keep-masks."""
