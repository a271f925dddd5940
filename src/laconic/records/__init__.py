"""Frozen records that the rooms hand to each other (no torch, no behaviour beyond arithmetic).

``WeightStats`` carries a posterior to a decision; grids and tensors carry a decision to the file; ``Graph``
carries a network's arithmetic; ``PackedModel`` is everything a .lac file says; ``NetworkFacts`` what it comes
to at one input shape; ``RunRecord`` is what a run did.
"""

from laconic.records.base import AnyArray, Attr, FloatArray, IntArray, Record, record
from laconic.records.facts import NetworkFacts, OpFacts, TensorFacts, ValueFacts
from laconic.records.generated import HashedTensor, ProductTensor, RandomCodeTensor
from laconic.records.graph import (
    BATCH,
    ActivationRange,
    Graph,
    Node,
    PackedModel,
    ValueSpec,
    default_name,
    tensor_index,
    tensor_ref,
)
from laconic.records.grids import Affine, Codebook, Grid, UniformGrid
from laconic.records.plans import KeepPlan, WeightStats
from laconic.records.runs import LayerRecord, RunRecord, SectionRow
from laconic.records.tensors import Coded, IntTensor, Multiples, RawTensor, Tensor

__all__ = [
    "BATCH",
    "ActivationRange",
    "Affine",
    "AnyArray",
    "Attr",
    "Codebook",
    "Coded",
    "FloatArray",
    "Graph",
    "Grid",
    "HashedTensor",
    "IntArray",
    "IntTensor",
    "KeepPlan",
    "LayerRecord",
    "Multiples",
    "NetworkFacts",
    "Node",
    "OpFacts",
    "PackedModel",
    "ProductTensor",
    "RandomCodeTensor",
    "RawTensor",
    "Record",
    "RunRecord",
    "SectionRow",
    "Tensor",
    "TensorFacts",
    "UniformGrid",
    "ValueFacts",
    "ValueSpec",
    "WeightStats",
    "default_name",
    "record",
    "tensor_index",
    "tensor_ref",
]
