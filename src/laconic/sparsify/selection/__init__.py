"""Selections by scores: a share, a threshold, a budget."""
