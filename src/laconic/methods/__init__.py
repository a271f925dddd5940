"""One published method per file: a frozen configuration, its stages, its paper."""

from laconic.methods.contract import Compressed, Context, Evaluate, Judge, Method, Score, Target
from laconic.methods.distillation import Distillation, NoCompression
from laconic.methods.filter_pruning import FilterPruning
from laconic.methods.fisher_pruning import FisherPruning
from laconic.methods.magnitude import MagnitudePruning
from laconic.methods.mean_activation_pruning import MeanActivationPruning
from laconic.methods.network_trimming import NetworkTrimming
from laconic.methods.random_pruning import RandomPruning
from laconic.methods.score_pruning import ScorePruning
from laconic.methods.sparse_vd import SparseVD
from laconic.methods.taylor_pruning import TaylorPruning
from laconic.methods.vnq import VNQ

__all__ = [
    "VNQ",
    "Compressed",
    "Context",
    "Distillation",
    "Evaluate",
    "FilterPruning",
    "FisherPruning",
    "Judge",
    "MagnitudePruning",
    "MeanActivationPruning",
    "Method",
    "NoCompression",
    "NetworkTrimming",
    "RandomPruning",
    "Score",
    "ScorePruning",
    "SparseVD",
    "Target",
    "TaylorPruning",
]
