"""Any other layer with parameters: whole weights are drawn, once per forward pass.

The layer's class is turned into a subclass in which each such parameter's *name* is a property: inside a
forward pass it gives the posterior's draw or mean. ``nn.Module`` keeps the parameters under their own
names in ``_parameters``, so optimisers, ``state_dict`` and ``to`` see an ordinary layer. Unlike
``torch.nn.utils.parametrize`` this renames nothing and draws once however often the weight is read, also by
another layer (as multi-head attention reads its ``out_proj``) or by a tied one.
"""

from __future__ import annotations

from torch import Tensor, nn

from laconic.bayes.layers.variational import Variational


def sampled_class(plain: type[nn.Module], names: tuple[str, ...]) -> type[Variational]:
    """A subclass of ``plain`` in which the parameters ``names`` are read as draws.

    >>> sampled_class(nn.LSTM, ("weight_ih_l0",)).__name__
    'BayesLSTM'
    """
    members = {name: _drawn(name) for name in names}
    return type(f"Bayes{plain.__name__}", (Variational, plain), {"__module__": plain.__module__, **members})


def _drawn(name: str) -> property:
    def read(self: Variational) -> Tensor | None:
        parameter = self._parameters[name]
        if parameter is None or "_bayes_draws" not in self.__dict__ or not self._bayes_draws.passing:
            return parameter
        if self._bayes_draws.sampling or self.bayes_samples():
            return self.bayes_draw(name)
        return self.bayes_posterior(name).expectation()

    return property(
        read,
        doc=f"This forward pass's draw of {name!r} (in eval mode its mean); the parameter outside a pass.",
    )
