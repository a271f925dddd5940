"""What several methods share: grids, masks, what a decision leaves over, the engine of unit pruning."""
