"""One published method per file: a frozen configuration, its stages, its paper.

What a method of one's own needs stands here, too: gates, grids, codebooks, and what to do with the rest.
"""

from laconic.methods.bayesian_compression import BayesianCompression
from laconic.methods.common.grid_choice import GridChoice, choose_grid, finish, quantize_rest
from laconic.methods.common.point import on_a_grid, point_stats
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.common.unit_choice import UnitChoice
from laconic.methods.contract import Compressed, Context, Evaluate, Judge, Method, Score, Target
from laconic.methods.distillation import Distillation, NoCompression
from laconic.methods.filter_pruning import FilterPruning
from laconic.methods.fisher_pruning import FisherPruning
from laconic.methods.gating import attach_gates, fold_gates, gates_of, gates_plan
from laconic.methods.improved_bayesian_compression import ImprovedBayesianCompression
from laconic.methods.input_ard import InputARD
from laconic.methods.l0 import L0
from laconic.methods.layerwise.refining import Refine
from laconic.methods.magnitude import MagnitudePruning
from laconic.methods.mc_dropout import MCDropout
from laconic.methods.mean_activation_pruning import MeanActivationPruning
from laconic.methods.mean_field import MeanField
from laconic.methods.miracle import MIRACLE
from laconic.methods.network_trimming import NetworkTrimming
from laconic.methods.post_training import PostTraining
from laconic.methods.random_pruning import RandomPruning
from laconic.methods.score_pruning import ScorePruning
from laconic.methods.soft_weight_sharing import SoftWeightSharing
from laconic.methods.sparse_vd import SparseVD
from laconic.methods.structured_bayesian_pruning import StructuredBayesianPruning
from laconic.methods.taylor_pruning import TaylorPruning
from laconic.methods.variational_dropout import VariationalDropout
from laconic.methods.vnq import VNQ
from laconic.quantize.codebook import even_levels, nearest_level, on_levels

__all__ = [
    "L0",
    "MIRACLE",
    "MCDropout",
    "VNQ",
    "BayesianCompression",
    "Compressed",
    "Context",
    "Distillation",
    "Evaluate",
    "FilterPruning",
    "FisherPruning",
    "GridChoice",
    "ImprovedBayesianCompression",
    "InputARD",
    "Judge",
    "MagnitudePruning",
    "MeanField",
    "MeanActivationPruning",
    "Method",
    "NoCompression",
    "NetworkTrimming",
    "PostTraining",
    "RandomPruning",
    "Refine",
    "Score",
    "ScorePruning",
    "SoftWeightSharing",
    "SparseVD",
    "StructuredBayesianPruning",
    "Target",
    "TaylorPruning",
    "UnitChoice",
    "VariationalDropout",
    "attach_gates",
    "choose_grid",
    "even_levels",
    "finish",
    "fold_gates",
    "gates_of",
    "gates_plan",
    "nearest_level",
    "nonzeros",
    "on_a_grid",
    "on_levels",
    "point_stats",
    "quantize_rest",
    "rest_of",
]
