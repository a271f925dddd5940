"""Which values the remaining weights may take: integers on grids and codebooks."""
