"""Free axes that the user names: the file answers as the module does at every size."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim

from laconic.errors import CaptureError, InputError
from laconic.export import build_packed
from laconic.export.graph_capture import capture
from laconic.export.rules import RULES
from laconic.pack import decode, encode
from laconic.runtime import Network
from tests.helpers.networks import seeded
from tests.helpers.parity import Fn, flat, worst_error

BATCH_TIME = {0: "batch", 1: "time"}
Inputs = tuple[torch.Tensor, ...]


def assert_every_size(
    module: nn.Module, example: Inputs, dynamic: Any, trials: Sequence[Inputs], tolerance: float = 1e-5
) -> Network:
    """The decoded file against the module, on inputs of other sizes than the example's."""
    module.eval()
    model, notes = build_packed(module, {}, example, dynamic)
    assert model.graph is not None, notes
    network = Network.from_packed(decode(encode(model)), threads=1)
    for inputs in trials:
        with torch.no_grad():
            wanted = [t.numpy() for t in flat(module(*(x.clone() for x in inputs)))]
        got = network.run(tuple(x.numpy() for x in inputs))
        error = worst_error(got, wanted)
        assert error < tolerance, f"{[tuple(x.shape) for x in inputs]}: {error:.2e}"
    return network


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, 20, shape, generator=torch.Generator().manual_seed(sum(shape)))


def mask(batch: int, length: int) -> torch.Tensor:
    """Each row's own length, at least one."""
    lengths = 1 + torch.arange(batch)[:, None] * 3 % length
    return (torch.arange(length)[None] < lengths).long()


# --- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_of_any_length(kind: type[nn.Module]) -> None:
    layer = seeded(lambda: kind(4, 5, num_layers=2, bidirectional=True, batch_first=True))
    trials = [(torch.randn(b, t, 4),) for b, t in ((1, 3), (3, 1), (2, 40))]
    network = assert_every_size(layer, (torch.randn(2, 7, 4),), {"input": BATCH_TIME}, trials)
    assert network.inputs[0].sizes == ("batch", "time", 4)


def test_a_time_first_lstm_keeps_its_batch_free_by_itself() -> None:
    layer = seeded(lambda: nn.LSTM(4, 5))
    assert capture(layer, torch.randn(7, 2, 4)).graph.inputs[0].shape == (7, None, 4)
    trials = [(torch.randn(t, b, 4),) for b, t in ((1, 3), (3, 1), (2, 40))]
    assert_every_size(layer, (torch.randn(7, 2, 4),), {0: {1: "batch", 0: "time"}}, trials)


def test_a_long_recurrence_is_one_operation() -> None:
    """Unrolled, 2000 steps take over a minute and cannot be free."""
    start = time.process_time()
    graph = capture(nn.LSTM(2, 2, batch_first=True), torch.zeros(2, 2000, 2), {"input": BATCH_TIME}).graph
    assert time.process_time() - start < 20
    assert [node.op for node in graph.nodes] == ["lstm"]


class DnCNN(nn.Module):
    """The noise of an image, taken off."""

    def __init__(self) -> None:
        super().__init__()
        middle = (nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), *middle, nn.Conv2d(4, 1, 3, padding=1)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image - self.net(image)


IMAGES = {"image": {0: "batch", 2: "height", 3: "width"}}


def test_a_dncnn_at_three_sizes() -> None:
    trials = [(torch.randn(n, 1, h, w),) for n, h, w in ((1, 9, 5), (3, 32, 17), (2, 16, 16))]
    network = assert_every_size(seeded(DnCNN), (torch.randn(1, 1, 8, 8),), IMAGES, trials)
    assert network.inputs[0].sizes == ("batch", 1, "height", "width")


class CausalEncoder(nn.Module):
    """PyTorch's own encoder under its own causal mask, with learned positions."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 8), nn.Embedding(64, 8)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        length = ids.shape[1]
        x = self.words(ids) + self.places(torch.arange(length, device=ids.device))
        return self.body(x, mask=nn.Transformer.generate_square_subsequent_mask(length))


class CausalAttention(nn.Module):
    """Attention written out, a triangle in a buffer cut to the length."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 8), nn.Parameter(torch.randn(64, 8))
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.register_buffer("triangle", torch.tril(torch.ones(64, 64)))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        b, t = ids.shape
        q, k, v = self.qkv(self.words(ids) + self.places[:t]).chunk(3, -1)
        q, k, v = (y.view(b, t, 2, 4).transpose(1, 2) for y in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * k.shape[-1] ** -0.5
        scores = scores.masked_fill(self.triangle[:t, :t] == 0, -math.inf)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).contiguous().view(b, t, 8))


class CausalRange(nn.Module):
    """Which keys are visible, from two ranges of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.heads = nn.Embedding(20, 8), nn.Linear(8, 24)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        b, t = ids.shape
        q, k, v = (y.view(b, t, 2, 4).transpose(1, 2) for y in self.heads(self.words(ids)).chunk(3, -1))
        at = torch.arange(t)
        seen = (at[None, :] <= at[:, None]).expand(b, 1, t, t)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).reshape(b, t, 8)


@pytest.mark.parametrize("kind", [CausalEncoder, CausalAttention, CausalRange])
def test_a_causal_transformer_at_three_lengths(kind: Callable[[], nn.Module]) -> None:
    trials = [(ids(b, t),) for b, t in ((1, 3), (3, 1), (2, 40))]
    assert_every_size(seeded(kind), (ids(2, 7),), {"ids": BATCH_TIME}, trials)


class Bert(nn.Module):
    """An encoder that looks its mask up by ranges of positions, as Hugging Face's does."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(20, 8), nn.Embedding(64, 8), nn.LayerNorm(8)
        self.register_buffer("numbers", torch.arange(64)[None], persistent=False)
        self.heads, self.out, self.pool = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor | None]:
        b, t = ids.shape
        x = self.norm(self.words(ids) + self.places(self.numbers[:, :t]))
        q, k, v = (y.view(b, t, 2, -1).transpose(1, 2) for y in self.heads(x).chunk(3, -1))
        rows, keys = torch.arange(b)[:, None, None, None], torch.arange(t)[None, None, None, :]
        seen = mask.bool()[rows, keys].expand(b, 1, t, t)
        x = x + self.out(
            F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).reshape(b, t, 8)
        )
        weights = mask[..., None].float()
        mean = (x * weights).sum(1) / weights.sum(1)
        return {"last_hidden_state": x, "pooler_output": torch.tanh(self.pool(mean)), "hidden_states": None}


def test_a_bert_with_a_mask_at_several_batches_and_lengths() -> None:
    dynamic = {"ids": BATCH_TIME, "mask": BATCH_TIME}
    module = seeded(Bert).eval()
    model, notes = build_packed(module, {}, (ids(2, 7), mask(2, 7)), dynamic)
    assert model.graph is not None, notes
    network = Network.from_packed(decode(encode(model)), threads=1)
    assert network.output_names == ("last_hidden_state", "pooler_output")
    for batch, length in ((1, 5), (3, 12), (2, 1)):
        given = {"ids": ids(batch, length), "mask": mask(batch, length)}
        with torch.no_grad():
            wanted = module(**given)
        got = network(mask=given["mask"].numpy(), ids=given["ids"].numpy())
        assert isinstance(got, dict) and list(got) == list(network.output_names)
        assert worst_error(list(got.values()), [wanted[k].numpy() for k in got]) < 1e-5


class UNet(nn.Module):
    """Halved and doubled again: it takes even sizes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.a(image)
        return torch.cat([x, F.interpolate(self.b(F.max_pool2d(x, 2)), scale_factor=2)], 1)


def test_a_unet_at_sizes_that_it_takes() -> None:
    trials = [(torch.randn(n, 1, h, w),) for n, h, w in ((1, 10, 6), (3, 32, 16))]
    assert_every_size(seeded(UNet), (torch.randn(2, 1, 8, 8),), IMAGES, trials)


def test_a_fully_convolutional_network_back_at_its_images_size() -> None:
    def segment(layer: nn.Module, pool: nn.Module, x: torch.Tensor) -> object:
        small = layer(x)
        large = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return large, pool(small).flatten(1)

    module = Fn(segment, seeded(lambda: nn.Conv2d(1, 4, 3, 2, 1)), nn.AdaptiveAvgPool2d(1))
    trials = [(torch.randn(n, 1, h, w),) for n, h, w in ((1, 11, 7), (3, 32, 16))]
    axes = ({0: "batch", 2: "height", 3: "width"},)
    assert_every_size(module, (torch.randn(2, 1, 8, 8),), axes, trials)


# --- arithmetic on sizes -------------------------------------------------------------------------

SIZES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a product": lambda x: x * x.shape[1],
    "a root": lambda x: x / x.shape[1] ** 0.5,
    "a range to one less than twice": lambda x: torch.arange(2 * x.shape[1] - 1).float().sum() + x,
    "a range in steps": lambda x: x + 0.1 * torch.arange(1, 2 * x.shape[1], 2)[:, None],
    "a half": lambda x: x[:, : x.shape[1] // 2],
    "a third, rounded up": lambda x: x[:, : -(-x.shape[1] // 3)],
    "the last three": lambda x: x[:, max(0, x.shape[1] - 3) :],
    "two pieces": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "one axis of two": lambda x: x.reshape(x.shape[0] * x.shape[1], 2, 2).mT.reshape(x.shape),
    "a variance": lambda x: x.var(1) + x.std((0, 1)),
    "copies": lambda x: x.repeat(1, x.shape[1], 1),
    "a roll": lambda x: x.roll(2, 1).flip(1) + x.roll(-1, 1),
    "a size as a number": lambda x: x + torch.full((x.shape[0], 1, 4), x.shape[1]).float(),
    "a triangle of booleans": lambda x: (x @ x.mT > 0).tril().float() + (x @ x.mT > 1).triu(1),
    "two triangles": lambda x: torch.tril(x @ x.mT, -1) + torch.triu(torch.ones(2 * [x.shape[1]]), 1),
    "indices from the end": lambda x: x[torch.arange(x.shape[0]), torch.arange(x.shape[0]) % 2 - 1],
}


@pytest.mark.parametrize("name", SIZES)
def test_arithmetic_on_sizes(name: str) -> None:
    module = Fn(lambda layer, x: SIZES[name](layer(x)), seeded(lambda: nn.Linear(4, 4)))
    trials = [(torch.randn(b, t, 4),) for b, t in ((1, 5), (3, 9), (4, 2))]
    assert_every_size(module, (torch.randn(2, 6, 4),), (BATCH_TIME,), trials)


def test_the_batch_alone_enters_the_arithmetic_and_stays_free() -> None:
    module = Fn(lambda layer, x: layer(x) * x.size(0) + torch.arange(x.size(0))[:, None], nn.Linear(4, 2))
    network = assert_every_size(module, (torch.randn(3, 4),), None, [(torch.randn(5, 4),)])
    assert network.inputs[0].shape == (None, 4)


# --- how axes are said ---------------------------------------------------------------------------

X, Y = torch.randn(2, 3, 4), torch.randn(2, 3, 4)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        return self.layer(x) + scale * y.sum((0, 1))


@pytest.mark.parametrize(
    ("dynamic", "sizes"),
    [
        ({"x": {0: "batch", 1: "time"}}, (("batch", "time", 4), (2, 3, 4))),
        ({"x": {0: Dim("batch"), -2: Dim("time", max=512)}}, (("batch", "time", 4), (2, 3, 4))),
        ({"y": (None, "time", Dim.STATIC)}, ((2, 3, 4), (2, "time", 4))),
        (({0: "b"}, {0: "b"}), (("b", 3, 4), ("b", 3, 4))),
        ({"x": {1: Dim.AUTO}, "y": {1: Dim.DYNAMIC}}, ((2, "x_1", 4), (2, "y_1", 4))),
        ({0: {0: "batch"}, "y": None}, (("batch", 3, 4), (2, 3, 4))),
    ],
)
def test_every_form_of_torch_export(dynamic: Any, sizes: tuple[tuple[int | str, ...], ...]) -> None:
    graph = capture(Two(), (X, Y), dynamic).graph
    assert tuple(spec.sizes for spec in graph.inputs) == sizes
    assert graph.input_names == ("x", "y")
    by_name = capture(Two(), {"y": Y, "x": X, "scale": 3.0}, dynamic).graph
    assert tuple(spec.sizes for spec in by_name.inputs) == sizes


@pytest.mark.parametrize(
    ("dynamic", "text"),
    [
        ({"z": {0: "batch"}}, "names 'z'; the example's inputs are x, y"),
        ({"x": {3: "batch"}}, "frees axis 3 of input 'x', which has 3 axes"),
        ({"x": "batch"}, "Cure: a dictionary from axis to name"),
        ({"x": {0: "the batch"}}, "is called 'the batch'"),
        ({"x": {0: 2.5}}, "is called 2.5"),
        (({0: "batch"},), "one entry for each of x, y"),
        ({"x": {0: "n", 1: "n"}}, "the example has 2 and 3 entries there"),
    ],
)
def test_axes_that_cannot_be_are_refused(dynamic: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        capture(Two(), (X, Y), dynamic)


def test_axes_that_must_be_equal_need_one_name() -> None:
    text = (
        r"'b' \(axis 1 of 'x_1', 3 in the example\) and 'a' \(axis 1 of 'x_0', 3 in the example\) "
        "must be equal in every call. Cure: give both axes one name"
    )
    with pytest.raises(CaptureError, match=text):
        capture(Fn(lambda layer, x, y: layer(x) + y, nn.Linear(4, 4)), (X, Y), ({1: "a"}, {1: "b"}))


def _by_steps(layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A loop over time in Python."""
    for k in range(x.shape[1]):
        y = torch.tanh(layer(x[:, k]))[:, None]
    return y


@pytest.mark.parametrize("network", [_by_steps, lambda layer, x, y: layer(x) * torch.ones(3, 1)])
def test_an_axis_that_the_network_fixes_is_named(network: Any) -> None:
    with pytest.raises(CaptureError) as caught:
        capture(Fn(network, nn.Linear(4, 4)), (X, Y), ({0: "batch", 1: "time"}, {0: "batch"}))
    said = str(caught.value)
    assert said.startswith("'time' (axis 1 of 'x_0', 3 in the example) cannot be free: the network works at")
    assert said.endswith("Cure: leave 'time' out of dynamic, or write that part for any size")
    assert "mark_dynamic" not in said and "Dim." not in said


def test_pooling_of_a_free_axis_has_a_cure_of_its_own() -> None:
    with pytest.raises(
        CaptureError, match="the output size 1 only. Cure: leave that axis out of dynamic, or"
    ):
        capture(nn.Sequential(nn.Conv1d(3, 2, 1), nn.AdaptiveAvgPool1d(3)), X, {"input": {2: "time"}})


def test_a_branch_on_a_size_is_named() -> None:
    def longer(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return layer(x) if x.shape[1] < 4 else 2 * layer(x)

    model, (note,) = build_packed(Fn(longer, nn.Linear(4, 4)), {}, X, ({1: "time"},))
    assert model.graph is None
    assert "computes differently at other sizes" in note and "Cure: leave that axis out of dynamic" in note


def test_without_names_a_file_is_as_it_was() -> None:
    graph = capture(nn.Sequential(nn.Linear(4, 2)), X).graph
    named = capture(nn.Sequential(nn.Linear(4, 2)), X, {"input": {0: "batch"}}).graph
    assert (graph.nodes, graph.outputs) == (named.nodes, named.outputs)
    assert graph.inputs[0].shape == named.inputs[0].shape == (None, 3, 4)
    assert (graph.inputs[0].name, named.inputs[0].name, named.inputs[0].axes) == ("", "input", ())
    assert encode(build_packed(nn.Sequential(nn.Linear(4, 2)), {}, X)[0]).count(b"batch") == 0


def test_a_rule_that_is_wrong_at_another_length_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(low: Any, call: Any) -> Any:
        return low.emit("slice", low.emit("relu", call.value("self")), axis=1, end=3)

    monkeypatch.setitem(RULES, torch.ops.aten.relu, wrong)
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model, (note,) = build_packed(module, {}, X, {"input": {1: "time"}})
    assert model.graph is None and "(2, 4, 4)" in note


def _with_places(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Rows and columns of an image as two more channels, from -1 to 1 (CoordConv, arXiv:1807.03247)."""
    rows = torch.linspace(-1, 1, x.shape[2])
    columns = torch.linspace(start=-1.0, end=1.0, steps=x.shape[3], device=x.device, dtype=x.dtype)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return layer(torch.cat([x, grid.expand(x.shape[0], -1, -1, -1)], 1))


def test_a_grid_of_places_takes_any_size() -> None:
    module, x = Fn(_with_places, nn.Conv2d(3, 4, 3, padding=1)), torch.randn(2, 1, 5, 6)
    dynamic = ({0: "batch", 2: "height", 3: "width"},)
    network = Network.from_packed(build_packed(module, {}, x, dynamic)[0])
    for shape in ((2, 1, 5, 6), (1, 1, 9, 4), (3, 1, 1, 7)):
        given = torch.randn(shape)
        np.testing.assert_allclose(
            np.asarray(network(given.numpy())), module(given).detach(), rtol=1e-5, atol=1e-5
        )


def test_a_fixed_number_of_places_stays_pytorchs() -> None:
    module = Fn(lambda layer, x: layer(x) + torch.linspace(0, 1, 4), nn.Linear(4, 4))
    graph = build_packed(module, {}, X)[0].graph
    assert graph is not None and [node.op for node in graph.nodes] == ["linear", "add"]
