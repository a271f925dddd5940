"""The rules of the house that no linter knows: sizes, randomness, assertions, and cures of refusals.

Each rule is a function from source text to a list of violations, ``line: what is wrong``. Run as a
script it checks a package's folder: ``python tests/helpers/house_rules.py src/laconic``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

MAX_BODY_LINES = 60
MAX_FILE_LINES = 400

T = TypeVar("T", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[str], list[str]]

_DRAWS = "rand randn randint randperm normal bernoulli multinomial poisson rand_like randn_like randint_like"
_IN_PLACE = "normal_ uniform_ bernoulli_ random_ exponential_ geometric_ cauchy_ log_normal_ trunc_normal_"
_INITS = "kaiming_uniform_ kaiming_normal_ xavier_uniform_ xavier_normal_ orthogonal_"
TORCH_DRAWS = frozenset(_DRAWS.split())
TENSOR_DRAWS = frozenset(f"{_IN_PLACE} {_INITS}".split())
TORCH_SEEDS = frozenset(
    {"torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.set_rng_state"}
)
REFUSALS = frozenset({"InputError", "DataError", "ModelError", "ScaleError", "RunFolderError"})
RELAYED = frozenset({"problem", "why"})
"""Names of texts that say their cure themselves, where a message ends with one."""

NUMPY_ALLOWED = frozenset({"default_rng", "Generator", "PCG64", "SeedSequence", "BitGenerator"})

# (file, rule) -> why it may. An exception that is no longer needed is itself a violation.
EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("train/randomness.py", "global_random"): "seeds the global generators for an epoch, and puts them back",
    (
        "checkpoints/forms.py",
        "refusals",
    ): "quantised() catches the one for float16; its own calls keep the rest",
    (
        "pack/file/lazy.py",
        "refusals",
    ): "its own calls: a sum is asked only of a tensor that was found in chunks",
    ("pack/file/rows.py", "refusals"): "its own call: rows come from chunks only where there are some",
    ("pack/kinds/random_codes.py", "refusals"): "the reader raises it again as a damaged file",
    ("pack/kinds/shifted.py", "refusals"): "the reader raises it again as a damaged file",
    ("runtime/engines/few_bits.py", "refusals"): "its own calls: the engine chose the tensors that fit",
    ("runtime/engines/own.py", "refusals"): "its own calls: the engine chose the tensors that fit",
    ("runtime/onnx_model/plan.py", "refusals"): "its own nodes, which it gave their numbers",
    ("structure/trials.py", "refusals"): "the loop before it returns or raises",
    ("train/checkpoint.py", "refusals"): "load_checkpoint adds the cure",
    ("train/resume.py", "refusals"): "passes an error on with its cure",
}


def long_functions(source: str) -> list[str]:
    """Functions whose body, without its docstring, has more than 60 lines."""
    found = []
    for function in _functions(ast.parse(source)):
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        lines = 1 + (body[-1].end_lineno or 0) - body[0].lineno if body else 0
        if lines > MAX_BODY_LINES:
            found.append(f"{function.lineno}: {function.name} has {lines} lines (at most {MAX_BODY_LINES})")
    return found


def long_file(source: str) -> list[str]:
    """More than 400 lines."""
    lines = len(source.splitlines())
    return (
        [f"{lines}: the file has {lines} lines (at most {MAX_FILE_LINES})"] if lines > MAX_FILE_LINES else []
    )


def global_random(source: str) -> list[str]:
    """Draws from (or seeds) generators that nobody handed in: torch's, NumPy's, the standard library's."""
    return [
        f"{call.lineno}: {name}: {why}"
        for call in _nodes(source, ast.Call)
        if (why := _draws_globally(call, name := _dotted(call.func)))
    ]


def asserts(source: str) -> list[str]:
    """``assert`` statements: python -O drops them, and users deserve a named error."""
    return [f"{node.lineno}: assert; raise an error of laconic.errors" for node in _nodes(source, ast.Assert)]


def bare_excepts(source: str) -> list[str]:
    """``except:`` without a class."""
    handlers = _nodes(source, ast.ExceptHandler)
    return [f"{node.lineno}: except without a class" for node in handlers if node.type is None]


def mutable_globals(source: str) -> list[str]:
    """``global`` statements: state that outlives its call."""
    return [f"{node.lineno}: global {', '.join(node.names)}" for node in _nodes(source, ast.Global)]


def refusals(source: str) -> list[str]:
    """Errors for a caller whose message is written on the spot and says no cure.

    The cure is in the text, or in a name that says so (``{_CURE}``). A message that is built elsewhere, or
    that ends with such a text (``RELAYED``), is not looked into.
    """
    return [
        f"{call.lineno}: {name} without a cure; end it with '. Cure: ' and what its caller can do"
        for call in _nodes(source, ast.Call)
        if (name := _dotted(call.func).split(".")[-1]) in REFUSALS
        and any(_is_written(text) and not _says_cure(text) for text in call.args[:1])
    ]


RULES: tuple[Rule, ...] = (
    long_functions,
    long_file,
    global_random,
    asserts,
    bare_excepts,
    mutable_globals,
    refusals,
)


def check_folder(
    folder: Path, exceptions: Mapping[tuple[str, str], str] = EXCEPTIONS, rules: tuple[Rule, ...] = RULES
) -> list[str]:
    """All violations in a package's folder, and the exceptions that nothing needs any more."""
    found, used = [], set()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        source = path.read_text(encoding="utf-8")
        for rule in rules:
            violations = rule(source)
            if violations and (name, rule.__name__) in exceptions:
                used.add((name, rule.__name__))
            else:
                found += [f"{path}:{text} [{rule.__name__}]" for text in violations]
    stale = [key for key in exceptions if key not in used]
    return found + [f"{folder / name}: the exception from {rule} is not needed" for name, rule in stale]


def _draws_globally(call: ast.Call, name: str) -> str:
    """Why a call draws from a global generator, or an empty text."""
    *owner, last = name.split(".")
    handed_in = any(keyword.arg == "generator" for keyword in call.keywords)
    if name in TORCH_SEEDS:
        return "seeds the global generator"
    if owner == ["torch"] and last in TORCH_DRAWS and not handed_in:
        return "draws from the global generator; pass generator="
    if owner and last in TENSOR_DRAWS and not handed_in:
        return "draws from the global generator; pass generator="
    if owner in (["np", "random"], ["numpy", "random"]):
        if last not in NUMPY_ALLOWED:
            return "draws from NumPy's global generator; hand in a numpy Generator"
        if last == "default_rng" and not (call.args or call.keywords):
            return "is seeded by chance; hand in a seed"
    if owner == ["random"]:
        return "draws from Python's global generator; hand in a generator"
    return ""


def _is_written(text: ast.expr) -> bool:
    """Whether a message is a literal, or a sum of them, that does not end with a text from elsewhere."""
    if isinstance(text, ast.BinOp):
        return _is_written(text.right)
    if isinstance(text, ast.JoinedStr):
        last = text.values[-1]
        return not (isinstance(last, ast.FormattedValue) and _dotted(last.value) in RELAYED)
    return isinstance(text, ast.Constant)


def _says_cure(text: ast.expr) -> bool:
    said = (node.value for node in ast.walk(text) if isinstance(node, ast.Constant))
    names = (_dotted(node) for node in ast.walk(text) if isinstance(node, ast.Name | ast.Attribute))
    return any("Cure: " in str(word) for word in said) or any("cure" in name.lower() for name in names)


def _dotted(node: ast.expr) -> str:
    """``a.b.c`` of a name or attribute; ``?`` stands for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return "?"


def _nodes(source: str, kind: type[T]) -> Iterator[T]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, kind))


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


if __name__ == "__main__":
    violations = check_folder(Path(sys.argv[1]))
    print("\n".join(violations) or "Rules of the house: kept")
    sys.exit(1 if violations else 0)
