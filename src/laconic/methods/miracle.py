r"""MIRACLE: minimal random code learning (Havasi, Peharz and Hernandez-Lobato, ICLR 2019, arXiv 1810.00440).

Posterior: a Gaussian for each weight; prior: :math:`N(0, \rho^2)` with one learned scale for each tensor. All
weights, biases too, are divided at random into blocks, and a block's KL is held at the bits of its index. By
default it is so by construction, in the Mean-KL parametrisation (Lin, Flamich and Hernandez-Lobato 2023,
arXiv 2307.07816): a softmax shares a block's budget among its weights. With ``parametrisation="mean-std"``
each block's KL has a weight of its own that rises while the KL is above the budget and falls while it is
below (the paper's section 3.3).

Decision (algorithm 2): the scales are rounded to what the file holds and stay so; then block after block is
coded as the index of one of :math:`2^{bits}` shared random candidates, and the rest is trained on before the
next block is. The file holds the seed, the scales and the indices. Weights of large tensors are tied by a
hash, with signs, before anything else (the paper's section 3.3; Chen et al. 2015).

Unlike the released code the scales are frozen before the first block, and they count in the budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from laconic.bayes.code_layout import CodeLayout, parts_of
from laconic.bayes.coded import PREFIX, CodedPosterior, CodedWeights, Parametrisation, coded_of, start_from
from laconic.bayes.posteriors import Posterior
from laconic.bayes.prepare import deterministic_of, make_bayesian, plain_copy
from laconic.errors import InputError
from laconic.methods.common.grid_choice import check_bits, finish, load_values, on_grid, quantize_rest
from laconic.methods.common.levels import posterior_bits_facts
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.common.tying import buckets_of, check_tied
from laconic.methods.contract import Compressed, Context, Judge, Method
from laconic.methods.norm_statistics import estimate_norm_statistics
from laconic.methods.registry import MethodEntry
from laconic.networks.policy import Policy, is_bias, weights_of
from laconic.quantize.random_coding import (
    Choice,
    block_normals,
    candidate_scores,
    check_index_bits,
    choose_index,
)
from laconic.records import IntArray, SharedCode, SharedCodeTensor, Tensor, WeightStats

SCALE_BITS = 16
"""Bits of a tensor's scale: a bfloat16 number."""
DEFAULT_RATE, DEFAULT_LEAST = 1 / 16, 8192
"""Bits of the code for each weight of the network where no budget is given: the paper's are 0.03 to 0.06. And
how many bits there are at least, as long as that is one for each weight at most: a small network needs more.
"""
FROZEN_STEP = 0.5  # frozen weights go on a uniform grid, in the deviations that stand in for a posterior's


def default_bits(weights: int) -> int:
    """The budget of a network of so many weights where none is given, in bits.

    >>> default_bits(5_000), default_bits(50_000), default_bits(430_500)
    (5000, 8192, 26906)
    """
    return max(1, round(DEFAULT_RATE * weights), min(weights, DEFAULT_LEAST))


@dataclass(frozen=True)
class MIRACLE(Method):
    """Minimal random code learning, with the Mean-KL parametrisation.

    Args:
        bits: Budget of the code: the indices of all blocks and 16 bits for each tensor's scale (None:
            :func:`default_bits`). The rest of the file (graph, names, batch norm) is beside it.
        block_bits: Bits of an index; coding a block takes 2^block_bits candidates.
        slack_bits: Bits by which a block's KL is below its index: the candidates are e^t times as many as
            its KL asks for (t = slack_bits * log 2 of the paper's theorem 3.2), so that the bias is smaller.
        tied: Tensors whose entries share weights, and how many entries share one: "fc1.weight=64". Names may
            be patterns or layers. None given: the largest tensors are tied alike, see ``bits_per_weight``.
        bits_per_weight: Where ``tied`` is empty: no tensor has more weights of its own than leave the code so
            many bits for each weight (0: nothing is tied).
        parametrisation: "mean-kl" (Lin et al. 2023), or "mean-std", as released.
        first_budget: A block's KL at the start of training as a multiple of the final one; it falls
            geometrically until coding begins. 1: none, as published.
        code_from: Share of training after which the first block is coded.
        code_to: Share of training by which the last block is.
        epochs: Length of training in epochs, where the context does not know its total steps.
        choice: "draw" draws the index with the importance weights, as published; "best" takes the candidate
            of the largest one.
        mean_lr: Learning rate of the means as a multiple of that of what is not coded. Means are in prior
            standard deviations, of which a weight is a small multiple.
        spread_lr: The same of a block's shares (of log deviations).
        scale_lr: The same of the log scales.
        beta: "mean-std": weight of a block's KL at the start, of the mean likelihood as released.
        beta_step: "mean-std": by which share that weight rises or falls in a step.
        regrow: Whether weights that an earlier stage set to zero may take other values: a code holds no
            zeros.
        bias_bits: Widths in bits tried for what is not coded: normalisation's scales and the like.

    Raises:
        InputError: A setting outside its bounds; when it is prepared, a budget that cannot hold one block.

    >>> import laconic
    >>> net = laconic.prepare(nn.Linear(8, 4), MIRACLE(bits=80, block_bits=8), torch.zeros(1, 8), data_size=9)
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # it was not trained, so that all blocks are coded at once
    ...     small = laconic.convert(net)
    >>> small.facts["blocks"], small.facts["code_bits"], sorted(small.tensors)
    (6, 80, ['bias', 'weight'])
    """

    bits: int | None = None
    block_bits: int = 16
    slack_bits: float = 0.0
    tied: tuple[str, ...] = ()
    bits_per_weight: float = 0.5
    parametrisation: Parametrisation = "mean-kl"
    first_budget: float = 1.0
    code_from: float = 0.5
    code_to: float = 0.98
    epochs: float = 10.0
    choice: Choice = "draw"
    mean_lr: float = 20.0
    spread_lr: float = 20.0
    scale_lr: float = 20.0
    beta: float = 1e-8
    beta_step: float = 5e-5
    regrow: bool = False
    bias_bits: tuple[int, ...] = (4, 5, 6, 7, 8, 10)

    gentler = "higher bits"
    smaller = "lower bits"
    deciding = "coding the blocks that are left"

    def __post_init__(self) -> None:
        check_index_bits(self.block_bits)
        _check_bounds(self)
        check_tied(self.tied)
        check_bits(self.bias_bits)

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """Posteriors on all weights and biases, as near to the present weights as the budget lets."""
        self._check_zeros(context)
        policy = _with_biases(model, context.policy)
        weights = weights_of(model, policy=policy)
        shapes = {name: tuple(p.shape) for name, p in weights.items()}
        layout = self._layout(shapes, context.noise.seed)
        nats = (self.block_bits - self.slack_bits) * math.log(2.0)
        code = CodedWeights(nn.Module(), layout, self.parametrisation, nats)
        code.tensor("nats").fill_(nats * self.first_budget)
        code.tensor("weight").fill_(self.beta)
        start_from(code, dict(weights))
        numbers = {part.name: number for number, part in enumerate(layout.parts)}

        def family(name: str, weight: nn.Parameter) -> Posterior:
            return CodedPosterior(weight, code, numbers[name])

        net = make_bayesian(
            model, example=example, posterior=family, noise=context.noise, policy=policy, sampling="weights"
        )
        parameters = dict(net.named_parameters())
        for name in numbers:
            parameters[name].requires_grad_(False)
        code.move_to(net)
        return net

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """Nothing in "mean-kl"; in "mean-std" ``N * sum of beta_b KL_b`` over blocks not yet coded, nats."""
        code = coded_of(module)
        if self.parametrisation == "mean-kl":
            return code.tensor("mean").new_zeros(())
        done = code.done
        weighted = (code.nats_by_weight().sum(1) * code.tensor("weight"))[done:].sum()
        return context.data_size * weighted

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """What is not coded at ``lr``; means, shares and scales at their multiples, never decayed."""
        code = coded_of(module)
        ratios = {"mean": self.mean_lr, "spread": self.spread_lr, "log_scale": self.scale_lr}
        own = {name: code.tensor(name) for name in ratios}
        taken = {id(p) for p in own.values()}
        rest = [p for p in deterministic_of(module).values() if id(p) not in taken]
        coded = [{"params": [p], "lr": lr * ratios[name], "weight_decay": 0.0} for name, p in own.items()]
        return [{"params": rest, "lr": lr}, *coded] if rest else coded

    def step(self, module: nn.Module, context: Context) -> None:
        """Move the budget or the KLs' weights, and code the blocks whose turn has come."""
        code, progress = coded_of(module), context.progress(self.epochs)
        if self.parametrisation == "mean-kl":
            left = max(0.0, 1.0 - progress / max(self.code_from, 1e-9))
            code.tensor("nats").fill_(code.block_nats * self.first_budget**left)
        else:
            with torch.no_grad():
                above = code.nats_by_weight().sum(1) > code.block_nats
                factor = torch.where(above, 1.0 + self.beta_step, 1.0 / (1.0 + self.beta_step))
                code.tensor("weight").mul_(factor)
        wanted = self._blocks_by(progress, code.layout.blocks)
        if wanted > code.done:
            if not code.frozen:
                code.freeze_scales()
            for block, index, normals in self._coded(code, code.done, wanted):
                code.choose(block, index, torch.from_numpy(normals))

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """Blocks that no step was trained after."""
        progress = context.progress(self.epochs)
        if progress >= self.code_to - 1e-9:
            return ()
        begun = max(0.0, progress - self.code_from) / (self.code_to - self.code_from)
        return (
            (
                f"training ends when {100 * begun:.0f} % of the blocks are coded: the others are coded at "
                "once, and nothing is trained after them. Cure: train to the end of the schedule, a smaller "
                "epochs or code_to, or total_steps in laconic.prepare"
            ),
        )

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Code the blocks that are left; what is not coded goes on a uniform grid."""
        policy = context.policy
        told = posterior_bits_facts(_stats_before_coding(module, policy))
        coded, facts = self._tensors(coded_of(module))
        weights: dict[str, Tensor] = {n: t for n, t in coded.items() if not policy.keeps(n)}
        plain = plain_copy(module)
        others = {n: p for n, p in deterministic_of(module).items() if not n.startswith(PREFIX)}
        rest = rest_of(module, others, policy)
        held = nonzeros(rest.frozen)
        weights |= {n: on_grid(s, held[n], FROZEN_STEP, 0.0) for n, s in rest.frozen.items()}
        load_values(plain, {n: torch.from_numpy(t.values()) for n, t in weights.items()})
        looked = estimate_norm_statistics(plain, context)
        plain, tensors, more = quantize_rest(plain, weights, rest.beside, self.bias_bits, judge)
        facts |= {**(more if rest.beside else {}), **({"norm_batches": looked} if looked else {})}
        return finish(plain, tensors, {**facts, **told}, judge)

    # --- the code -------------------------------------------------------------------------------------

    def _layout(self, shapes: Mapping[str, tuple[int, ...]], seed: int) -> CodeLayout:
        """Ties and blocks within the budget; refuses one that cannot hold a block."""
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        scales = SCALE_BITS * len(sizes)
        budget = default_bits(sum(sizes.values())) if self.bits is None else self.bits
        blocks = (budget - scales) // self.block_bits
        if blocks < 1:
            raise InputError(
                f"bits={budget} holds no block: {len(sizes)} scales take {scales} bits, and a block "
                f"{self.block_bits}. Cure: bits={scales + self.block_bits} at least, fewer bits of a block "
                "(block_bits), or fewer tensors (keep)"
            )
        index_bits = blocks * self.block_bits
        parts = parts_of(shapes, buckets_of(sizes, self.tied, index_bits, self.bits_per_weight))
        return CodeLayout(seed, parts, min(blocks, sum(part.count for part in parts)))

    def _blocks_by(self, progress: float, blocks: int) -> int:
        """How many blocks are coded at a point of training."""
        if progress < self.code_from:
            return 0
        share = (progress - self.code_from) / (self.code_to - self.code_from)
        return min(blocks, math.ceil(blocks * share - 1e-9))

    def _coded(self, code: CodedWeights, first: int, last: int) -> list[tuple[int, int, Any]]:
        """Number, index and candidate of some blocks, from their posteriors as they are."""
        layout, found = code.layout, []
        with torch.no_grad():
            mean, std = (t.detach().cpu().float().numpy() for t in code.moments())
        for block in range(first, last):
            size = int(layout.lengths[block])
            own = mean[block, :size], std[block, :size]
            scores = candidate_scores(layout.seed, block, self.block_bits, *own)
            index = choose_index(scores, self.choice, np.random.default_rng((layout.seed, block)))
            found.append((block, index, block_normals(layout.seed, block, index, size)))
        return found

    def _tensors(self, code: CodedWeights) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The coded tensors, and facts of the code; the network stays as it is."""
        layout, indices = code.layout, code.tensor("indices").cpu().numpy().astype(np.int32)
        scales = code.rounded_scales()
        for block, index, _ in self._coded(code, code.done, layout.blocks):
            indices[block] = index
        shared = SharedCode(layout.seed, layout.size, self.block_bits, indices)
        tensors: dict[str, Tensor] = {
            part.name: SharedCodeTensor(part.name, part.shape, shared, part.first, part.buckets, scale)
            for part, scale in zip(layout.parts, scales, strict=True)
        }
        return tensors, {"method": "miracle", **_facts(layout, self.block_bits, indices)}

    def _check_zeros(self, context: Context) -> None:
        """Refuse zeros of an earlier stage, which a code cannot hold."""
        name = next(iter(context.removed), None)
        if name is not None and not self.regrow:
            raise InputError(
                f"the stage before has removed weights of {name!r}, and a random code holds no zeros. Cure: "
                "regrow=True, so that they are weights again; a stage that removes units; or this stage alone"
            )


def _stats_before_coding(module: nn.Module, policy: Policy) -> dict[str, WeightStats]:
    """Moments of the posteriors that the blocks were drawn from, by tensor; a drawn block has no variance."""
    code, found = coded_of(module), {}
    with torch.no_grad():
        matrices = code.moments()
        for number, part in enumerate(code.layout.parts):
            if policy.keeps(part.name):
                continue
            mean, std = (code.scale(number) * code.part(number, m) for m in matrices)
            arrays = (np.asarray(t.cpu(), np.float32) for t in (mean, std.square()))
            found[part.name] = WeightStats(part.name, *arrays)
    return found


def _facts(layout: CodeLayout, block_bits: int, indices: IntArray) -> dict[str, Any]:
    scales = SCALE_BITS * len(layout.parts)
    return {
        "blocks": layout.blocks,
        "block_bits": block_bits,
        "code_bits": len(indices) * block_bits + scales,
        "coded_weights": layout.size,
        "code_seed": layout.seed,
        "tied": {part.name: part.buckets for part in layout.parts if part.buckets},
    }


def _with_biases(model: nn.Module, policy: Policy) -> Policy:
    """The policy under which biases are weights, too: a code holds them as cheaply."""
    biases = (n for n, p in model.named_parameters() if is_bias(n) and p.requires_grad)
    return replace(policy, weights=(*policy.weights, *(n for n in biases if not policy.keeps(n))))


def _check_bounds(method: MIRACLE) -> None:
    if method.bits is not None and method.bits < 1:
        raise InputError(f"bits must be positive or None, got {method.bits}. Cure: bits=12_000")
    if not 0 <= method.slack_bits < method.block_bits:
        raise InputError(
            f"slack_bits must be in [0, block_bits = {method.block_bits}), got {method.slack_bits}. Cure: 0"
        )
    if not 0 <= method.code_from < method.code_to <= 1:
        raise InputError(
            f"need 0 <= code_from < code_to <= 1, got {method.code_from} and {method.code_to}. "
            "Cure: code_from=0.5, code_to=0.98"
        )
    for name in ("first_budget", "epochs", "mean_lr", "spread_lr", "scale_lr", "beta", "beta_step"):
        if not 0 < getattr(method, name) < math.inf:
            raise InputError(
                f"{name} must be positive, got {getattr(method, name)}"
                f". Cure: {name}={type(method).__dataclass_fields__[name].default}"
            )
    if method.first_budget < 1:
        raise InputError(f"first_budget must be at least 1, got {method.first_budget}. Cure: 1")
    if not 0 <= method.bits_per_weight < math.inf:
        raise InputError(f"bits_per_weight must be >= 0, got {method.bits_per_weight}. Cure: 0.5")
    for name, known in (("parametrisation", ("mean-kl", "mean-std")), ("choice", ("draw", "best"))):
        if getattr(method, name) not in known:
            raise InputError(
                f"{name} must be one of {', '.join(known)}, got {getattr(method, name)!r}"
                f". Cure: {name}='{known[0]}'"
            )


# Files of LeNet-5 of 3.03 kB and of LeNet-300-100 of 8.6 kB (with ``bits=11_840`` LeNet-5 takes 1.6 kB): the
# code's bits, and about 119 and 93 bytes of graph, names and headers. LeNet-5's ties are the paper's
# (section 4).
_FULL = {"first_budget": 4.0, "fit.schedule.flat": 0.97}
_LENET5 = {
    **_FULL,
    "bits": 23_280,
    "block_bits": 20,
    "tied": ["conv2.weight=2", "fc1.weight=64"],
    "code_from": 0.6,
}
_LENET300 = {**_FULL, "bits": 68_000, "bits_per_weight": 2.0}
_DEMO = {"reference.epochs": 2, "code_to": 0.95, "fit.schedule.flat": 0.9}

METHOD = MethodEntry(
    "miracle",
    MIRACLE,
    presets={
        "full": {
            "lenet5": {**_LENET5, "fit.epochs": 150},
            "lenet300": {**_LENET300, "fit.epochs": 200},
            "": {**_FULL, "fit.epochs": 100},
        },
        "demo": {
            "lenet5": {**_LENET5, **_DEMO, "block_bits": 16, "fit.epochs": 6},
            "lenet300": {**_LENET300, **_DEMO, "block_bits": 14, "fit.epochs": 6},
            "": {**_FULL, "fit.epochs": 20},
        },
    },
    paper="Havasi, Peharz & Hernandez-Lobato, Minimal Random Code Learning (MIRACLE), ICLR 2019",
)
