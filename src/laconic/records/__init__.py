"""Frozen records that the packages exchange (no torch, no behaviour beyond arithmetic).

``WeightStats`` holds a posterior's moments; grids and tensors hold quantised weights; ``Graph`` a network's
arithmetic; ``PackedModel`` the content of a .lac file; ``NetworkFacts`` its shapes, types and operations at
one input shape; ``RunRecord`` the settings and results of a run.
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
from laconic.records.shared_codes import SharedCode, SharedCodeTensor
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
    "SharedCode",
    "SharedCodeTensor",
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
