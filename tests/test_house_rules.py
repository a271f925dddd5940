"""Each rule of the house is able to see a breach; `make check` holds the package against them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import house_rules as rules


def lines(count: int, indent: str = "    ") -> str:
    return "".join(f"{indent}x = {i}\n" for i in range(count))


def test_long_functions() -> None:
    docstring = '    """One.\n' + "\n" * 30 + '    """\n'
    assert rules.long_functions("def f():\n" + docstring + lines(60)) == []
    assert rules.long_functions("def f():\n" + docstring + lines(61)) == ["1: f has 61 lines (at most 60)"]
    inside = "class A:\n    async def g(self):\n" + lines(70, "        ")
    assert rules.long_functions(inside) == ["2: g has 70 lines (at most 60)"]
    assert rules.long_functions('def f():\n    """Only words."""\n') == []


def test_long_file() -> None:
    assert rules.long_file(lines(400, "")) == []
    assert len(rules.long_file(lines(401, ""))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "torch.manual_seed(0)",
        "torch.randn(3)",
        "torch.rand_like(x)",
        "torch.bernoulli(p)",
        "x.normal_()",
        "self.weight.data.uniform_(-1, 1)",
        "(a + b).bernoulli_(0.5)",
        "nn.init.kaiming_uniform_(w)",
        "np.random.seed(0)",
        "np.random.rand(3)",
        "numpy.random.shuffle(x)",
        "np.random.default_rng()",
        "random.shuffle(x)",
    ],
)
def test_global_random_sees(line: str) -> None:
    assert len(rules.global_random(f"def f():\n    {line}\n")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "torch.randn(3, generator=g)",
        "x.normal_(generator=g)",
        "np.random.default_rng(7)",
        "np.random.Generator(np.random.PCG64(seed))",
        "generator.normal(size=3)",
        "g = torch.Generator().manual_seed(0)",
        "Normal()",
        "torch.distributions.Normal(0, 1)",
    ],
)
def test_global_random_lets_generators_be(line: str) -> None:
    assert rules.global_random(f"def f():\n    {line}\n") == []


def test_asserts_bare_excepts_and_globals() -> None:
    assert rules.asserts("def f(x):\n    assert x > 0\n") == ["2: assert; raise an error of laconic.errors"]
    assert rules.asserts("text = 'assert nothing'\n") == []
    assert rules.bare_excepts("try:\n    pass\nexcept:\n    pass\n") == ["3: except without a class"]
    assert rules.bare_excepts("try:\n    pass\nexcept OSError:\n    pass\n") == []
    assert rules.mutable_globals("def f():\n    global a, b\n    a = b = 1\n") == ["2: global a, b"]


@pytest.mark.parametrize(
    "line",
    [
        'raise InputError("a step is 0")',
        'raise errors.ModelError(f"step {step} is 0")',
        'raise DataError("no " "batch") from error',
        'raise ScaleError(f"{why}, so nothing fits")',
        'raise RunFolderError("it is damaged: " + f"{path!r} is cut short")',
        'raise InputError(f"{error}")',
        'raise found or InputError("nothing was found")',
        'return InputError("nothing was found")',
        'raise InputError("a step is 0. Cured: no")',
        'raise InputError(f"more than {LARGEST}")',
    ],
)
def test_refusals_sees(line: str) -> None:
    (found,) = rules.refusals(f"def f():\n    {line}\n")
    assert found.startswith("2: ") and "Error without a cure" in found


@pytest.mark.parametrize(
    "line",
    [
        'raise InputError("a step is 0. Cure: step=0.01")',
        'raise InputError(f"step {step} is 0. " "Cure: step=0.01")',
        'raise ModelError(f"{name!r} is split. {_CURE}")',
        'raise ModelError(f"the loss is NaN. Cure: {cures[kind]}")',
        'raise DataError(f"it cannot be read. {place.cure}")',
        'raise InputError(f"tensor {name!r} {problem}")',
        'raise InputError("tensor: " + why)',
        "raise InputError(_misfit(layer))",
        'raise InputError(NO_GRAPH.format(what="none"))',
        'raise CorruptFileError("a step is 0")',
        "raise",
        "kinds = (InputError, DataError)",
    ],
)
def test_refusals_lets_cures_and_relayed_texts_be(line: str) -> None:
    assert rules.refusals(f"def f():\n    {line}\n") == []


def test_a_folder_refuses_a_file_whose_error_has_no_cure(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text('def f(n):\n    if n < 1:\n        raise InputError(f"n is {n}")\n')
    (tmp_path / "right.py").write_text('def f(n):\n    raise InputError(f"n is {n}. Cure: n=1")\n')
    (found,) = rules.check_folder(tmp_path, {})
    assert found.startswith(f"{tmp_path}/wrong.py:3: InputError without a cure; ")
    assert found.endswith(" [refusals]")


def test_a_folder_reports_place_rule_and_stale_exceptions(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "bad.py").write_text("assert True\n")
    found = rules.check_folder(tmp_path, {})
    assert found == [f"{tmp_path}/room/bad.py:1: assert; raise an error of laconic.errors [asserts]"]
    excused = {("room/bad.py", "asserts"): "for the test"}
    assert rules.check_folder(tmp_path, excused) == []
    stale = {**excused, ("room/good.py", "asserts"): "long gone"}
    assert rules.check_folder(tmp_path, stale) == [
        f"{tmp_path}/room/good.py: the exception from asserts is not needed"
    ]
