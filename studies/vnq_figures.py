"""The figures of variational network quantisation, of any finished run with VNQ.

    laconic compress lenet5 --data mnist --method vnq --out runs/vnq
    python studies/vnq_figures.py runs/vnq [--out figures]

Written as PNG: ``funnels``, the KL to the multi-spike-and-slab prior over mean and log variance, with the
posteriors in it (figure 1); ``scatter``, mean against log variance before and after pruning and quantising
(figure 2); ``bits``, how many bits the posterior says each layer's weights carry, and the width that follows.

Source: Achterhold, Koehler, Schmeink & Genewein, Variational Network Quantization, ICLR 2018.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from laconic import pack
from laconic.bayes import Gaussian, Spikes, kl_divergence
from laconic.quantize.likelihood import bits_of_weights, width_for
from laconic.records import AnyArray, WeightStats

SHOWN, SIDE, MOST = 6000, 160, 8
NOISE = "_log_var"


class Layer(NamedTuple):
    """A layer's weights, flat: posterior means, log variances, and what the file holds."""

    mean: AnyArray
    log_var: AnyArray
    stored: AnyArray

    @property
    def levels(self) -> tuple[float, ...]:
        """The codebook: the values that are in use."""
        return tuple(np.unique(self.stored).tolist())

    @property
    def shown(self) -> AnyArray:
        """Which weights a scatter shows."""
        return np.random.default_rng(0).permutation(self.mean.size)[:SHOWN]


def layers_of(state: Mapping[str, Any], decoded: Mapping[str, AnyArray]) -> dict[str, Layer]:
    """The layers that have a posterior and are in the file on a codebook of two levels or more, by name."""
    names = [n.removesuffix(NOISE) for n in state if n.endswith(NOISE)]
    found = {
        n: Layer(*(np.asarray(v).ravel() for v in (state[n], state[n + NOISE], decoded[n])))
        for n in names
        if n in decoded
    }
    return {n: layer for n, layer in found.items() if len(layer.levels) > 1}


def draw_funnels(name: str, layer: Layer) -> Figure:
    """The KL around the codebook as contours, and the layer's posteriors."""
    span = 1.5 * max(abs(v) for v in layer.levels)
    means = torch.linspace(-span, span, SIDE)
    log_vars = torch.linspace(min(-10.0, float(layer.log_var.min())), 1.0, SIDE)
    across, up = torch.meshgrid(means, log_vars, indexing="xy")
    with torch.no_grad():
        nats = kl_divergence(Gaussian(across, up), Spikes(layer.levels)).numpy()
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    filled = axes.contourf(means.numpy(), log_vars.numpy(), nats, levels=30, cmap="viridis")
    figure.colorbar(filled, label="KL, nats up to a constant")
    axes.scatter(
        layer.mean[layer.shown], layer.log_var[layer.shown], s=2, color="white", alpha=0.3, linewidths=0
    )
    axes.set(xlim=(-span, span), xlabel="mean", ylabel="log variance", title=f"{name}: funnels")
    return figure


def draw_scatter(layers: Mapping[str, Layer]) -> Figure:
    """Mean against log variance, before and after the decision."""
    figure, axes = plt.subplots(
        2, len(layers), figsize=(3.2 * len(layers) + 1, 6), sharey="row", squeeze=False, layout="constrained"
    )
    for column, (name, layer) in enumerate(layers.items()):
        for row, (values, when) in enumerate(((layer.mean, "before"), (layer.stored, "after"))):
            one = axes[row, column]
            one.scatter(values[layer.shown], layer.log_var[layer.shown], s=2, alpha=0.3, linewidths=0)
            for level in layer.levels:
                one.axvline(level, color="tab:red", linewidth=0.5)
            one.set_title(f"{name}, {when}", fontsize=9)
            one.set_xlabel("mean" if row == 0 else "weight in the file")
            one.locator_params(axis="x", nbins=4)
    for row in range(2):
        axes[row, 0].set_ylabel("log variance")
    return figure


def draw_bits(layers: Mapping[str, Layer]) -> Figure:
    """Histograms of the bits that the kept weights carry, with the width that a uniform grid needs."""
    figure, axes = plt.subplots(
        1, len(layers), figsize=(3.2 * len(layers) + 1, 3.2), squeeze=False, layout="constrained"
    )
    for one, (name, layer) in zip(axes[0], layers.items(), strict=True):
        stats = WeightStats(name, layer.mean, np.exp(layer.log_var))
        keep = layer.stored != 0
        bits, width = bits_of_weights(stats, keep), width_for(stats, keep)
        one.hist(bits, bins=60)
        one.axvline(float(bits.mean()), color="tab:red", linewidth=1)
        one.set_title(f"{name}: mean {bits.mean():.2f}, width {width}", fontsize=9)
        one.set_xlabel("bits by posterior")
    axes[0, 0].set_ylabel("kept weights")
    return figure


def figures(layers: Mapping[str, Layer]) -> dict[str, Figure]:
    """All figures by file name; the first layers of a network with many, the funnels of the largest."""
    largest = max(layers, key=lambda n: layers[n].mean.size)
    few = dict(list(layers.items())[:MOST])
    return {
        "funnels": draw_funnels(largest, layers[largest]),
        "scatter": draw_scatter(few),
        "bits": draw_bits(few),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--out", type=Path, help="folder of the figures (default: the run's)")
    options = parser.parse_args()
    state = torch.load(options.run / "checkpoint.pt", weights_only=True)["net"]
    decoded = {t.name: np.asarray(t.values()) for t in pack.read(options.run / "model.lac").tensors}
    layers = layers_of(state, decoded)
    if not layers:
        raise SystemExit(f"{options.run} holds no network with posteriors on a codebook")
    out = options.out or options.run
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures(layers).items():
        figure.savefig(out / f"{name}.png", dpi=110)
        print(out / f"{name}.png")


if __name__ == "__main__":
    main()
