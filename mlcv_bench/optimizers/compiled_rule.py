"""A compiled rule: its source as lines of arithmetic, which every engine writes into its inner loop.

A rule may call functions of the table and other rules; what it calls is written out in its place. What depends on the
step's number and the hyperparameters alone (Adam's 1 - beta1**t) is taken out and computed once a step or once a run:
LLVM does not do that by itself, and Python even less. A division by it becomes a multiplication by its reciprocal,
which rounds once more; else the order of operations stays the rule's own.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.expression import Writer, check, function_from, names_in
from mlcv_bench.functions import FLOATS, TABLE, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlcv_bench.optimizers.rule import Rule

PER_TRAJECTORY = ("lr",)
"""Hyperparameters that may differ from lane to lane, so that nothing that reads them is taken out of the loop."""


class _NotArithmeticError(Exception):
    """A function does more than arithmetic."""


@dataclass(frozen=True)
class Body:
    """A function's arithmetic: assignments in order, each of a name of its own, then what it returns."""

    parameters: tuple[str, ...]
    assignments: tuple[tuple[str, ast.expr], ...]
    results: tuple[ast.expr, ...]


def read(function: Callable[..., Any], invariant: set[str]) -> Body | None:
    """Return the arithmetic of a function, or None where it is more than that.

    What depends on `invariant` parameters alone has no assignment: it is written out where it is read.
    """
    parameters = tuple(inspect.signature(function).parameters)
    reader = _Reader(parameters, invariant)
    try:
        results = reader.results(function, {name: ast.Name(name, ast.Load()) for name in parameters})
    except _NotArithmeticError:
        return None
    return Body(parameters, tuple(reader.assignments), results)


class _Reader:
    """Follows a function's statements, and those of the functions that it calls."""

    def __init__(self, parameters: Sequence[str], invariant: set[str]) -> None:
        self.assignments: list[tuple[str, ast.expr]] = []
        self._taken = set(parameters)
        self._invariant = invariant
        self._open: list[Callable[..., Any]] = []

    def results(self, function: Callable[..., Any], values: dict[str, ast.expr]) -> tuple[ast.expr, ...]:
        """Return what a function returns where its names have these values."""
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        except (OSError, TypeError, SyntaxError):
            raise _NotArithmeticError from None
        if function in self._open or not isinstance(tree, ast.FunctionDef):
            raise _NotArithmeticError
        self._open.append(function)
        around = inspect.getclosurevars(function)
        written_out = _WrittenOut(self, values, {**around.builtins, **around.globals, **around.nonlocals})
        for statement in tree.body:
            match statement:
                case ast.Expr(value=ast.Constant()):
                    continue
                case ast.Assign(targets=[ast.Name(id=target)], value=value):
                    values[target] = self.named(target, *_exactly(1, written_out.of(value)))
                case ast.Assign(targets=[ast.Tuple(elts=targets)], value=value):
                    for place, found in zip(targets, _exactly(len(targets), written_out.of(value)), strict=True):
                        if not isinstance(place, ast.Name):
                            raise _NotArithmeticError
                        values[place.id] = self.named(place.id, found)
                case ast.Return(value=ast.expr() as value):
                    results = written_out.of(value)
                    self._open.pop()
                    return results
                case _:
                    break
        raise _NotArithmeticError

    def named(self, name: str, node: ast.expr) -> ast.expr:
        """Return a name for a value that is computed once; a name, and what is known before the loop, stay."""
        if isinstance(node, ast.Name) or names_in(node) <= self._invariant:
            return node
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        self.assignments.append((name, node))
        return ast.Name(name, ast.Load())


class _WrittenOut(ast.NodeTransformer):
    """Puts values in the place of names, and bodies in the place of calls."""

    def __init__(self, reader: _Reader, values: Mapping[str, ast.expr], around: Mapping[str, Any]) -> None:
        self._reader = reader
        self._values = values
        self._around = around

    def of(self, node: ast.expr) -> tuple[ast.expr, ...]:
        """Return an expression, the elements of a tuple, or the results of a function that is called, written out."""
        if isinstance(node, ast.Tuple):
            found = tuple(self.visit(element) for element in node.elts)
        elif isinstance(node, ast.Call) and name_of(self._called(node)) is None:
            found = self._results(node)
        else:
            found = (self.visit(node),)
        for expression in found:
            try:
                check(expression, "", TABLE)
            except UsageError:
                raise _NotArithmeticError from None
        return found

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Return a name's value."""
        if node.id not in self._values:
            raise _NotArithmeticError
        return self._values[node.id]

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Return a call of the table's function, or the result of another one."""
        name = name_of(self._called(node))
        if name is None:
            return _exactly(1, self._results(node))[0]
        return ast.Call(ast.Name(name, ast.Load()), [self.visit(argument) for argument in node.args], node.keywords)

    def _called(self, node: ast.Call) -> Any:  # noqa: ANN401 - whatever the name refers to
        if not isinstance(node.func, ast.Name) or node.func.id in self._values:
            raise _NotArithmeticError
        return self._around.get(node.func.id)

    def _results(self, node: ast.Call) -> tuple[ast.expr, ...]:
        called = self._called(node)
        if not inspect.isfunction(called):
            raise _NotArithmeticError
        try:
            given = inspect.signature(called).bind(*node.args, **{str(word.arg): word.value for word in node.keywords})
        except TypeError:
            raise _NotArithmeticError from None
        values = {
            name: self._reader.named(name, *_exactly(1, self.of(value))) for name, value in given.arguments.items()
        }
        for parameter in given.signature.parameters.values():
            if parameter.name not in values:
                values[parameter.name] = ast.Constant(parameter.default)
        return self._reader.results(called, values)


def _exactly(count: int, found: tuple[ast.expr, ...]) -> tuple[ast.expr, ...]:
    if len(found) != count:
        raise _NotArithmeticError
    return found


class Invariants:
    """What a rule computes from its hyperparameters and the step's number alone."""

    def __init__(self, rule: Rule) -> None:
        """Collect nothing yet; `take` is called for every part of the rule's lines."""
        self.names = {*rule.defaults, "t"} - set(PER_TRAJECTORY)
        self.constants: dict[str, ast.expr] = {}
        self.coefficients: dict[str, ast.expr] = {}

    def take(self, node: ast.expr) -> str | None:
        """Return the name under which `node` is computed outside the loop, or None if it has to stay."""
        names = names_in(node)
        if not names or not names <= self.names:
            return None
        table, prefix = (self.coefficients, "c") if "t" in names else (self.constants, "k")
        key = ast.dump(node)
        table.setdefault(key, node)
        return f"{prefix}{list(table).index(key)}"


@dataclass(frozen=True)
class RuleLines:
    """A rule written out for several coordinates: the lines of one step, and what stands before the loop.

    The lines read x0.. (the parameter), g0.. (gradient or Newton direction), s_SLOT_0.. (slots), h_NAME
    (hyperparameters), k0.. (constants of the run), c0.. (coefficients of the step) and t. A rule that is more than
    arithmetic is not `written`: its lines call `rule_update` and `rule_lookahead`.
    """

    lines: tuple[str, ...]
    lookahead_lines: tuple[str, ...]
    hyper: tuple[str, ...]
    written: bool
    constants: tuple[str, ...]
    coefficients: tuple[str, ...]
    _constants_of: Callable[..., tuple[float, ...]]
    _coefficients_of: Callable[..., tuple[float, ...]]

    def constants_of(self, settings: Mapping[str, float]) -> tuple[float, ...]:
        """Return the values of `constants` under some hyperparameters."""
        return self._constants_of(**_fixed(settings))

    def coefficients_of(self, t: int, settings: Mapping[str, float]) -> tuple[float, ...]:
        """Return the values of `coefficients` at step `t`; infinite or NaN where the arithmetic has no value."""
        try:
            return self._coefficients_of(t, **_fixed(settings))
        except (OverflowError, ZeroDivisionError, ValueError):
            return (float("nan"),) * len(self.coefficients)


def _fixed(settings: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in settings.items() if name not in PER_TRAJECTORY}


def constant_settings(settings: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Return the settings that coefficients depend on, hashable."""
    return tuple(sorted(_fixed(settings).items()))


def write(rule: Rule, dimension: int) -> RuleLines | None:
    """Write a rule out for `dimension` coordinates, or return None if it is more than arithmetic."""
    invariants = Invariants(rule)
    body = read(rule.update, invariants.names)
    lookahead = read(rule.lookahead, invariants.names) if rule.lookahead else None
    if body is None or (rule.lookahead and lookahead is None):
        return None
    lines = [line for i in range(dimension) for line in _step(rule, body, invariants, i)]
    lookahead_lines = [line for i in range(dimension) for line in _lookahead(rule, lookahead, invariants, i)]
    written = "\n".join([*lines, *lookahead_lines])
    arguments = [name for name in rule.defaults if name not in PER_TRAJECTORY]
    return RuleLines(
        tuple(lines),
        tuple(lookahead_lines),
        tuple(name for name in rule.defaults if re.search(rf"\bh_{name}\b", written)),
        True,  # noqa: FBT003 - a field of the record
        tuple(f"k{i}" for i in range(len(invariants.constants))),
        tuple(f"c{i}" for i in range(len(invariants.coefficients))),
        _tuple_of("constants", arguments, invariants.constants.values()),
        _tuple_of("coefficients", ["t", *arguments], invariants.coefficients.values()),
    )


def _tuple_of(name: str, arguments: Sequence[str], nodes: Iterable[ast.expr]) -> Callable[..., tuple[float, ...]]:
    # Written by Python's own operators, as the rule has them: beta**t must not become a product.
    values = "".join(f"{ast.unparse(node)}, " for node in nodes)
    return function_from(name, arguments, [f"return ({values})"], FLOATS)


def _step(rule: Rule, body: Body, invariants: Invariants, i: int) -> list[str]:
    """Return the lines of one step in coordinate `i`."""
    x, gradient, t, *_ = body.parameters  # a rule may call its parameters as it likes
    names = {x: f"x{i}", gradient: f"g{i}", t: "t"}
    names |= {slot: f"s_{slot}_{i}" for slot in rule.slots} | {name: f"h_{name}" for name in rule.defaults}
    in_place = _in_place(rule, body)
    writer = Writer(invariants.take)
    for target, value in body.assignments:
        place = f"s_{in_place[target]}_{i}" if target in in_place else f"l_{target}_{i}"
        writer.assign(place, value, names)
        names[target] = place
    places = [f"x{i}", *(f"s_{slot}_{i}" for slot in rule.slots)]
    changed = [
        (place, node)
        for place, node in zip(places, body.results, strict=True)
        if not (isinstance(node, ast.Name) and names[node.id] == place)
    ]
    if len(changed) == 1:
        writer.assign(*changed[0], names)
    else:
        # Every result reads the values from before the step, so none is stored before all are computed.
        for position, (_, node) in enumerate(changed):
            writer.assign(f"r{position}_{i}", node, names)
        writer.lines += [f"{place} = r{position}_{i}" for position, (place, _) in enumerate(changed)]
    return writer.lines


def _in_place(rule: Rule, body: Body) -> dict[str, str]:
    """Return the assignments that may overwrite a slot, whose old value nothing reads after them."""
    found: dict[str, str] = {}
    for slot, result in zip(rule.slots, body.results[1:], strict=True):
        for position, (target, _) in enumerate(body.assignments):
            later = [*(value for _, value in body.assignments[position + 1 :]), *body.results]
            if isinstance(result, ast.Name) and result.id == target and not any(slot in names_in(n) for n in later):
                found.setdefault(target, slot)
    return found


def _lookahead(rule: Rule, body: Body | None, invariants: Invariants, i: int) -> list[str]:
    """Return the lines of the place in coordinate `i` at which a rule wants its gradient."""
    if body is None:
        return []
    x, *others = body.parameters
    names = {x: f"x{i}"} | {name: f"s_{name}_{i}" if name in rule.slots else f"h_{name}" for name in others}
    writer = Writer(invariants.take)
    for target, value in body.assignments:
        names[target] = f"q_{target}_{i}"
        writer.assign(names[target], value, names)
    writer.assign(f"q{i}", body.results[0], names)
    return writer.lines


def write_calls(rule: Rule, dimension: int) -> RuleLines:
    """Write a rule that is more than arithmetic as calls of its function, one a coordinate."""
    hyper = [f"{name}=h_{name}" for name in rule.defaults]
    lines, lookahead_lines = [], []
    for i in range(dimension):
        slots = [f"s_{slot}_{i}" for slot in rule.slots]
        arguments = ", ".join([f"x{i}", f"g{i}", "t", *slots, *hyper])
        lines.append(f"{', '.join([f'x{i}', *slots])} = rule_update({arguments})")
        if rule.lookahead:
            names = [f"s_{name}_{i}" if name in rule.slots else f"h_{name}" for name in rule.lookahead_names()]
            lookahead_lines.append(f"q{i} = rule_lookahead({', '.join([f'x{i}', *names])})")
    nothing = function_from("nothing", ["*_", "**__"], ["return ()"], {})
    return RuleLines(tuple(lines), tuple(lookahead_lines), tuple(rule.defaults), False, (), (), nothing, nothing)  # noqa: FBT003 - a field
