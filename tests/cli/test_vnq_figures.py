"""The figures of a run with VNQ show its posteriors, its file and the prior's KL."""

import numpy as np
import pytest
import torch

from laconic.bayes import Gaussian, Spikes, kl_divergence


def test_figures_show_what_the_run_holds() -> None:
    study = pytest.importorskip("studies.vnq_figures")
    draw = np.random.default_rng(0)
    state = {
        "fc.weight": torch.from_numpy(draw.normal(0, 0.1, (20, 10)).astype(np.float32)),
        "fc.weight_log_var": torch.full((20, 10), -6.0),
        "fc.bias": torch.zeros(20),
    }
    decoded = {"fc.weight": draw.choice(np.float32([-0.25, 0, 0.25]), (20, 10)), "fc.bias": np.zeros(20)}
    layers = study.layers_of(state, decoded)
    assert list(layers) == ["fc.weight"] and layers["fc.weight"].levels == (-0.25, 0.0, 0.25)
    drawn = study.figures(layers)
    assert set(drawn) == {"funnels", "scatter", "bits"}
    shown = layers["fc.weight"].shown
    before, after = (axes.collections[0].get_offsets() for axes in drawn["scatter"].axes[:2])
    assert np.allclose(before[:, 0], state["fc.weight"].numpy().ravel()[shown])
    assert np.array_equal(np.asarray(after)[:, 0], decoded["fc.weight"].ravel()[shown].astype(float))
    contours = drawn["funnels"].axes[0].collections[0]
    at = torch.tensor([0.0]), torch.tensor([-10.0])
    nats = float(kl_divergence(Gaussian(*at), Spikes((-0.25, 0.0, 0.25))))
    assert float(contours.get_array().min()) <= nats + 1.0
    counts = sum(patch.get_height() for patch in drawn["bits"].axes[0].patches)
    assert counts == np.count_nonzero(decoded["fc.weight"])
    study.plt.close("all")
