r"""One file per (posterior, prior) pair; importing this package registers them all.

| posterior | LogUniform | Normal | Laplace | StudentT, DensityPrior | SpikeAndSlab |
|---|---|---|---|---|---|
| Gaussian | fit or series | closed form | closed form | trapezoidal rule | bound or integral |
| Multiplicative | fit or series | closed form | closed form | trapezoidal rule | bound or integral |
| InputNoise | fit or series, of the factors | none | none | none | none |
| Point | none | minus log density | minus log density | minus log density | minus log density |
| others | none | none | none | none | none |

| posterior | Spikes | GaussianMixture | SparseMixture | ScaleMixture | HalfCauchy |
|---|---|---|---|---|---|
| Gaussian | windows or integral | bound or integral | bound or integral | none | none |
| Multiplicative | windows or integral | bound or integral | bound or integral | none | none |
| Point | none | minus log density | none | none | none |
| Scaled | none | none | none | sum over the two factors | none |
| LogNormalPair | none | none | none | none | closed form |

A pair without a rule is refused (:class:`laconic.errors.NoKLRuleError`). A scale mixture is a prior of
weights and of the scales that they share, and a posterior without scales does not say which weights share
one. Scales times weights have no density in closed form, so that their KL to a prior of single weights has
none either. Weights that share a factor by input have none, so that their KL is that of the factors.
"""

from laconic.bayes.kl import (
    gaussian_density,
    gaussian_gaussian_mixture,
    gaussian_laplace,
    gaussian_log_uniform,
    gaussian_normal,
    gaussian_sparse_mixture,
    gaussian_spike_and_slab,
    gaussian_spikes,
    input_noise_log_uniform,
    log_normal_pair_half_cauchy,
    multiplicative_density,
    multiplicative_gaussian_mixture,
    multiplicative_log_uniform,
    multiplicative_normal,
    multiplicative_sparse_mixture,
    multiplicative_spikes,
    point_density,
    point_gaussian_mixture,
    scaled_scale_mixture,
)
from laconic.bayes.kl.dispatch import check_rules, kl_divergence, kl_total, register_kl

__all__ = [
    "check_rules",
    "gaussian_density",
    "gaussian_gaussian_mixture",
    "gaussian_laplace",
    "gaussian_log_uniform",
    "gaussian_normal",
    "gaussian_sparse_mixture",
    "gaussian_spike_and_slab",
    "gaussian_spikes",
    "input_noise_log_uniform",
    "kl_divergence",
    "kl_total",
    "log_normal_pair_half_cauchy",
    "multiplicative_density",
    "multiplicative_gaussian_mixture",
    "multiplicative_log_uniform",
    "multiplicative_normal",
    "multiplicative_sparse_mixture",
    "multiplicative_spikes",
    "point_density",
    "point_gaussian_mixture",
    "register_kl",
    "scaled_scale_mixture",
]
