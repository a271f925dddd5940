"""What stands around a call of a network: names, sizes, limits, forks."""
