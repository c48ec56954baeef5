"""Formulas as people print them: `x^2 + 100 y^2` as `x**2 + 100*y**2`, for the grammar of `expression`."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass

from mlcv_bench.errors import UsageError
from mlcv_bench.surfaces.expression import FUNCTIONS, brief

_TOKEN = re.compile(
    r"(?P<space>\s*)"
    r"(?:(?P<number>(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<sign>\*\*|\S))"
)


@dataclass(frozen=True)
class _Token:
    text: str
    kind: str
    spaced: bool

    @property
    def begins(self) -> bool:
        """Whether a factor that needs no sign before it may begin here: numbers do not, `x 2` says nothing."""
        return self.kind == "name" or self.text == "("

    @property
    def ends(self) -> bool:
        return self.text == ")" or self.kind == "number" or (self.kind == "name" and self.text not in FUNCTIONS)

    @property
    def single(self) -> bool:
        """Whether this is a name such as x or x1: before a bracket, a longer one is a misspelt function."""
        return self.kind == "name" and (len(self.text) == 1 or self.text[1:].isdigit())


def as_code(text: str) -> str:
    """Return a formula with every power written `**` and every product `*`.

    `^` is a power. A product may go without its sign: `2x`, `100 y`, `x y`, `2(x + 1)`, `(x + 1)(x - 1)`, `3 exp(-x)`,
    and `x (y + 1)` with a space. Names stay whole: `xy` is one variable. A power takes the next number or name alone.

    Raises:
        UsageError: a product without its sign stands after a division, where people read it in two ways (a fraction of
            two numbers and a space, as in `1/2 x`, is read in one), or a function stands without brackets.

    """
    tokens = [
        _Token(found["number"] or found["name"] or found["sign"], str(found.lastgroup), bool(found["space"]))
        for found in _TOKEN.finditer(text)
    ]
    if any(keyword.iskeyword(token.text) for token in tokens):
        return text
    written: list[str] = []
    divided = [False]  # whether a product without a sign would stand after a division, for every open bracket
    for i, token in enumerate(tokens):
        before = tokens[i - 1] if i else _Token("", "sign", spaced=False)
        if before.text in FUNCTIONS and token.text != "(":
            raise UsageError(f"'{brief(text)}': {before.text} takes brackets; write {before.text}({token.text})")
        if before.ends and token.begins and _is_product(before, token):
            if divided[-1] and not _is_fraction(tokens[:i], token):
                raise UsageError(
                    f"'{brief(text)}': a product without its sign after a division can be read in two ways; "
                    "write it with * and brackets, as 1/(2*x) or (1/2)*x"
                )
            divided[-1] = False
            written.append("*")
        if token.text == "(":
            divided.append(False)
        elif token.text == ")" and len(divided) > 1:
            divided.pop()
        elif token.text == "/" or (token.text in {"+", "-", "*"} and before.ends):
            divided[-1] = token.text == "/"
        written.append(" " * token.spaced + ("**" if token.text == "^" else token.text))
    return "".join(written)


def _is_product(before: _Token, token: _Token) -> bool:
    return before.kind != "name" or token.text != "(" or (token.spaced and before.single)


def _is_fraction(tokens: list[_Token], token: _Token) -> bool:
    """Tell whether the last tokens are a fraction of two numbers, no part of a power or another division."""
    *earlier, over, line, under = [_Token("", "sign", spaced=False)] * 4 + tokens
    whole = (over.kind, line.text, under.kind) == ("number", "/", "number")
    return whole and token.spaced and earlier[-1].text not in {"/", "^", "**"}
