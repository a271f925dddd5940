"""Which weights and units go? Scores, and selections by them: keep-masks and keep plans."""
