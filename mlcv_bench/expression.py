"""Arithmetic as text: read under a small safe grammar, and written out again as lines of assignments.

Nothing a user types is ever evaluated as Python: it is parsed into a tree, every node of the tree is checked, and the
code that runs is written from the checked tree. The same lines run on floats, in numba lanes and on torch tensors.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.functions import TABLE, Function, maximum, minimum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

FUNCTIONS = {name: function for name, function in TABLE.items() if name != "power"} | {"max": maximum, "min": minimum}
"""What a formula may call: the table's names, and what people write for two of them."""
CONSTANTS = {"pi": math.pi, "e": math.e}
LONGEST_SHOWN = 60
DEEPEST = 100  # Python itself reads at most 200 brackets inside each other, and generated code adds some
LARGEST_EXPONENT = 64
LARGEST_PRODUCT = 8  # the highest whole power written out as a product
_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def parse(text: str) -> ast.expr:
    """Read one arithmetic expression: numbers, names, + - * / **, brackets, and the FUNCTIONS.

    Raises:
        UsageError: the text is not such an expression; the message says what the grammar takes.

    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        deep = depth_of(tree) > DEEPEST or depth_of(tree := _Pairs().visit(tree)) > DEEPEST
        if not deep:
            check(tree, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        msg = f"'{brief(text)}' cannot be read as a formula; write for example 0.5*(x^2 + 100*y^2)"
        raise UsageError(msg) from error
    if deep:
        msg = f"the formula is nested more than {DEEPEST} deep, every term of a sum counted; write it in fewer"
        raise UsageError(msg)
    return tree


class _Pairs(ast.NodeTransformer):
    """Writes max(a, b, c) by the table's function of two values: maximum(maximum(a, b), c)."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Return the calls of two values each."""
        self.generic_visit(node)
        function = FUNCTIONS.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if function is None or function.arguments == 1 or len(node.args) < function.arguments or node.keywords:
            return node
        name = ast.Name(function.name, ast.Load())
        return functools.reduce(lambda first, second: ast.Call(name, [first, second], []), node.args)


def brief(text: str) -> str:
    """Return a formula short enough for one sentence about it."""
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def depth_of(tree: ast.expr) -> int:
    """Return how many operations are inside each other, counted without recursion."""
    depth, level = 0, [tree]
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return depth


def check(node: ast.expr, text: str, functions: Mapping[str, Function] = FUNCTIONS) -> None:
    """Refuse every node that is not arithmetic with these functions."""
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            _check_size(node, text)
            return
        case ast.Name(id=name):
            if name.lower() in {"nan", "inf", "infinity"}:
                msg = f"'{brief(text)}': {name} is no finite number; a formula takes finite numbers and names such as x"
                raise UsageError(msg)
            return
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            check(operand, text, functions)
            return
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            check(left, text, functions)
            check(right, text, functions)
            size = value_of(right)
            if size is not None and abs(size) > LARGEST_EXPONENT:
                msg = f"'{brief(text)}': the exponent {size:g} is too large; at most {LARGEST_EXPONENT} is taken"
                raise UsageError(msg)
            _check_size(node, text)
            return
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            check(left, text, functions)
            check(right, text, functions)
            _check_size(node, text)
            return
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if (
            name in functions and len(arguments) == functions[name].arguments
        ):
            for argument in arguments:
                check(argument, text, functions)
            _check_size(node, text)
            return
    shown = ast.unparse(node)
    takes = f"numbers, names, + - * / ^ ** and {', '.join(functions)}"
    msg = f"'{brief(text)}': {shown[:40]} is not arithmetic; a formula takes {takes}"
    raise UsageError(msg)


def _check_size(node: ast.expr, text: str) -> None:
    """Refuse a constant that no float holds: exact arithmetic on it would never end."""
    value = value_of(node)
    if value is not None and math.isinf(value):
        msg = f"'{brief(text)}': {ast.unparse(node)[:40]} is too large for a number; numbers up to 1.7e308 are taken"
        raise UsageError(msg)


def evaluated(
    node: ast.expr,
    names: Mapping[str, Any],
    number: Callable[[Any], Any] = float,
    power: Callable[[Any, Any], Any] = math.pow,
) -> Any:  # noqa: ANN401 - floats or symbols, as the names are
    """Return the value of a checked tree: of floats, or of other numbers that `number` makes of a constant."""

    def of(node: ast.expr) -> Any:  # noqa: ANN401 - as above
        return evaluated(node, names, number, power)

    match node:
        case ast.Constant(value=value):
            return number(value)
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(op=op, operand=operand):
            return -of(operand) if isinstance(op, ast.USub) else of(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return power(of(left), of(right))
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](of(left), of(right))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return TABLE[name](*map(of, arguments))
    msg = f"{ast.unparse(node)} is not arithmetic"
    raise UsageError(msg)


def value_of(node: ast.expr) -> float | None:
    """Return the value of an expression without variables, infinite where it overflows, or None."""
    try:
        return float(evaluated(node, CONSTANTS))
    except OverflowError:
        return math.inf
    except (KeyError, ValueError, ZeroDivisionError):
        return None


def number_of(node: ast.expr) -> float | None:
    """Return the value of a literal number or of its negative, or None."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = number_of(operand)
            return None if inner is None else -inner
    return None


def names_in(node: ast.expr) -> set[str]:
    """Return the names that an expression reads, its functions left out."""
    functions = {
        call.func.id for call in ast.walk(node) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} - functions


def is_zero(node: ast.expr) -> bool:
    """Tell whether an expression is the constant 0."""
    return number_of(node) == 0.0


class Writer:
    """Writes expressions as lines of assignments, common parts once.

    Powers become what every engine computes alike: whole ones products, halves square roots. `hoist` may take a part
    out of the line, to be computed once instead of at each step.
    """

    def __init__(self, hoist: Callable[[ast.expr], str | None] | None = None) -> None:
        """Begin with no line."""
        self.lines: list[str] = []
        self._hoist = hoist
        self._count = 0

    def assign(self, target: str, node: ast.expr, names: Mapping[str, str]) -> None:
        """Write `target = node`, with every name replaced by what `names` has for it."""
        self.lines.append(f"{target} = {_Text(self, names, {}).of(node)}")

    def assign_all(self, targets: Sequence[str], nodes: Sequence[ast.expr], names: Mapping[str, str]) -> None:
        """Write several assignments that read the same names; a part they share is computed once."""
        uses: dict[str, int] = {}
        for node in nodes:
            _count_uses(node, uses)
        text = _Text(self, names, uses)
        for target, node in zip(targets, nodes, strict=True):
            self.lines.append(f"{target} = {text.of(node)}")

    def temporary(self, text: str) -> str:
        """Give `text` a name of its own."""
        self._count += 1
        name = f"w{self._count}"
        self.lines.append(f"{name} = {text}")
        return name

    def hoisted(self, node: ast.expr) -> str | None:
        """Return the name of what is computed outside the line, or None."""
        return self._hoist(node) if self._hoist is not None else None


class _Text:
    """The text of expressions that read the same names."""

    def __init__(self, writer: Writer, names: Mapping[str, str], uses: Mapping[str, int]) -> None:
        self._writer = writer
        self._names = names
        self._uses = uses
        self._known: dict[str, str] = {}

    def of(self, node: ast.expr) -> str:
        """Return the text of one expression, in brackets where it is not a single name or number."""
        if isinstance(node, ast.Constant):
            return repr(float(node.value))  # type: ignore[arg-type] # the grammar lets numbers alone through
        if isinstance(node, ast.Name):
            if node.id in self._names:
                return self._names[node.id]
            return repr(CONSTANTS[node.id])
        key = ast.dump(node)
        if key in self._known:
            return self._known[key]
        outside = self._writer.hoisted(node)
        if outside is not None:
            return outside
        text = self._written(node)
        if self._uses.get(key, 0) > 1 and number_of(node) is None:
            text = self._known[key] = self._writer.temporary(text)
        return text

    def _written(self, node: ast.expr) -> str:
        match node:
            case ast.UnaryOp(op=op, operand=operand):
                return f"(-{self.of(operand)})" if isinstance(op, ast.USub) else self.of(operand)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self._power(left, right)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                # Dividing by what is known before the loop is multiplying by its reciprocal: dividers are slow.
                outside = self._writer.hoisted(ast.BinOp(ast.Constant(1.0), ast.Div(), right))
                return f"({self.of(left)} * {outside})" if outside else f"({self.of(left)} / {self.of(right)})"
            case ast.BinOp(left=left, op=op, right=right):
                return f"({self.of(left)} {_OPERATORS[type(op)]} {self.of(right)})"
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return f"{name}({', '.join(map(self.of, arguments))})"
        msg = f"{ast.unparse(node)} is not arithmetic"
        raise UsageError(msg)

    def _power(self, left: ast.expr, right: ast.expr) -> str:
        exponent = number_of(right)
        base = self.of(left)
        if exponent is None or not (2 * exponent).is_integer() or abs(exponent) > LARGEST_PRODUCT:
            return f"power({base}, {self.of(right)})"
        if exponent == 0:
            return "1.0"
        size = abs(exponent)
        whole = int(size)
        if whole + (size != whole) > 1 and not base.isidentifier():
            base = self._writer.temporary(base)
        factors = [base] * whole + ([f"sqrt({base})"] if size != whole else [])
        text = factors[0] if len(factors) == 1 else f"({' * '.join(factors)})"
        return text if exponent > 0 else f"(1.0 / {text})"


def _count_uses(node: ast.expr, uses: dict[str, int]) -> None:
    key = ast.dump(node)
    uses[key] = uses.get(key, 0) + 1
    if uses[key] == 1:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.BinOp | ast.UnaryOp | ast.Call):
                _count_uses(child, uses)


def function_from(
    name: str, arguments: Iterable[str], lines: Iterable[str], namespace: Mapping[str, Any]
) -> Callable[..., Any]:
    """Compile generated lines into a function; they come from checked trees, never from a user's text."""
    body = "\n".join(f"    {line}" for line in lines)
    source = f"def {name}({', '.join(arguments)}):\n{body}\n"
    place: dict[str, Any] = dict(namespace)
    exec(compile(source, f"<generated {name}>", "exec"), place)  # noqa: S102 - written by Writer from checked trees
    return place[name]  # type: ignore[no-any-return] # exec returns nothing
