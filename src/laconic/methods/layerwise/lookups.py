r"""What an error in a row of a table costs, from how often calibration looks it up.

A row that is looked up n times among N costs n / N of what it would cost if every lookup were its own. Of
rows that calibration never uses this says nothing, and other inputs will use some of them; rare tokens also
say more of their sentence than frequent ones. So half of the weight follows the counts, and half is shared by
all V rows alike:

.. math:: p_r \propto \tfrac12 V \frac{n_r}{N} + \tfrac12 .

Source: Jelinek & Mercer, Interpolated estimation of Markov source parameters from sparse data, 1980 (the
mixture).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.networks import call as run
from laconic.networks import inference
from laconic.networks.watching import Call, Watching

ALIKE = 0.5
"""Share of the weight that all rows have alike, the unseen ones too."""


def lookup_weights(module: nn.Module, names: Collection[str], inputs: Iterable[Any]) -> dict[str, Tensor]:
    """What an error of each row of a table costs, relative to their mean.

    Args:
        module: The network.
        names: Tables, the rows of which are looked up.
        inputs: Inputs of several calls.

    Returns:
        By name, float64 (rows,) with mean 1; tables that no call looks anything up in are left out.

    >>> table = nn.Embedding(4, 2)
    >>> lookup_weights(table, ["weight"], [torch.tensor([0, 0, 1])])["weight"].round(decimals=2).tolist()
    [1.83, 1.17, 0.5, 0.5]
    """
    tables = {id(module.get_parameter(name)): name for name in names}
    counts: dict[str, Tensor] = {}

    def look(call: Call) -> None:
        found = _looked_up(call)
        if found is None or id(found[0]) not in tables:
            return
        table, rows = found
        new = torch.bincount(rows.detach().reshape(-1).cpu(), minlength=len(table)).double()
        name = tables[id(table)]
        counts[name] = counts[name] + new if name in counts else new

    if tables:
        with inference(), Watching(before=look):
            for each in inputs:
                run(module, each)
    return {n: (1 - ALIKE) * c * len(c) / c.sum() + ALIKE for n, c in counts.items() if float(c.sum()) > 0}


def _looked_up(call: Call) -> tuple[Tensor, Tensor] | None:
    """The table that a call takes rows of, and the rows' numbers; None for another call."""
    if call.function in (F.embedding, F.embedding_bag):
        return call.argument(1, "weight"), call.argument(0, "input")
    if call.function in (torch.index_select, Tensor.index_select) and call.argument(1, "dim") == 0:
        return call.argument(0, "input"), call.argument(2, "index")
    if call.function is Tensor.__getitem__:
        table, index = call.args
        first = index[0] if isinstance(index, tuple) and index else index
        if isinstance(table, nn.Parameter) and (isinstance(first, int | slice) or _is_whole(first)):
            return table, torch.arange(len(table), device=table.device)[first]
    return None


def _is_whole(index: Any) -> bool:
    return isinstance(index, Tensor) and not index.is_floating_point()
