"""From a network with posteriors to integers: what stays is put on the grid that validation allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import nn

from laconic.bayes.prepare import deterministic_of, plain_copy, posteriors_of
from laconic.methods.common.codebooks import Books
from laconic.methods.common.grid_choice import GridChoice, choose_grid
from laconic.methods.common.levels import posterior_bits_facts
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.contract import BoolArray, Compressed, Context, Judge
from laconic.records import WeightStats

Keep = Callable[[WeightStats], BoolArray]
MakeBooks = Callable[[Mapping[str, WeightStats]], Books | None]


def on_posterior_grid(
    module: nn.Module,
    keep: Keep,
    grid: GridChoice,
    context: Context,
    judge: Judge | None,
    books: MakeBooks | None = None,
) -> Compressed:
    """The plain network at the posterior means, on the grid that validation allows.

    Args:
        module: A network with posteriors; it is left as it was.
        keep: From the statistics of a weight tensor to booleans: True where a weight stays. What an earlier
            stage has removed stays removed.
        grid: What is tried.
        context: What the user says of single parameters, the example, the stage before.
        judge: Scores candidates.
        books: From all statistics to codebooks that are tried beside the grids.

    Returns:
        The compressed network.

    >>> import torch
    >>> from laconic.bayes import GaussianFamily, NoiseSource, make_bayesian
    >>> x = torch.zeros(1, 4)
    >>> net = make_bayesian(nn.Linear(4, 2), example=x, posterior=GaussianFamily(), noise=NoiseSource(0))
    >>> context = Context(data_size=1, noise=NoiseSource(0), example=x)
    >>> small = on_posterior_grid(net, lambda stats: stats.mean > 0, GridChoice(), context, None)
    >>> bool((small.module.weight >= 0).all())
    True
    """
    policy = context.policy
    stats = {n: q.stats(n) for n, q in posteriors_of(module).items() if not policy.keeps(n)}
    keeps = {n: keep(s) for n, s in stats.items()}
    for name, zero in context.removed.items():
        if name in keeps:
            keeps[name] &= ~zero
    found, plain = books(stats) if books else None, plain_copy(module)
    own = dict(plain.named_parameters())  # what a method learns beside the network is not among them
    deterministic = {n: p for n, p in deterministic_of(module).items() if n in own}
    rest = rest_of(module, deterministic, policy)
    told = posterior_bits_facts(stats, keeps)
    stats, keeps = {**stats, **rest.frozen}, {**keeps, **nonzeros(rest.frozen)}
    small = choose_grid(plain, stats, keeps, rest.beside, grid, judge, context.example, context, found)
    return replace(small, facts={**small.facts, **told})
