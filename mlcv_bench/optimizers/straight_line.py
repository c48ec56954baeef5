"""A rule's source as straight-line arithmetic, so that engines can write it into their inner loops.

What depends on the step's number and the hyperparameters alone (Adam's 1 - beta1**t) is taken out and computed once a
step or once a run: LLVM does not do that by itself, and Python even less. A division by it becomes a multiplication by
its reciprocal, which rounds once more; else the order of operations stays the rule's own. All engines run these lines.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.expression import FLOATS, Writer, check, function_from, names_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlcv_bench.optimizers.rule import Rule

PER_TRAJECTORY = ("lr",)
"""Hyperparameters that may differ from lane to lane, so that nothing that reads them is taken out of the loop."""


@dataclass(frozen=True)
class StraightLine:
    """A function's body: assignments in order, then what it returns."""

    parameters: tuple[str, ...]
    assignments: tuple[tuple[str, ast.expr], ...]
    results: tuple[ast.expr, ...]


def read(function: Callable[..., Any]) -> StraightLine | None:
    """Return the body of a function as straight-line arithmetic, or None where it is anything else."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None
    if not isinstance(tree, ast.FunctionDef):
        return None
    known = set(inspect.signature(function).parameters)
    assignments = []
    for statement in tree.body:
        match statement:
            case ast.Expr(value=ast.Constant()):
                continue
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if _arithmetic(value, known):
                assignments.append((target, value))
                known.add(target)
            case ast.Return(value=ast.Tuple(elts=elements)) if all(_arithmetic(item, known) for item in elements):
                return StraightLine(tuple(inspect.signature(function).parameters), tuple(assignments), tuple(elements))
            case ast.Return(value=ast.expr() as value) if _arithmetic(value, known):
                return StraightLine(tuple(inspect.signature(function).parameters), tuple(assignments), (value,))
            case _:
                return None
    return None


def _arithmetic(node: ast.expr, known: set[str]) -> bool:
    try:
        check(node, "")
    except UsageError:
        return False
    return names_in(node) <= known


class Invariants:
    """What a rule computes from its hyperparameters and the step's number alone."""

    def __init__(self, rule: Rule) -> None:
        """Collect nothing yet; `take` is called for every part of the rule's lines."""
        self.hyper = set(rule.defaults)
        self.constants: dict[str, tuple[str, ast.expr]] = {}
        self.coefficients: dict[str, tuple[str, ast.expr]] = {}

    def take(self, node: ast.expr, hidden: set[str]) -> str | None:
        """Return the name under which `node` is computed outside the loop, or None if it has to stay."""
        names = names_in(node)
        if not names or names & hidden or not names <= (self.hyper | {"t"}) - set(PER_TRAJECTORY):
            return None
        table, prefix = (self.coefficients, "c") if "t" in names else (self.constants, "k")
        key = ast.dump(node)
        if key not in table:
            table[key] = (f"{prefix}{len(table)}", node)
        return table[key][0]


@dataclass(frozen=True)
class RuleLines:
    """A rule written out for several coordinates: the lines of one step, and what stands before the loop.

    The lines read x0.. (the parameter), g0.. (gradient or Newton direction), s_SLOT_0.. (slots), h_NAME
    (hyperparameters), k0.. (constants of the run), c0.. (coefficients of the step) and t.
    """

    lines: tuple[str, ...]
    query_lines: tuple[str, ...]
    constants: tuple[str, ...]
    coefficients: tuple[str, ...]
    hyper: tuple[str, ...]
    written: bool
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


def write(rule: Rule, dimension: int) -> RuleLines | None:
    """Write a rule out for `dimension` coordinates, or return None if it is no straight-line arithmetic."""
    body = read(rule.update)
    query = read(rule.query) if rule.query else None
    if body is None or (rule.query and query is None):
        return None
    invariants = Invariants(rule)
    lines = [line for i in range(dimension) for line in _step(rule, body, invariants, i)]
    query_lines = [line for i in range(dimension) for line in _query(query, invariants, i)] if query else []
    written = "\n".join([*lines, *query_lines])
    return RuleLines(
        tuple(lines),
        tuple(query_lines),
        tuple(name for name, _ in invariants.constants.values()),
        tuple(name for name, _ in invariants.coefficients.values()),
        tuple(name for name in rule.defaults if re.search(rf"\bh_{name}\b", written)),
        True,  # noqa: FBT003 - a field of the record
        _invariant_function("constants", rule, list(invariants.constants.values()), with_step=False),
        _invariant_function("coefficients", rule, list(invariants.coefficients.values()), with_step=True),
    )


def _invariant_function(
    name: str, rule: Rule, wanted: Sequence[tuple[str, ast.expr]], *, with_step: bool
) -> Callable[..., tuple[float, ...]]:
    arguments = [*(["t"] if with_step else []), *(name for name in rule.defaults if name not in PER_TRAJECTORY)]
    # Written by Python's own operators, as the rule has them: beta**t must not become a product.
    values = ", ".join(ast.unparse(node) for _, node in wanted)
    return function_from(name, arguments, [f"return ({values},)" if wanted else "return ()"], FLOATS)


def _names(rule: Rule, i: int, gradient: str) -> dict[str, str]:
    return {
        "x": f"x{i}",
        gradient: f"g{i}",
        "t": "t",
        **{slot: f"s_{slot}_{i}" for slot in rule.slots},
        **{name: f"h_{name}" for name in rule.defaults},
    }


def _step(rule: Rule, body: StraightLine, invariants: Invariants, i: int) -> list[str]:
    names = _names(rule, i, body.parameters[1])
    # A rule may call its parameters as it likes; the first is x.
    names[body.parameters[0]] = f"x{i}"
    hidden: set[str] = set()
    writer = Writer(lambda node: invariants.take(node, hidden))
    for target, value in body.assignments:
        place = names[target] if target in rule.slots else f"l_{target}_{i}"
        writer.assign(place, value, names)
        names[target] = place
        hidden.add(target)
    targets = [f"x{i}", *(f"s_{slot}_{i}" for slot in rule.slots)]
    changed = [
        (target, node)
        for target, node in zip(targets, body.results, strict=True)
        if not (isinstance(node, ast.Name) and names.get(node.id) == target)
    ]
    if len(changed) == 1:
        writer.assign(changed[0][0], changed[0][1], names)
    elif changed:
        # Every result reads the values from before the step, so none is stored before all are computed.
        for position, (_, node) in enumerate(changed):
            writer.assign(f"r{position}_{i}", node, names)
        writer.lines += [f"{target} = r{position}_{i}" for position, (target, _) in enumerate(changed)]
    return writer.lines


def _query(body: StraightLine, invariants: Invariants, i: int) -> list[str]:
    names = {name: f"h_{name}" for name in body.parameters}
    names.update({name: f"s_{name}_{i}" for name in body.parameters[1:] if name not in invariants.hyper})
    names[body.parameters[0]] = f"x{i}"
    hidden: set[str] = set()
    writer = Writer(lambda node: invariants.take(node, hidden))
    for target, value in body.assignments:
        writer.assign(f"q_{target}_{i}", value, names)
        names[target] = f"q_{target}_{i}"
        hidden.add(target)
    writer.assign(f"q{i}", body.results[0], names)
    return writer.lines


def write_calls(rule: Rule, dimension: int) -> RuleLines:
    """Write a rule that is more than arithmetic as calls of its function, one a coordinate."""
    hyper = ", ".join(f"{name}=h_{name}" for name in rule.defaults)
    lines, query_lines = [], []
    for i in range(dimension):
        slots = [f"s_{slot}_{i}" for slot in rule.slots]
        arguments = ", ".join([f"x{i}", f"g{i}", "t", *slots, *([hyper] if hyper else [])])
        lines.append(f"{', '.join([f'x{i}', *slots])} = rule_update({arguments})")
        if rule.query:
            names = [f"s_{name}_{i}" if name in rule.slots else f"h_{name}" for name in rule.query_names()]
            query_lines.append(f"q{i} = rule_query({', '.join([f'x{i}', *names])})")
    nothing = function_from("nothing", ["*_", "**__"], ["return ()"], {})
    return RuleLines(tuple(lines), tuple(query_lines), (), (), tuple(rule.defaults), False, nothing, nothing)  # noqa: FBT003 - a field


def constant_settings(settings: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Return the settings that coefficients depend on, hashable."""
    return tuple(sorted(_fixed(settings).items()))
