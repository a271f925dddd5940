r"""A network whose weights are one random code: means, KLs by block, scales, and what is coded already.

All weights of the code are one matrix, a row for each block, in prior standard deviations:
:math:`w = \rho_t z`, with one learned scale :math:`\rho_t` for each tensor. A row is a draw of its posterior
until its candidate is chosen, and that candidate from then on. The parameters and the state are on the
network's root, so that optimisers, copies and state dicts work as usual. A coded layer's own parameter is
frozen, keeps the value that it came with, and is read as a part of the code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from laconic.bayes.code_layout import CodeLayout
from laconic.bayes.posteriors.mean_kl import mean_kl
from laconic.bayes.posteriors.posterior import Noise, Posterior
from laconic.errors import NotPreparedError

PREFIX = "laconic_code_"
_ATTACHED = "_laconic_code"
Parametrisation = Literal["mean-kl", "mean-std"]

_LEAST_RMS = 0.01  # of a tensor that is all zero, as biases at the start of training
_NO_SHARE = -60.0  # logit of a place that a shorter block does not have
_EDGE = 0.99  # of the way to a posterior without variance, where the tanh no longer learns
INIT_LOG_STD = -8.0
"""Log standard deviation in the prior's unit at the start of "mean-std": released -10 over -2."""


class CodedWeights:
    """The code of a network: what its layers read, and what its method writes.

    Args:
        root: The network; parameters and buffers are registered on it.
        layout: Which weights are in which block.
        kind: How a posterior is parametrised.
        block_nats: KL of a block's posterior, in nats.
    """

    def __init__(self, root: nn.Module, layout: CodeLayout, kind: Parametrisation, block_nats: float) -> None:
        self.root, self.layout, self.kind, self.block_nats = root, layout, kind, block_nats
        self._depth = 0
        self._drawn: Tensor | None = None
        cells = torch.from_numpy(layout.cells())
        for number, part in enumerate(layout.parts):
            entries, signs = layout.entries(part)
            self._keep(f"at_{number}", cells[torch.from_numpy(entries)])
            if signs is not None:
                self._keep(f"sign_{number}", torch.from_numpy(signs))
        shape = (layout.blocks, layout.width)
        lengths = torch.from_numpy(layout.lengths)
        self._keep("absent", torch.arange(layout.width) >= lengths[:, None])
        for name in ("mean", "spread"):
            root.register_parameter(PREFIX + name, nn.Parameter(torch.zeros(shape)))
        root.register_parameter(PREFIX + "log_scale", nn.Parameter(torch.zeros(len(layout.parts))))
        root.register_buffer(PREFIX + "indices", torch.full((layout.blocks,), -1, dtype=torch.int64))
        root.register_buffer(PREFIX + "chosen", torch.zeros(shape))
        root.register_buffer(PREFIX + "scales", torch.zeros(len(layout.parts)))
        root.register_buffer(PREFIX + "weight", torch.zeros(layout.blocks))
        root.register_buffer(PREFIX + "nats", torch.tensor(block_nats))

    def move_to(self, net: nn.Module) -> None:
        """Hold the parameters and buffers on another network, and follow its passes."""
        for name, parameter in self.root.named_parameters(recurse=False):
            net.register_parameter(name, parameter)
        lasting = self.root.state_dict(keep_vars=True)
        for name, buffer in self.root.named_buffers(recurse=False):
            net.register_buffer(name, buffer, persistent=name in lasting)
        self.root = net
        net.__dict__[_ATTACHED] = self
        net.register_forward_pre_hook(self.open)
        net.register_forward_hook(self.close, always_call=True)

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.root.register_buffer(PREFIX + name, tensor, persistent=False)

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer of the code, by its short name."""
        found: Tensor = getattr(self.root, PREFIX + name)
        return found

    # --- one pass -----------------------------------------------------------------------------------

    def open(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook: a pass has one draw."""
        self._depth += 1

    def close(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook, also called when the pass failed."""
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            self._drawn = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_depth": 0, "_drawn": None}

    def draw(self, noise: Noise) -> Tensor:
        """The pass's draw of all weights in prior standard deviations: the matrix of blocks."""
        if self._drawn is not None:
            return self._drawn
        mean, std = self.moments()
        drawn = self._with_chosen(mean + std * noise.like(std))
        if self._depth:
            self._drawn = drawn
        return drawn

    def expected(self) -> Tensor:
        """The means, and the candidates of the blocks that are coded."""
        return self._with_chosen(self.moments()[0])

    def _with_chosen(self, matrix: Tensor) -> Tensor:
        done = self.done
        if done == 0:
            return matrix
        return torch.cat([self.tensor("chosen")[:done], matrix[done:]])

    def part(self, number: int, matrix: Tensor) -> Tensor:
        """One tensor's weights, read from the matrix of blocks, without their scale."""
        found = matrix.reshape(-1).index_select(0, self.tensor(f"at_{number}"))
        if self.layout.parts[number].buckets:
            found = found * self.tensor(f"sign_{number}")
        return found.view(self.layout.parts[number].shape)

    # --- posteriors -----------------------------------------------------------------------------------

    def nats_by_weight(self) -> Tensor:
        """KL of each weight in nats, the matrix of blocks: of "mean-kl" shares of the budget by a softmax."""
        spread = self.tensor("spread")
        if self.kind == "mean-kl":
            shares = spread.masked_fill(self.tensor("absent"), _NO_SHARE).softmax(1)
            return self.tensor("nats") * shares
        mean, std = self.tensor("mean"), spread.exp()
        kl = 0.5 * (std.square() + mean.square() - 1.0) - spread
        return kl.masked_fill(self.tensor("absent"), 0.0)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of all weights, in prior standard deviations: matrices of blocks."""
        if self.kind == "mean-kl":
            return mean_kl(self.tensor("mean"), self.nats_by_weight())
        return self.tensor("mean"), self.tensor("spread").exp()

    def scale(self, number: int) -> Tensor:
        """A tensor's prior standard deviation: learned until the first block is coded, then as stored."""
        if self.frozen:
            return self.tensor("scales")[number]
        return self.tensor("log_scale")[number].exp()

    # --- coding ---------------------------------------------------------------------------------------

    @property
    def done(self) -> int:
        """Blocks that are coded; they are coded in order."""
        return int((self.tensor("indices") >= 0).sum())

    @property
    def frozen(self) -> bool:
        """Whether the scales are those of the file."""
        return bool((self.tensor("scales") > 0).all())

    def rounded_scales(self) -> list[float]:
        """The scales as the file holds them, bfloat16 numbers; once they are frozen, those."""
        if self.frozen:
            return self.tensor("scales").tolist()
        scales = self.tensor("log_scale").detach().exp().clamp(2.0**-60, 2.0**60)
        return scales.to(torch.bfloat16).float().tolist()

    def freeze_scales(self) -> None:
        """Round the scales to what the file holds, and let them stay so."""
        self.tensor("scales").copy_(torch.tensor(self.rounded_scales()))

    def choose(self, block: int, index: int, normals: Tensor) -> None:
        """Fix the next block to a candidate."""
        with torch.no_grad():
            self.tensor("indices")[block] = index
            self.tensor("chosen")[block, : len(normals)] = normals.to(self.tensor("chosen"))


@dataclass(frozen=True, eq=False)
class CodedPosterior(Posterior):
    """One tensor's part of the code of a network, as a posterior of that tensor.

    Args:
        held: The network's own parameter, which is not used.
        code: The code.
        number: The part's.
    """

    weight: ClassVar[str | None] = "held"
    independent: ClassVar[bool] = False
    held: Tensor
    code: CodedWeights
    number: int

    def moments(self) -> tuple[Tensor, Tensor]:
        """Means and variances; a chosen candidate has no variance."""
        code, scale = self.code, self.code.scale(self.number)
        std = code.moments()[1]
        coded = torch.arange(len(std), device=std.device)[:, None] < code.done
        spread = code.part(self.number, std.masked_fill(coded, 0.0))  # tied weights have signs
        return self.expectation(), (scale * spread).square()

    def expectation(self) -> Tensor:
        """Means, and chosen candidates."""
        return self.code.scale(self.number) * self.code.part(self.number, self.code.expected())

    def rsample(self, noise: Noise) -> Tensor:
        """The draw of the present pass."""
        return self.code.scale(self.number) * self.code.part(self.number, self.code.draw(noise))

    def spread(self) -> list[Tensor]:
        """None of its own: the code's parameters are on the network's root."""
        return []

    def hold(self, keep: Tensor) -> None:
        """Nothing: a random code holds no zeros."""


def coded_of(net: nn.Module) -> CodedWeights:
    """The code of a network; raises NotPreparedError for one without."""
    code = net.__dict__.get(_ATTACHED)
    if not isinstance(code, CodedWeights):
        raise NotPreparedError(f"{type(net).__name__} has no random code. Cure: laconic.prepare with MIRACLE")
    return code


def start_from(code: CodedWeights, weights: dict[str, Tensor]) -> None:
    r"""Set means, KLs and scales: posteriors as near to these weights as the budget lets.

    Tied entries start from their signed mean, scaled to the tensor's root mean square. The scale is such that
    posteriors of one variance v = :math:`e^{-2\bar\kappa}` around the weights, :math:`\bar\kappa` being the
    mean KL of a weight, have the prior's second moment; a weight's share of its block is then
    :math:`\frac12(m^2 + v - 1 - \log v)`.
    """
    layout, nats = code.layout, float(code.tensor("nats"))
    variance = math.exp(-2.0 * nats * layout.blocks / layout.size) if code.kind == "mean-kl" else 0.5
    matrix = torch.zeros(layout.blocks * layout.width)
    with torch.no_grad():
        for number, part in enumerate(layout.parts):
            own = weights[part.name].detach().float().cpu().reshape(-1)
            rms = max(float(own.square().mean().sqrt()), _LEAST_RMS)
            at = code.tensor(f"at_{number}")
            if part.buckets:
                sums = torch.zeros_like(matrix).index_add_(0, at, own * code.tensor(f"sign_{number}"))
                counts = torch.zeros_like(matrix).index_add_(0, at, torch.ones_like(own))
                tied = (sums / counts.clamp_min(1.0))[at]
                own = tied * (rms / tied.square().mean().sqrt().clamp_min(1e-12))
            scale = rms / math.sqrt(max(1.0 - variance, 1e-3))
            code.tensor("log_scale")[number] = math.log(scale)
            matrix[at] = own / scale
        _set_posteriors(code, matrix.view(layout.blocks, layout.width), variance)


def _set_posteriors(code: CodedWeights, means: Tensor, variance: float) -> None:
    if code.kind == "mean-std":
        code.tensor("mean").copy_(means)
        code.tensor("spread").fill_(INIT_LOG_STD)
        return
    wanted = 0.5 * (means.square() + variance - 1.0 - math.log(variance))
    code.tensor("spread").copy_(wanted.clamp_min(1e-6).log())
    most = (2.0 * code.nats_by_weight()).sqrt().clamp_min(1e-6)
    code.tensor("mean").copy_(torch.atanh((means / most).clamp(-_EDGE, _EDGE)))
