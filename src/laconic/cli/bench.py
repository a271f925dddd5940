"""``laconic bench``: times of the engines and of the original network. No torch unless asked for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.cli.scoring import reading
from laconic.cli.settings import check_threads
from laconic.cli.sources import network_named
from laconic.cli.trust import limits_of
from laconic.errors import InputError
from laconic.records import AnyArray

if TYPE_CHECKING:
    from laconic.runtime import Engine, Network

Call = Callable[[], object]


def run_bench(
    path: str,
    batches: Sequence[int],
    threads: int,
    engines: Sequence[str] = (),
    original: str | None = None,
    *,
    trusted: bool = False,
) -> int:
    """Print medians (and the 10th and 90th percentiles) of load and predict times, in milliseconds."""
    from laconic.runtime import load

    limits = limits_of(trusted)
    check_threads(threads)
    if min(batches) < 1:
        raise InputError(f"bench: a batch must be at least 1, got {min(batches)}. Cure: --batch 1 64")
    names = _engines(engines)
    with reading(path):
        load(path, threads=threads, engine=names[0], batch=batches[0], limits=limits)
    peer = _original(original, threads) if original is not None else None
    loads = [_timed(lambda: load(path, threads=threads, engine=names[0], limits=limits)) for _ in range(5)]
    print(f"load (decode + build)   {_spread(loads)}  {names[0]}")
    for batch in batches:
        networks = {
            name: load(path, threads=threads, engine=name, batch=batch, limits=limits) for name in names
        }
        _bench_batch(networks, peer, batch)
    print(f"threads {threads}")
    return 0


def _engines(asked: Sequence[str]) -> list[Engine]:
    """The engines to compare: those asked for, or all that are installed, the dense float32 one first."""
    from laconic.runtime.engines.openvino import installed
    from laconic.runtime.origin import ENGINES

    for name in asked:
        if name not in ENGINES:
            raise InputError(f"bench: no engine is called {name!r}. Cure: one of {', '.join(ENGINES)}")
    usual: list[Engine] = ["onnxruntime", "auto", "fastest"]
    if installed():
        usual.append("openvino")
    return [name for name in ENGINES if name in asked] if asked else usual


def _bench_batch(networks: Mapping[Engine, Network], peer: Callable[..., Call] | None, batch: int) -> None:
    """One table: a line for each engine whose layers differ, the layers' implementations, and the fastest."""
    first = next(iter(networks.values()))
    generator = np.random.default_rng(0)
    arrays = [_random_input(s.dtype, s.shape, batch, generator) for s in first.inputs]
    calls: dict[str, Call] = {}
    same: list[str] = []
    for name, network in networks.items():
        if name in ("auto", "fastest") and "onnxruntime" in networks and _all_dense(network):
            same.append(name)
        else:
            calls[name] = lambda net=network: net(*arrays)  # type: ignore[misc]
    if peer is not None:
        calls["original"] = peer(arrays)
    times = _interleaved(calls, max(20, 400 // batch))
    for who, column in times.items():
        print(f"predict, batch {batch:<8} {_spread(column)}  {who}")
    for who in same:
        print(f"  {who}: dense float32 in every layer, as onnxruntime")
    for name, network in networks.items():
        if name not in same:
            for layer in network.layers:
                print(f"  {name}: {layer}")
    if len(times) > 1:
        print(f"  {_verdict(times)}")


def _all_dense(network: Network) -> bool:
    return all(layer.implementation == "dense" for layer in network.layers)


def _interleaved(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call; the calls alternate, so that other load affects all of them alike."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(_timed(call))
    return times


def _verdict(times: Mapping[str, Sequence[float]]) -> str:
    """The fastest by medians, with its ratios; none where its 90th percentile reaches the next median.

    >>> _verdict({"a": [1.0, 1.0, 1.1], "b": [3.0, 3.1, 3.0]})
    'a wins: 3.00x over b'
    >>> _verdict({"a": [1.0, 1.1, 1.4], "b": [1.2, 1.2, 1.3]})
    'a and b are too close to call (medians 1.100 and 1.200 ms)'
    """
    medians = {name: statistics.median(column) for name, column in times.items()}
    best, *others = sorted(medians, key=lambda name: medians[name])
    high = _percentile(times[best], 0.9)
    close = [name for name in others if medians[name] <= high]
    if close:
        return (
            f"{best} and {', '.join(close)} are too close to call (medians {medians[best]:.3f} and "
            f"{', '.join(f'{medians[name]:.3f}' for name in close)} ms)"
        )
    return f"{best} wins: " + ", ".join(f"{medians[n] / medians[best]:.2f}x over {n}" for n in others)


def _original(text: str, threads: int) -> Callable[[list[AnyArray]], Call]:
    """The network that was compressed: a function that returns a torch module, or an ONNX file."""
    if text.endswith(".onnx"):
        return _onnx_file(text, threads)
    if ":" not in text:
        raise InputError(
            f"bench: --original {text} should be package.module:function or a .onnx file. "
            "Cure: a function that returns the network, or hf:NAME or timm:NAME of a pretrained one"
        )
    try:
        import torch
    except ModuleNotFoundError as error:
        raise InputError(
            "bench: the original network needs torch, which the plain install leaves out. "
            "Cure: pip install 'laconic[train]', or --original FILE.onnx"
        ) from error
    module = network_named(text, "--original")
    if not isinstance(module, torch.nn.Module):
        raise InputError(
            f"--original {text} should return a torch module, got a {type(module).__name__}. Cure: name a "
            "function that returns one"
        )
    torch.set_num_threads(threads)
    module.eval()

    def prepared(arrays: list[AnyArray]) -> Call:
        inputs = [torch.from_numpy(array) for array in arrays]

        def call() -> object:
            with torch.inference_mode():
                return module(*inputs)

        return _checked(call, text)

    return prepared


def _onnx_file(path: str, threads: int) -> Callable[[list[AnyArray]], Call]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    with reading(path), open(path, "rb"):
        pass
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a family of its own
        raise InputError(
            f"--original {path} is no ONNX network: {error}. Cure: the .onnx file of the network that was "
            "compressed"
        ) from error
    names = [value.name for value in session.get_inputs()]

    def prepared(arrays: list[AnyArray]) -> Call:
        return _checked(lambda: session.run(None, dict(zip(names, arrays, strict=True))), path)

    return prepared


def _checked(call: Call, text: str) -> Call:
    """The call, after one trial: the original must accept the file's inputs."""
    try:
        call()
    except Exception as error:  # the network is the user's, so anything may come out of it
        raise InputError(
            f"--original {text} cannot run on the file's inputs: {type(error).__name__}: {error}. "
            "Cure: the network that was compressed into this file"
        ) from error
    return call


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


def _percentile(times: Sequence[float], share: float) -> float:
    ordered = sorted(times)
    tenth = len(ordered) // 10
    return ordered[-1 - tenth] if share > 0.5 else ordered[tenth]


def _spread(times: Sequence[float]) -> str:
    low, high = _percentile(times, 0.1), _percentile(times, 0.9)
    return f"{statistics.median(times):9.3f} ms  ({low:.3f} .. {high:.3f})"


def _random_input(
    dtype: str, shape: tuple[int | None, ...], batch: int, generator: np.random.Generator
) -> AnyArray:
    sizes = tuple(batch if n is None else n for n in shape)
    if np.issubdtype(np.dtype(dtype), np.floating):
        return generator.standard_normal(sizes).astype(dtype)
    return np.zeros(sizes, dtype=dtype)
