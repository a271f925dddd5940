"""The inputs of each weight: those of every linear map, convolution, recurrent layer and attention.

The network runs as it is; every call of a torch function that takes one of its weights is seen with its
arguments (:mod:`laconic.networks.watching`), so a plain parameter counts as a layer's weight does. A layer
that is one call is computed in parts: each layer of a recurrent stack by itself, attention without its last
map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.errors import NonFiniteError
from laconic.networks.reads_sequence import attention_inputs, cell_inputs, recurrent_inputs
from laconic.networks.watching import Call, Watching

Matrices = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Read:
    """One input that one weight multiplies.

    ``axis`` is the weight's axis that multiplies the input's channels. A weight of several ``blocks``
    (grouped convolution, attention over different queries and keys) reads other channels in each:
    ``channels[b]`` is (samples, channels) and ``patches()[b]``, (positions, K), is what the block's rows
    multiply, of ``positions`` rows and K = ``inputs`` columns. ``patches(chosen)`` builds the rows of some
    positions alone, which costs no more than these; ``stacked(chosen)`` gives those of all blocks as one
    tensor, (blocks, positions, K), where they are ``alike``: of one length, which those of attention over
    different queries and keys need not be. Nothing is built before it is asked for.
    """

    name: str
    axis: int
    blocks: int
    positions: int
    inputs: int
    patches: Callable[..., Matrices]
    stacked: Callable[..., Tensor]
    _channels: Callable[[], Matrices]
    alike: bool = True

    @property
    def channels(self) -> Matrices:
        """The channels that each block reads, one row for each place of the input."""
        return self._channels()


def watch_reads(module: nn.Module, run: Callable[[], Any], use: Callable[[Read], None]) -> None:
    """Run something and give every input of one of the module's weights to ``use``."""
    names = names_of(module)

    def opened(call: Call) -> None:
        for read in reads_of(call, names):
            use(read)

    with Watching(before=opened):
        run()


def names_of(module: nn.Module) -> dict[int, str]:
    """The parameters' names by their identity, a shared one under its first name.

    Args:
        module: A network, whose parameters must live on while the names are used.

    Returns:
        Names by ``id(parameter)``.

    >>> sorted(names_of(nn.Linear(2, 1)).values())
    ['bias', 'weight']
    """
    names: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, nn.Parameter):
            names.setdefault(id(tensor), name)
    return names


def reads_of(call: Call, names: Mapping[int, str]) -> list[Read]:
    """What the weights among a call's arguments multiply, before the call runs.

    Args:
        call: A call of a torch function.
        names: The parameters' names by their identity (see :func:`names_of`).

    Returns:
        One entry for each input of each weight; none for other calls.

    >>> net = nn.Linear(2, 1)
    >>> call = Call(F.linear, (torch.ones(3, 2), net.weight, net.bias), {})
    >>> [(read.name, read.axis) for read in reads_of(call, names_of(net))]
    [('weight', 1)]
    """
    found: list[Read] = []
    opener = _CALLS.get(call.function)
    if opener is not None:
        opener(call, names, found.append)
    return found


def check_finite(name: str, sums: Tensor) -> None:
    """Raises NonFiniteError naming the weight, if sums over what it multiplies are not finite."""
    if not bool(torch.isfinite(sums).all()):
        raise NonFiniteError(
            f"the input of {name!r} holds NaN or infinity. Cure: look for them in the batches and in the "
            "weights of the layers before it"
        )


Opener = Callable[[Call, Mapping[int, str], Callable[[Read], None]], None]


def _flat(x: Tensor) -> Tensor:
    return x.detach().reshape(-1, x.shape[-1])


def _linear_read(name: str, inputs: Matrices, axis: int = 1) -> Read:
    blocks = tuple(_flat(x) for x in inputs)

    def patches(chosen: Tensor | None = None) -> Matrices:
        return blocks if chosen is None else tuple(x[chosen.to(x.device)] for x in blocks)

    def stacked(chosen: Tensor | None = None) -> Tensor:
        return torch.stack(patches(chosen)) if len(blocks) > 1 else patches(chosen)[0][None]

    alike = all(len(x) == len(blocks[0]) for x in blocks)
    positions, k = blocks[0].shape
    return Read(name, axis, len(blocks), positions, k, patches, stacked, lambda: blocks, alike)


def _linear(call: Call, names: Mapping[int, str], use: Callable[[Read], None]) -> None:
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    if id(weight) in names:
        use(_linear_read(names[id(weight)], (x,)))


def _matmul(call: Call, names: Mapping[int, str], use: Callable[[Read], None]) -> None:
    """``x @ W`` with a plain parameter W: its axis 0 multiplies the channels."""
    x, weight = call.argument(0, "input"), call.argument(1, "other")
    if id(weight) in names and weight.ndim == 2:
        use(_linear_read(names[id(weight)], (x,), 0))


def _several(
    inputs: Callable[[Call], list[tuple[Tensor, Matrices]]],
) -> Opener:
    """A call that holds several linear maps."""

    def opener(call: Call, names: Mapping[int, str], use: Callable[[Read], None]) -> None:
        for weight, read in inputs(call):
            if id(weight) in names:
                use(_linear_read(names[id(weight)], read))

    return opener


# --- convolutions ------------------------------------------------------------------------------------


def _conv(dims: int, call: Call, names: Mapping[int, str], use: Callable[[Read], None]) -> None:
    weight = call.argument(1, "weight")
    if id(weight) not in names:
        return
    x = call.argument(0, "input").detach()
    x = x if x.ndim == dims + 2 else x.unsqueeze(0)
    stride, dilation = (_each(call.argument(k, n, 1), dims) for k, n in ((3, "stride"), (5, "dilation")))
    groups, kernel = int(call.argument(6, "groups", 1)), tuple(weight.shape[2:])
    padding = _padding(call.argument(4, "padding", 0), kernel, dilation)

    def stacked(chosen: Tensor | None = None) -> Tensor:
        return _patches(F.pad(x, padding) if any(padding) else x, kernel, stride, dilation, groups, chosen)

    margins = [a + b for a, b in zip(padding[::2], padding[1::2], strict=True)][::-1]
    sizes = [n + m for n, m in zip(x.shape[2:], margins, strict=True)]
    positions = _positions(len(x), sizes, kernel, stride, dilation)
    inputs = x.shape[1] // groups * math.prod(kernel)
    use(_conv_read(names[id(weight)], 1, x, groups, positions, inputs, stacked))


def _conv_transpose(dims: int, call: Call, names: Mapping[int, str], use: Callable[[Read], None]) -> None:
    """A transposed convolution is a plain one, its kernel flipped, over an input with zeros inserted."""
    weight = call.argument(1, "weight")
    if id(weight) not in names:
        return
    x = call.argument(0, "input").detach()
    x = x if x.ndim == dims + 2 else x.unsqueeze(0)
    stride, padding = (
        _each(call.argument(k, n, d), dims) for k, n, d in ((3, "stride", 1), (4, "padding", 0))
    )
    extra = _each(call.argument(5, "output_padding", 0), dims)
    groups, dilation = int(call.argument(6, "groups", 1)), _each(call.argument(7, "dilation", 1), dims)
    kernel = tuple(weight.shape[2:])

    spread = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)]
    margins: list[int] = []
    for k, p, d, e in reversed(list(zip(kernel, padding, dilation, extra, strict=True))):
        margins += [d * (k - 1) - p, d * (k - 1) - p + e]
    sizes = [n + a + b for n, a, b in zip(spread, margins[-2::-2], margins[::-2], strict=True)]
    once = (1,) * dims

    def stacked(chosen: Tensor | None = None) -> Tensor:
        wide = x.new_zeros(*x.shape[:2], *spread)
        wide[(..., *(slice(None, None, s) for s in stride))] = x
        return _patches(F.pad(wide, margins), kernel, once, dilation, groups, chosen)

    positions = _positions(len(x), sizes, kernel, once, dilation)
    inputs = x.shape[1] // groups * math.prod(kernel)
    use(_conv_read(names[id(weight)], 0, x, groups, positions, inputs, stacked))


def _conv_read(
    name: str, axis: int, x: Tensor, groups: int, positions: int, inputs: int, stacked: Callable[..., Tensor]
) -> Read:
    def patches(chosen: Tensor | None = None) -> Matrices:
        return stacked(chosen).unbind(0)

    return Read(name, axis, groups, positions, inputs, patches, stacked, lambda: _channels(x, groups))


def _each(value: Any, dims: int) -> tuple[int, ...]:
    given = tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),)
    return given * dims if len(given) == 1 else given


def _padding(value: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    """As ``F.pad`` takes it: last axis first, before and after."""
    found: list[int] = []
    for axis in reversed(range(len(kernel))):
        if value == "same":
            whole = dilation[axis] * (kernel[axis] - 1)
            found += [whole // 2, whole - whole // 2]
        else:
            found += [0 if value == "valid" else _each(value, len(kernel))[axis]] * 2
    return found


def _channels(x: Tensor, groups: int) -> Matrices:
    return _flat(x.movedim(1, -1)).chunk(groups, 1)


def _positions(
    batch: int,
    sizes: Sequence[int],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> int:
    """How often a kernel is laid on inputs of these sizes, margins included."""
    places = (
        (n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    )
    return batch * math.prod(places)


def _patches(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    chosen: Tensor | None,
) -> Tensor:
    """(batch, C, *space) -> (groups, positions, C / groups * kernel): im2col in any dimension."""
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(2 + axis, d * (k - 1) + 1, s)[..., ::d]
    dims = len(kernel)
    x = x.movedim(1, 1 + dims)  # batch, positions, C, kernel
    if chosen is not None:
        x = x[torch.unravel_index(chosen.to(x.device), x.shape[: 1 + dims])]
        dims = 0
    inputs = x.shape[1 + dims :].numel() // groups
    return x.reshape(-1, groups, inputs).transpose(0, 1)


def _kernels(*names: str) -> tuple[Callable[..., Any], ...]:
    return tuple(
        f for name in names for room in (torch, torch._VF) if (f := getattr(room, name, None)) is not None
    )


_CALLS: dict[Any, Opener] = {
    F.linear: _linear,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm), _matmul),
    F.conv1d: partial(_conv, 1),
    F.conv2d: partial(_conv, 2),
    F.conv3d: partial(_conv, 3),
    F.conv_transpose1d: partial(_conv_transpose, 1),
    F.conv_transpose2d: partial(_conv_transpose, 2),
    F.conv_transpose3d: partial(_conv_transpose, 3),
    **dict.fromkeys(_kernels("lstm", "gru", "rnn_tanh", "rnn_relu"), _several(recurrent_inputs)),
    **dict.fromkeys(
        _kernels("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _several(cell_inputs)
    ),
    F.multi_head_attention_forward: _several(attention_inputs),
}
