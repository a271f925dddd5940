"""One published method per file: a frozen configuration, its stages, its paper."""

from laconic.methods.contract import Compressed, Context, Evaluate, Judge, Method, Score, Target
from laconic.methods.magnitude import MagnitudePruning
from laconic.methods.sparse_vd import SparseVD
from laconic.methods.taylor_pruning import TaylorPruning
from laconic.methods.vnq import VNQ

__all__ = [
    "VNQ",
    "Compressed",
    "Context",
    "Evaluate",
    "Judge",
    "MagnitudePruning",
    "Method",
    "Score",
    "SparseVD",
    "Target",
    "TaylorPruning",
]
