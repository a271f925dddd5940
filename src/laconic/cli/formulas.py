"""Formulas of docstrings as plain text, for help at a terminal. No torch."""

from __future__ import annotations

import re

_WORDS = {
    r"\,": " ", r"\;": " ", r"\!": "", r"\quad": "  ", r"\|": "|", r"\_": "_",
    r"\cdot": "*", r"\times": "x", r"\sim": "~", r"\le": "<=", r"\ge": ">=", r"\neq": "!=",
    r"\in": "in",
    r"\propto": "proportional to", r"\to": "->", r"\infty": "infinity", r"\left": "", r"\right": "",
    r"\Big": "", r"\big": "", r"\odot": "*", r"\dots": "...", r"\ldots": "...", r"\{": "{", r"\}": "}",
}  # fmt: skip
_ARGUMENT = r"\{((?:[^{}]|\{[^{}]*\})*)\}"


def plain_formulas(text: str) -> str:
    r"""A docstring whose formulas, written in LaTeX, read as plain text.

    >>> print(plain_formulas(".. math:: \\sum_n -\\log \\mathrm{softmax}(z_n)_{y_n} + \\frac{a}{2 s^2}"))
    sum_n -log softmax(z_n)_(y_n) + a / (2 s^2)
    """
    text = re.sub(r"\.\. math::\s*", "", text)
    return "\n".join(_plain(line) if "\\" in line else line for line in text.split("\n"))


def _plain(line: str) -> str:
    line = line.replace(r"\frac12", "1/2 ")
    line = re.sub(r"\\(?:mathrm|mathbf|mathcal|text|operatorname)" + _ARGUMENT, r"\1", line)
    line = re.sub(r"\\(bar|tilde|hat)\s*(\w)", r" \2_\1", line)
    line = re.sub(r"\\sqrt" + _ARGUMENT, r"sqrt(\1)", line)
    line = re.sub(r"\\frac" + _ARGUMENT + _ARGUMENT, _quotient, line)
    for command, word in sorted(_WORDS.items(), key=lambda pair: -len(pair[0])):
        bounded = re.escape(command) + (r"(?![a-zA-Z])" if command[-1].isalpha() else "")
        line = re.sub(bounded, word, line)
    line = re.sub(r"(?<=[\w)}])\\([a-zA-Z]+)", r" \1 ", line)  # a Greek letter, a function, a sum
    line = re.sub(r"\\([a-zA-Z]+)", r"\1 ", line)
    while (inner := re.sub(r"([_^])" + _ARGUMENT, r"\1(\2)", line)) != line:
        line = inner
    indent = len(line) - len(line.lstrip())
    line = re.sub(r" {2,}", " ", line.strip())
    line = re.sub(r" ([_^)])", r"\1", line)
    line = re.sub(r"([(^]) ", r"\1", line)
    return " " * indent + re.sub(r"(log|exp|sigma) \(", r"\1(", line)


def _quotient(found: re.Match[str]) -> str:
    above, below = (part if re.fullmatch(r"\w+", part) else f"({part})" for part in found.groups())
    return f"{above} / {below}"
