"""Which weights and units are removed: scores, and selections by them that give keep-masks and keep plans."""
