"""Other tools that store a sentence encoder in fewer bits; each is imported only where it is asked for."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from minilm import DYNAMIC, MiniLM
from torch import Tensor, nn

Embed = Callable[[Tensor, Tensor], Tensor]


class Missing(Exception):
    """A tool that cannot be imported, or that does not do this on this machine."""


class Peer(NamedTuple):
    """A tool with its settings: called with the encoder and a folder, gives bytes and the embeddings."""

    name: str
    make: Callable[[MiniLM, Path], tuple[int, Embed]]

    def __call__(self, original: MiniLM, folder: Path) -> tuple[int, Embed]:
        """Bytes of the file that the tool writes, and what runs it."""
        return self.make(original, folder)


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"{error}. pip install {name.partition('.')[0]}") from error


def _saved(network: nn.Module, folder: Path) -> tuple[int, Embed]:
    """Bytes of the state dict as PyTorch writes it."""
    path = folder / "state.pt"
    torch.save(network.state_dict(), path)

    def embed(ids: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = network(ids, mask)
        return found

    return path.stat().st_size, embed


def _torchao(config: str, table: bool, original: MiniLM, folder: Path) -> tuple[int, Embed]:
    """Weights of linear layers, and of the table of words."""
    api, granularity = _needed("torchao.quantization"), _needed("torchao.quantization.granularity")
    network = copy.deepcopy(original)
    if config == "int8":
        chosen = api.Int8WeightOnlyConfig()
    else:
        chosen = api.IntxWeightOnlyConfig(
            weight_dtype=getattr(torch, config), granularity=granularity.PerGroup(64)
        )
    api.quantize_(
        network, chosen, filter_fn=lambda m, name: isinstance(m, nn.Linear) or (table and name == "words")
    )
    return _saved(network, folder)


def _hqq(bits: int, original: MiniLM, folder: Path) -> tuple[int, Embed]:
    """Linear layers; tables stay as they are."""
    core = _needed("hqq.core.quantize")
    network = copy.deepcopy(original)
    config = core.BaseQuantizeConfig(nbits=bits, group_size=64)
    for block in network.blocks:
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.Linear):
                new = core.HQQLinear(layer, config, compute_dtype=torch.float32, device="cpu")
                setattr(block, name, new)
    return _saved(network, folder)


def _onnx(folder: Path, original: MiniLM) -> Path:
    """The encoder as PyTorch's exporter writes it."""
    _needed("onnxscript")
    path = folder / "original.onnx"
    ids = torch.randint(1000, 2000, (2, 9))
    names = ["ids", "mask"]
    torch.onnx.export(
        original,
        (ids, torch.ones_like(ids)),
        path,
        input_names=names,
        dynamic_shapes=DYNAMIC,
        dynamo=True,
        external_data=False,
    )
    return path


def _session(path: Path) -> tuple[int, Embed]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def embed(ids: Tensor, mask: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"ids": ids.numpy(), "mask": mask.numpy()})[0])

    return path.stat().st_size, embed


def _dynamic_int8(operators: tuple[str, ...], original: MiniLM, folder: Path) -> tuple[int, Embed]:
    """ONNX Runtime's dynamic quantisation: weights of products, and tables (Gather)."""
    quantization = _needed("onnxruntime.quantization")
    path = folder / "int8.onnx"
    quantization.quantize_dynamic(
        str(_onnx(folder, original)), str(path), op_types_to_quantize=list(operators), per_channel=True
    )
    return _session(path)


def _four_bits(operators: tuple[str, ...], original: MiniLM, folder: Path) -> tuple[int, Embed]:
    """ONNX Runtime's MatMulNBits, blocks of 32."""
    import onnx

    tool = _needed("onnxruntime.quantization.matmul_nbits_quantizer")
    model = onnx.load(str(_onnx(folder, original)))
    config = tool.DefaultWeightOnlyQuantConfig(
        block_size=32, is_symmetric=False, bits=4, op_types_to_quantize=operators
    )
    quantizer = tool.MatMulNBitsQuantizer(model, algo_config=config)
    quantizer.process()
    path = folder / "four.onnx"
    quantizer.model.save_model_to_file(str(path))
    return _session(path)


PEERS = (
    Peer("torchao int8", partial(_torchao, "int8", False)),
    Peer("torchao int4, groups of 64", partial(_torchao, "int4", False)),
    Peer("torchao int4, groups of 64, the table too", partial(_torchao, "int4", True)),
    Peer("ONNX Runtime dynamic int8", partial(_dynamic_int8, ("MatMul",))),
    Peer("ONNX Runtime dynamic int8, tables too", partial(_dynamic_int8, ("MatMul", "Gather"))),
    Peer("ONNX Runtime 4 bits", partial(_four_bits, ("MatMul",))),
    Peer("ONNX Runtime 4 bits, tables too", partial(_four_bits, ("MatMul", "Gather"))),
    *(Peer(f"HQQ {bits} bits", partial(_hqq, bits)) for bits in (4, 3, 2)),
)
