r"""Variational network quantisation (Achterhold, Koehler, Schmeink & Genewein, ICLR 2018).

Posterior: :math:`q(w) = N(\theta, \sigma^2)` by weight. Prior (eq. 11-12): a spike at each level of a
codebook, :math:`p(w) \propto \sum_k 1/|w - c_k|`, the levels scaled by one learned number per tensor.
Decision (section 4): weights with :math:`\log\sigma^2 - \log\theta^2` over a threshold become zero, every
other one takes its likeliest level, which is the nearest to its mean; no weight is fine-tuned afterwards, and
first and last layers are treated alike (``exempt_first`` leaves the first one out, as the paper's table 2).
Where the training batches are at hand, batch norm's running statistics are averaged anew under the quantised
weights, and stay if validation prefers them (:mod:`laconic.methods.common.norms`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Literal, get_args

import torch
from torch import nn

from laconic.bayes.kl import kl_total
from laconic.bayes.layers import Sampling, local_layers
from laconic.bayes.objective import check_kl_weight
from laconic.bayes.posteriors import Gaussian, GaussianFamily
from laconic.bayes.prepare import deterministic_of, make_bayesian, plain_copy, posteriors_of, spread_of
from laconic.bayes.priors import Spikes
from laconic.errors import InputError
from laconic.methods.common.grid_choice import check_bits, finish, load_values, on_grid, quantize_rest
from laconic.methods.common.levels import likeliest_levels, posterior_bits_facts
from laconic.methods.common.norms import better_norms
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.contract import Compressed, Context, Judge, Method, Score, Target, warm_up_left
from laconic.methods.learned_codebooks import (
    Learned,
    attach_codebooks,
    check_learned,
    check_levels,
    check_scales,
    codebooks_of,
    fitted_scale,
    hold_codebooks,
    is_codebook,
    is_finite,
    random_start,
    stored_levels,
)
from laconic.methods.norm_statistics import estimate_norm_statistics
from laconic.methods.registry import MethodEntry
from laconic.networks import duplicate
from laconic.networks.policy import Policy, weights_of
from laconic.quantize.codebook import even_levels, on_levels
from laconic.quantize.uniform import bfloat16
from laconic.records import IntTensor
from laconic.schedules import WarmUp
from laconic.sparsify.selection.threshold import check_threshold, keep_below

Start = Literal["given", "random"]
Books = Mapping[str, tuple[float, ...]]

_EXEMPT = "_laconic_exempt"

# Edge of a spike's outer funnel in posterior standard deviations: e^{-1.5}, where the shifted log alpha is 3.
FUNNEL = 0.223

# Frozen weights were not drawn to the codebook: they go on a uniform grid, with this step in the deviations
# that stand in for a posterior's.
FROZEN_STEP = 0.5


@dataclass(frozen=True)
class VNQ(Method):
    """Variational network quantisation with the published defaults; ternary by default.

    Args:
        levels: The codebook in units of its scale, rising (``ternary``, ``binary_plus_zero`` and
            ``evenly`` make the usual ones).
        learned: What is learned of a codebook: its ``scale``, as published; each of its ``levels``, but a
            level zero stays there (a step then takes longer, and the gradient takes the windows of eq. 16
            as constants); or ``nothing``.
        shared: Whether all tensors share one codebook.
        exempt_first: Whether the network's first weight tensor stays in full precision.
        initialisation: ``given``: from the weights that the network has, usually trained ones; ``random``:
            these are forgotten, and drawn anew (Glorot and Bengio 2010).
        init_scale: Scale at the start, in the weights' unit (None: of each tensor, the one at which its
            weights are nearest to the levels).
        min_scale: Lower bound of the scale (without an ``init_scale`` as a share of the start), so that
            levels do not fall together; learned levels stay as far apart as they are at this scale.
        codebook_lr: Learning rate of the codebooks as a multiple of the weights'.
        threshold: log alpha at which a weight becomes zero (None: only the nearest level decides).
        tried_thresholds: Further thresholds. Of those whose validation metric is at most ``max_drop`` worse
            than that of ``threshold``, ``convert`` takes the one with the best validation likelihood (the
            lower on a tie).
        max_drop: In the metric's unit (None: half of what the metric tolerates).
        price: Nats of log-likelihood that a weight gives for one nat of rate when it takes a level.
        kl_weight: Multiple of the KL (1 is the ELBO).
        warm_up: Epochs between which the KL's factor rises from 0 to 1.
        init_log_var: log sigma^2 at the start.
        noise_lr: Learning rate of log sigma^2 as a multiple of the means'.
        log_var_bounds: What log sigma^2 is clipped to after each step.
        bias_bits: Widths in bits tried for biases, narrowest first.
        sampling: As in :class:`SparseVD`.

    Raises:
        InputError: A setting outside its bounds.

    >>> VNQ.evenly(5).levels
    (-1.0, -0.5, 0.0, 0.5, 1.0)
    """

    levels: tuple[float, ...] = (-1.0, 0.0, 1.0)
    learned: Learned = "scale"
    shared: bool = False
    exempt_first: bool = False
    initialisation: Start = "given"
    init_scale: float | None = 0.2
    min_scale: float = 0.05
    codebook_lr: float = 0.01
    threshold: float | None = 3.0
    tried_thresholds: tuple[float, ...] = ()
    max_drop: float | None = None
    price: float = 0.0
    kl_weight: float = 1.0
    warm_up: WarmUp = field(default_factory=lambda: WarmUp(5.0, 20.0))
    init_log_var: float = -8.0
    noise_lr: float = 1.0
    log_var_bounds: tuple[float, float] = (-10.0, 1.0)
    bias_bits: tuple[int, ...] = (4, 5, 6, 7, 8, 10)
    sampling: Sampling = "local"

    in_nats = True
    gentler = "lower kl_weight"
    smaller = "smaller number of levels"  # the KL moves weights to the levels: it saves no bytes

    def __post_init__(self) -> None:
        if isinstance(self.levels, list):
            object.__setattr__(self, "levels", tuple(self.levels))
        check_learned(self.learned)
        check_levels(self.levels, self.learned)
        check_scales(self.init_scale, self.min_scale)
        rates = is_finite(self.noise_lr) and is_finite(self.codebook_lr)
        if not (rates and self.noise_lr > 0 and self.codebook_lr >= 0):
            raise InputError(
                f"need finite noise_lr > 0 and codebook_lr >= 0, got {self.noise_lr}, {self.codebook_lr}"
                ". Cure: noise_lr=10, codebook_lr=1"
            )
        if not self.log_var_bounds[0] < self.init_log_var < self.log_var_bounds[1]:
            raise InputError(
                f"init_log_var must lie inside log_var_bounds, got {self.init_log_var}, {self.log_var_bounds}"
                ". Cure: init_log_var=-8, or wider log_var_bounds"
            )
        if self.initialisation not in get_args(Start) or not 0 <= self.price < math.inf:
            raise InputError(
                f"need initialisation in {', '.join(get_args(Start))} and price >= 0, got "
                f"{self.initialisation!r} and {self.price}. Cure: initialisation=given, price=0"
            )
        for threshold in (*self.tried_thresholds, *(() if self.threshold is None else (self.threshold,))):
            check_threshold(threshold)
        check_bits(self.bias_bits)
        local_layers(self.sampling)

    @classmethod
    def ternary(cls, **settings: Any) -> VNQ:
        """Levels -a, 0, a: the paper's codebook."""
        return cls(levels=(-1.0, 0.0, 1.0), **settings)

    @classmethod
    def binary_plus_zero(cls, **settings: Any) -> VNQ:
        """Levels 0 and a: one bit a weight."""
        return cls(levels=(0.0, 1.0), **settings)

    @classmethod
    def evenly(cls, count: int, **settings: Any) -> VNQ:
        """``count`` levels evenly over [-a, a]; an odd count holds zero."""
        if not isinstance(count, Integral) or isinstance(count, bool) or count < 2:
            raise InputError(
                f"count of levels must be a whole number >= 2, got {count!r}. Cure: VNQ.evenly(5)"
            )
        return cls(levels=tuple(float(v) for v in even_levels(count, 1.0)), **settings)

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """Gaussian posteriors on all weights, and codebooks on the network."""
        check_kl_weight(self.kl_weight, context.data_size)
        self._check_zeros(context)
        first = self._first(model, context.policy)
        policy = context.policy.keeping(first)
        if self.initialisation == "random":
            model = duplicate(model)
            random_start(model, weights_of(model, policy=policy), context.noise.seed)
        net = make_bayesian(
            model,
            example=example,
            posterior=GaussianFamily(self.init_log_var),
            noise=context.noise,
            sampling=self.sampling,
            policy=policy,
        )
        means = [q.mean for q in _gaussians(net).values()]
        scales = [self._scales(part) for part in ([means] if self.shared else [[m] for m in means])]
        attach_codebooks(net, self.levels, scales, self.learned, means[0])
        net.__dict__[_EXEMPT] = first
        return net

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """``beta(epoch) * kl_weight * sum KL(q || spikes)``, nats up to a constant (eq. 16-17)."""
        factor = self.kl_weight * self.warm_up.factor(context.epochs)
        pairs = zip(_gaussians(module).values(), _books(module), strict=True)
        return factor * torch.stack([kl_total(q, self._prior(book)) for q, book in pairs]).sum()

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Weights at ``lr``, log variances at ``noise_lr * lr``, codebooks at ``codebook_lr * lr``."""
        noise = spread_of(module)
        books = [p for name, p in module.named_parameters(recurse=False) if is_codebook(name)]
        apart = {id(p) for p in (*noise, *books)}
        rest = [p for p in module.parameters() if id(p) not in apart]
        learned = [{"params": books, "lr": lr * self.codebook_lr, "weight_decay": 0.0}] if books else []
        return [
            {"params": rest, "lr": lr},
            {"params": noise, "lr": lr * self.noise_lr, "weight_decay": 0.0},
            *learned,
        ]

    def step(self, module: nn.Module, context: Context) -> None:
        """Clip log variances, keep levels apart, hold means inside the outer funnels (section 4)."""
        hold_codebooks(module, self.levels)
        with torch.no_grad():
            for q, book in zip(_gaussians(module).values(), _books(module), strict=True):
                q.log_var.clamp_(*self.log_var_bounds)
                slack, levels = q.std.mul_(FUNNEL), self._prior(book).values()
                q.mean.clamp_(min=levels[0] - slack)
                q.mean.clamp_(max=slack.add_(levels[-1]))

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A warm-up that is not at its end: weights are not at the levels of the codebook yet."""
        return warm_up_left(self.warm_up, context)

    def planned_epochs(self) -> float:
        """Until the warm-up is over."""
        return self.warm_up.end

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Prune and quantise every weight tensor; biases and the like go on a fine uniform grid."""
        policy = context.policy.keeping(module.__dict__.get(_EXEMPT, ()))
        every = zip(_gaussians(module).items(), _books(module), strict=True)
        wanted = {name: (q, book) for (name, q), book in every if not policy.keeps(name)}
        posteriors = {name: q for name, (q, _) in wanted.items()}
        books = {name: stored_levels(book, self.levels) for name, (_, book) in wanted.items()}
        plain = plain_copy(module)
        threshold, weights = self._decide(posteriors, books, plain, context, judge)
        others = deterministic_of(module).items()
        named = {name: p for name, p in others if not is_codebook(name)}
        rest = rest_of(module, named, policy)
        held = nonzeros(rest.frozen)
        weights |= {n: on_grid(s, held[n], FROZEN_STEP, 0.0) for n, s in rest.frozen.items()}
        load_values(plain, {n: torch.from_numpy(t.values()) for n, t in weights.items()})
        norms = better_norms(plain, context, judge)
        plain, tensors, facts = quantize_rest(plain, weights, rest.beside, self.bias_bits, judge)
        stats = {name: q.stats(name) for name, q in posteriors.items()}
        keeps = {name: weights[name].values() != 0 for name in posteriors}
        chosen = {"method": "vnq", "threshold": threshold, **posterior_bits_facts(stats, keeps)}
        return finish(plain, tensors, {**norms, **facts, **chosen, **self._told(wanted, books)}, judge)

    def _told(self, wanted: Mapping[str, tuple[Gaussian, torch.Tensor]], books: Books) -> dict[str, Any]:
        """The codebooks by tensor: scales, or levels where these are learned."""
        if self.learned == "levels":
            return {"codebooks": {name: list(levels) for name, levels in books.items()}}
        return {"scales": {name: bfloat16(book.item()) for name, (_, book) in wanted.items()}}

    def _scales(self, weights: list[torch.Tensor]) -> tuple[float, float]:
        """The scale at the start, and the least one, of the codebook of these weights."""
        if self.init_scale is not None:
            return self.init_scale, self.min_scale
        start = fitted_scale(weights, self.levels)
        return start, self.min_scale * start

    def _prior(self, book: torch.Tensor) -> Spikes:
        """The prior of a tensor with this scale, or these levels."""
        return Spikes(book) if book.ndim else Spikes(self.levels, book)

    def _first(self, model: nn.Module, policy: Policy) -> tuple[str, ...]:
        """The name of the weights that stay in full precision, if any do."""
        return tuple(weights_of(model, policy=policy))[:1] if self.exempt_first else ()

    def _check_zeros(self, context: Context) -> None:
        """Refuse a codebook that cannot hold what an earlier stage has removed."""
        name = next(iter(context.removed), None)
        if name is not None and 0.0 not in self.levels:
            raise InputError(
                f"the stage before has removed weights of {name!r}, but levels {self.levels} hold no zero. "
                "Cure: a codebook with 0, as VNQ.ternary(), or this stage alone"
            )

    def _decide(
        self,
        posteriors: Mapping[str, Gaussian],
        books: Books,
        plain: nn.Module,
        context: Context,
        judge: Judge | None,
    ) -> tuple[float | None, dict[str, IntTensor]]:
        """The threshold and what it makes of every weight; candidates are scored on copies of ``plain``."""

        def quantized(threshold: float | None) -> dict[str, IntTensor]:
            return {name: self._quantize(name, q, books[name], threshold) for name, q in posteriors.items()}

        if judge is None or not self.tried_thresholds or self.threshold is None:
            return self.threshold, quantized(self.threshold)

        def score(threshold: float) -> Score:
            tried, tensors = duplicate(plain), quantized(threshold)
            load_values(tried, {n: torch.from_numpy(t.values()) for n, t in tensors.items()})
            estimate_norm_statistics(tried, context)
            return judge.evaluate(tried.eval())

        scores = {t: score(t) for t in sorted({*self.tried_thresholds, self.threshold})}
        usual = scores[self.threshold]
        plain_judge = replace(judge, target=Target())
        allowed = 0.5 * judge.metric.allowance(usual.metric) if self.max_drop is None else self.max_drop
        accepted = [t for t, s in scores.items() if plain_judge.accepts(s, usual, allowed)]
        best = min(accepted, key=lambda t: scores[t].nll)
        return best, quantized(best)

    def _quantize(
        self, name: str, q: Gaussian, levels: tuple[float, ...], threshold: float | None
    ) -> IntTensor:
        """Zero where log alpha is above the threshold, else the likeliest level (sections 3.3 and 4)."""
        indices = likeliest_levels(q, levels, self.price)
        if threshold is not None and 0.0 in levels:
            indices[~keep_below(q.stats(name), threshold)] = levels.index(0.0)
        return on_levels(name, indices, levels)


def _gaussians(module: nn.Module) -> dict[str, Gaussian]:
    """The posteriors by name; ``prepare`` makes Gaussians only."""
    return {name: q for name, q in posteriors_of(module).items() if isinstance(q, Gaussian)}


def _books(module: nn.Module) -> list[torch.Tensor]:
    """The codebook of each posterior, in their order."""
    books = codebooks_of(module)
    return books * len(_gaussians(module)) if len(books) == 1 else books


_FULL = {"fit.epochs": 60, "fit.schedule.flat": 0.0, "warm_up.start": 2.0, "warm_up.end": 10.0}
_FULL_LENET5 = {
    "kl_weight": 0.5,
    "init_scale": 0.12,
    "tried_thresholds": [2.0, 1.0, 0.5, 0.3, 0.1, 0.0, -0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.8],
    "fit.epochs": 195,
    "fit.schedule.flat": 0.1,
    "warm_up.start": 1.0,
    "warm_up.end": 8.0,
}
_SHORT = {"fit.epochs": 20, "warm_up.start": 0.0, "warm_up.end": 5.0}

METHOD = MethodEntry(
    "vnq",
    VNQ,
    presets={
        "full": {"lenet5": _FULL_LENET5, "": _FULL},
        "demo": {
            "lenet5": {**_FULL_LENET5, **_SHORT, "reference.epochs": 3},
            "lenet300": {**_FULL, **_SHORT, "reference.epochs": 3},
            "": {**_FULL, **_SHORT},
        },
    },
    paper="Achterhold, Koehler, Schmeink & Genewein, Variational Network Quantization, ICLR 2018",
)
