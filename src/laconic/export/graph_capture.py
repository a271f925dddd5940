"""A plain PyTorch module -> the graph of records that a .lac file carries."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from laconic.errors import CaptureError
from laconic.export.captured import CapturedGraph, finished
from laconic.export.cures import cure_for
from laconic.export.lowering import Call, Lowering, Ref, any_free, is_free, tensors_in
from laconic.export.outputs import described
from laconic.export.program import (
    decomposable,
    decomposed,
    evaluation_copy,
    flat,
    run_example,
    traces,
)
from laconic.export.rules import RULES
from laconic.export.signature import Dynamic, Example, OneCall, free_axes, one_call
from laconic.networks.modules import shared_names

# Arguments that rules may ignore: they are visible in the result's shape and type, or concern the device and
# the memory layout, or have an effect in training only.
_SEEN_IN_RESULT = (
    "size", "shape", "sizes", "output_size", "start_dim", "end_dim", "dtype", "other_dtype",
    "layout", "device", "pin_memory", "memory_format", "non_blocking", "copy", "implicit",
    "momentum", "cudnn_enabled", "cudnn_enable", "scale_grad_by_freq", "sparse", "generator",
)  # fmt: skip
# A single input with one of these generic names is stored without it: its name is then "input", in no bytes.
_USUAL_NAMES = (("x",), ("input",))
_SILENT = ("_assert", "sym_constrain_range", "_guards_fn", "assert_tensor_metadata")


def capture(module: nn.Module, example: Example, dynamic: Dynamic | None = None) -> CapturedGraph:
    """Trace a module in evaluation mode into a graph of the closed operation table.

    Args:
        module: A plain module; it is left as it was.
        example: A tensor, a tuple of tensors, or a mapping of ``forward``'s names: one call's inputs.
        dynamic: The free axes in ``torch.export``'s form, ``{"x": {0: "batch", 1: "time"}}``, by the names of
            ``forward``'s parameters or in their order. Axes of one name have one size; others are fixed to
            the example's. None: dimension 0 of every input is free where the network allows it.

    Returns:
        The graph, and the tensors that it reads.

    Raises:
        InputError: The module refuses the example, or ``dynamic`` does not fit it.
        CaptureError: An operation without a rule (named with its module), or an axis that must be fixed.

    >>> import torch
    >>> graph = capture(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()), torch.zeros(1, 3)).graph
    >>> [node.op for node in graph.nodes], graph.inputs[0].shape
    (['linear', 'relu'], (None, 3))
    >>> gru = torch.nn.GRU(3, 2, batch_first=True)
    >>> free = capture(gru, torch.zeros(1, 5, 3), {"input": {0: "batch", 1: "time"}}).graph.inputs[0]
    >>> free.name, free.sizes
    ('input', ('batch', 'time', 3))
    """
    return captured_call(one_call(module, example), shared_names(module), dynamic)


def captured_call(call: OneCall, names: Mapping[str, str], dynamic: Dynamic | None = None) -> CapturedGraph:
    """:func:`capture` of a call whose inputs are in order already.

    Args:
        call: The module and its inputs.
        names: The module's state-dict names, each with the name under which a shared tensor is stored
            (:func:`laconic.networks.modules.shared_names`).
        dynamic: As for :func:`capture`.
    """
    inputs, arguments = call.names, call.tensors
    free = None if dynamic is None else free_axes(dynamic, inputs, arguments)
    copied = evaluation_copy(call.module)
    if any(p.device.type == "meta" for p in copied.parameters()):
        raise CaptureError("the network's weights are on the meta device, so they have no values")
    answer, plain = run_example(copied, arguments), flat(copied)
    result = described(answer)
    failure: CaptureError | None = None
    for program, notes in traces(plain, arguments, free):
        low = Lowering(
            axis_names={} if free is None else free.names,
            input_names=() if free is None and inputs in _USUAL_NAMES else inputs,
        )
        try:
            results = _lower(_without_unknown(program), low, names)
        except _NoRule:
            raise
        except CaptureError as error:  # the next trace, with other free dimensions, may succeed
            failure = failure or error
            continue
        captured = finished(low, results, copied, names, notes)
        graph = replace(captured.graph, output_names=result.names, keyed=result.keyed)
        return replace(captured, graph=graph)
    raise failure or CaptureError("the network could not be traced")


def _without_unknown(program: ExportedProgram) -> ExportedProgram:
    """Let PyTorch decompose operations without a rule; the rest is refused during lowering."""
    for _ in range(3):
        unknown = {n.target for n in _calls(program) if not _known(n.target)}
        _refuse_early(program, unknown)
        simpler = decomposed(program, unknown) if unknown else None
        if simpler is None:
            break
        program = simpler
    return program


class _NoRule(CaptureError):
    """No other trace of the network would help."""


def _refuse_early(program: ExportedProgram, unknown: set[Any]) -> None:
    """Refuse, before decomposing any, an operation on run-time values without a rule or a decomposition."""
    final = {target for target in unknown if isinstance(target, torch._ops.OpOverload)} - decomposable(
        unknown
    )
    specs = program.graph_signature.input_specs
    inputs = {spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT}
    running: set[torch.fx.Node] = set()
    for node in program.graph.nodes if final else ():
        if node.name in inputs or any(source in running for source in node.all_input_nodes):
            running.add(node)
            if node.target in final and node.users:
                raise _NoRule(_where(node, _without_rule(node.target)))


def _calls(program: ExportedProgram) -> Iterator[torch.fx.Node]:
    return (node for node in program.graph.nodes if node.op == "call_function")


def _known(target: Any) -> bool:
    return (
        not isinstance(target, torch._ops.OpOverload) or target.overloadpacket in RULES or _is_silent(target)
    )


def _is_silent(target: Any) -> bool:
    return any(word in str(target) for word in _SILENT) or str(target).startswith("aten.sym_")


def _lower(program: ExportedProgram, low: Lowering, names: Mapping[str, str]) -> list[Ref]:
    """Walk the program once: placeholders, calls, output."""
    known: dict[torch.fx.Node, Any] = dict(_placeholders(program, low, names))
    for node in program.graph.nodes:
        if node.op == "call_function":
            known[node] = _lower_call(node, known, low)
        elif node.op == "output":
            kinds = [spec.kind for spec in program.graph_signature.output_specs]
            pairs = zip(node.args[0], kinds, strict=True)  # writes to inputs or buffers are no outputs
            leaving = [n for n, kind in pairs if kind is OutputKind.USER_OUTPUT]
            results = [known[n] for n in leaving if isinstance(n, torch.fx.Node)]
            return [_as_output(low, value) for value in results if value is not None]
        elif node.op not in ("placeholder", "get_attr"):
            raise CaptureError(f"the traced program holds a {node.op!r}, which has no rule")
    raise CaptureError("the traced program has no output")


def _as_output(low: Lowering, value: Any) -> Ref:
    """Outputs are values: a tensor of the file passes through an identity node."""
    ref = low.ref(value)
    if ref.id < 0:
        if not low.inputs:
            raise CaptureError("the network has no inputs, so there is nothing to run")
        return low.emit("identity", ref)
    return ref


def _placeholders(
    program: ExportedProgram, low: Lowering, names: Mapping[str, str]
) -> Iterator[tuple[torch.fx.Node, Any]]:
    """Inputs, state-dict tensors and lifted constants of the program, in its order."""
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        spec = specs[node.name]
        target = str(spec.target)
        if spec.kind is InputKind.USER_INPUT:
            value = node.meta.get("val")
            if not isinstance(value, torch.Tensor):
                raise CaptureError(f"input {node.name!r} is not a tensor")
            yield node, low.add_input(tuple(value.shape), value.dtype)
        elif target in names:
            yield node, low.named(names[target], program.state_dict[target])
        else:
            constant = program.constants.get(target, program.state_dict.get(target))
            if not isinstance(constant, torch.Tensor):
                raise CaptureError(f"constant {target!r} is not a tensor")
            yield node, constant.detach()


def _lower_call(node: torch.fx.Node, known: Mapping[torch.fx.Node, Any], low: Lowering) -> Any:
    target: Any = node.target
    result = node.meta.get("val")
    if target is operator.getitem:
        source, index = node.args
        value = known[source][index]  # type: ignore[index]
        if value is None and isinstance(result, torch.Tensor) and node.users:
            raise CaptureError(_where(source, CaptureError(f"its result number {index} has no rule")))  # type: ignore[arg-type]
        return value
    if not isinstance(target, torch._ops.OpOverload) or _is_silent(target):
        return _size_or_refuse(node, result)
    try:
        args = _bind(node, target, known)
        if _all_constant(args, result) and not _is_random(target):
            with torch.no_grad():
                return target(*_look_up(node.args, known), **_look_up(node.kwargs, known))
        return _typed(low, _apply_rule(target, low, args, result), result)
    except CaptureError as error:
        raise CaptureError(_where(node, error)) from error
    except Exception as error:  # a call that the rule does not handle
        reason = CaptureError(f"its rule fails ({type(error).__name__}: {error})")
        raise CaptureError(_where(node, reason)) from error


def _apply_rule(target: Any, low: Lowering, args: Mapping[str, Any], result: Any) -> Any:
    """The value that a rule returns; an argument that the rule did not read must have no effect."""
    rule = RULES.get(target.overloadpacket)
    if rule is None:
        raise _without_rule(target)
    call = Call(target.overloadpacket.__name__, args, result)
    value = rule(low, call)
    defaults = {a.name: a.default_value for a in target._schema.arguments if a.has_default_value()}
    for name in call.unread(*_SEEN_IN_RESULT):
        if name not in defaults or not _equal(args[name], defaults[name]):
            raise CaptureError(f"argument {name!r} has no rule for {_short(args[name])}")
    return value


def _without_rule(target: Any) -> CaptureError:
    why = "it draws random numbers" if _is_random(target) else "it has no rule"
    return CaptureError(f"{why}. {cure_for(target.overloadpacket.__name__)}")


def _is_random(target: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in target.tags


def _equal(value: Any, default: Any) -> bool:
    """Whether an argument, possibly a list or a tensor, is the schema's default."""
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return list(value) == list(default)
    return not isinstance(value, (Ref, torch.Tensor)) and not is_free(value) and bool(value == default)


def _short(value: Any) -> str:
    return "a tensor" if isinstance(value, (Ref, torch.Tensor)) else repr(value)


def _size_or_refuse(node: torch.fx.Node, result: Any) -> Any:
    """Arithmetic on sizes: its result is what the trace says; checks have no result."""
    if result is None or isinstance(result, (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool)):
        return result
    raise CaptureError(_where(node, CaptureError("it has no rule")))


def _where(node: torch.fx.Node, error: Exception) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    place = f"module {path!r} ({kind.rpartition('.')[2]})" if path else "the network's own forward"
    text = str(error).rstrip(".")
    if "Cure:" not in text:
        text += f". {cure_for(str(node.target).removeprefix('aten.').partition('.')[0])}"
    return f"operation {node.target} in {place} cannot be captured: {text}"


def _bind(node: torch.fx.Node, target: Any, known: Mapping[torch.fx.Node, Any]) -> dict[str, Any]:
    """Arguments by the schema's names, defaults filled in."""
    bound: dict[str, Any] = {}
    kwargs = _look_up(node.kwargs, known)
    positional = list(_look_up(node.args, known))
    for k, argument in enumerate(target._schema.arguments):
        if k < len(positional):
            bound[argument.name] = positional[k]
        elif argument.name in kwargs:
            bound[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            bound[argument.name] = argument.default_value
    return bound


def _look_up(arguments: Any, known: Mapping[torch.fx.Node, Any]) -> Any:
    if isinstance(arguments, torch.fx.Node):
        return known[arguments]
    if isinstance(arguments, (list, tuple)):
        return type(arguments)(_look_up(a, known) for a in arguments)
    if isinstance(arguments, Mapping):
        return {k: _look_up(v, known) for k, v in arguments.items()}
    return arguments


def _all_constant(args: Mapping[str, Any], result: Any) -> bool:
    """Whether a call can be computed now: no run-time value, no weight, no free size in it."""
    if any_free(args) or any(isinstance(value, Ref) for value in tensors_in(args)):
        return False
    results = result if isinstance(result, (tuple, list)) else [result]
    return not any(is_free(size) for r in results if isinstance(r, torch.Tensor) for size in r.shape)


def _typed(low: Lowering, value: Any, result: Any) -> Any:
    """Give the values that a rule returns the shapes and types that PyTorch found."""
    if isinstance(value, Ref) and isinstance(result, torch.Tensor):
        if result.dtype in (torch.float64, torch.float16, torch.bfloat16) or result.is_complex():
            kind = str(result.dtype).removeprefix("torch.")
            raise CaptureError(f"it computes in {kind}; networks run in float32. Cure: module.float()")
        typed = replace(value, shape=tuple(result.shape), dtype=result.dtype)
        low.note_sizes(typed)
        return typed
    if isinstance(value, (list, tuple)) and isinstance(result, (tuple, list)):
        return [_typed(low, v, r) for v, r in zip(value, result, strict=False)]
    return value
