"""How sure are we of each weight? Posteriors, priors, their KLs, layers that sample, and the ELBO."""
