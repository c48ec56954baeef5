"""What a claim is: a remark of the course notes, an experiment, and one rule from its numbers to a verdict.

The rule, which a reader can redo by hand from the printed numbers. Every quantity compares what was measured with what
theory predicts. A quantity of the role `statement` says what the remark says; one of the role `limit` says where the
remark stops holding, and is as much a part of the claim: theory predicts it as well.

- a quantity, statement or limit, that is not met: `does_not_hold`;
- else one that is open: `not_decided`;
- else, if there is a limit: `holds_with_limit`;
- else `holds`.

So no quantity that gets worse, from met to open to not met, makes a verdict better. A measurement that is statistical
comes with an interval: it is met where the whole interval is where it should be, not met where none of it is, and
open otherwise. `=` claims equality within its tolerance, stated before anything is measured: a wide interval that holds
the prediction and reaches beyond the tolerance is open, however well its middle fits.
"""

from __future__ import annotations

import ast
import importlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlcv_bench.errors import UsageError
from mlcv_bench.extras import require
from mlcv_bench.names import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlcv_bench.claims.quantity import Quantity
    from mlcv_bench.claims.scene import Panel

    Experiment = Callable[[], "ExperimentResult"]

Verdict = Literal["holds", "holds_with_limit", "does_not_hold", "not_decided"]

SECTIONS = {
    "1.1": "sgd",
    "1.2": "newton",
    "1.3": "momentum",
    "1.4": "adaptive",
    "2.1": "inception",
    "2.2": "residual",
    "2.3": "resnext",
}
"""The file of every section of the notes, in their order."""


@dataclass(frozen=True)
class Claim:
    """A remark that can be tested; its function lives at `place` and returns ExperimentResult.

    `expected` is the verdict recorded in this repository; a change of it is news, and exit code 1. `limit` says
    in a few words where a remark that holds with a limit ends.
    """

    id: str
    section: str
    remark: str
    place: str
    expected: Verdict
    quick: bool = True
    limit: str = ""

    def experiment(self) -> Experiment:
        """Import and return the claim's function."""
        module, _, name = self.place.partition(":")
        found: Experiment = getattr(importlib.import_module(module), name)
        return found


def claim(expected: Verdict, remark: str, *, limit: str = "", quick: bool = True) -> Callable[[Experiment], Experiment]:
    """Make an experiment a claim, which has its function's name; the arguments are fields of Claim, and literals.

    They are read from the file's text: who lists claims imports no experiment, nor the torch that chapter 2 runs on.
    """
    del expected, remark, limit, quick
    return lambda experiment: experiment


def claims_of(section: str, module: str) -> Iterator[Claim]:
    """Read the claims of a section from its file, in the order of their functions."""
    text = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    for function in ast.parse(text).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for row in function.decorator_list:
            if isinstance(row, ast.Call) and ast.unparse(row.func) == claim.__name__:
                expected, remark = map(ast.literal_eval, row.args)
                yield Claim(
                    id=f"{section}-{function.name.replace('_', '-')}",
                    section=section,
                    remark=remark,
                    place=f"{__package__}.{module}:{function.name}",
                    expected=expected,
                    **{str(option.arg): ast.literal_eval(option.value) for option in row.keywords},
                )


CLAIMS: dict[str, Claim] = {one.id: one for item in SECTIONS.items() for one in claims_of(*item)}
"""Every claim by its id, in the order of the notes."""


@dataclass(frozen=True)
class ExperimentResult:
    """What an experiment found: its quantities, the deciding one first, and a sentence in plain words.

    The sentence goes with the recorded verdict; where another one comes out, `examine` gives the numbers instead. The
    scene is what a picture shows of it.
    """

    quantities: tuple[Quantity, ...]
    explanation: str
    effect: float | None = None
    scene: tuple[Panel, ...] = field(default=(), compare=False, repr=False)

    @property
    def verdict(self) -> Verdict:
        """The verdict, by the rule at the head of this file."""
        met = {one.met for one in self.quantities}
        if False in met:
            return "does_not_hold"
        if None in met:
            return "not_decided"
        return "holds_with_limit" if any(one.role == "limit" for one in self.quantities) else "holds"

    @property
    def shortfall(self) -> str:
        """What is not met and what is open, in numbers."""
        words = [
            f"{'Open' if one.met is None else 'Not met'}: {one.name}, {one.measured:.4g}, "
            f"where {one.relation} {one.predicted:.4g} is predicted."
            for one in self.quantities
            if not one.met
        ]
        return " ".join(words or ["Every quantity is met."])


@dataclass(frozen=True)
class ClaimResult:
    """A claim's row: first the contract's columns, of its first quantity; all quantities stay with it."""

    id: str
    section: str
    remark: str
    verdict: Verdict | None
    measured: float | None
    predicted: float | None
    tolerance: float | None
    unit: str
    seconds: float
    explanation: str
    expected: Verdict
    quantity: str
    effect: float | None
    status: Literal["done", "failed"]
    reason: str
    limit: str = ""
    evidence: ExperimentResult | None = field(default=None, metadata={"hidden": True})

    @property
    def changed(self) -> bool:
        """Whether the verdict is not the recorded one."""
        return self.status == "done" and self.verdict != self.expected


def examine(one: Claim, clock: Callable[[], float] = time.perf_counter) -> ClaimResult:
    """Run a claim's experiment and judge it; an experiment that raises is a failed row, not the end."""
    start = clock()
    shared: dict[str, Any] = {"id": one.id, "section": one.section, "remark": one.remark}
    try:
        evidence = one.experiment()()
    except Exception as error:  # noqa: BLE001 - one broken experiment must not cost the others
        return ClaimResult(
            **shared,
            verdict=None,
            measured=None,
            predicted=None,
            tolerance=None,
            unit="",
            seconds=clock() - start,
            explanation="",
            expected=one.expected,
            quantity="",
            effect=None,
            status="failed",
            reason=f"{type(error).__name__}: {error}",
        )
    first, as_recorded = evidence.quantities[0], evidence.verdict == one.expected
    return ClaimResult(
        **shared,
        verdict=evidence.verdict,
        measured=first.measured,
        predicted=first.predicted,
        tolerance=first.tolerance,
        unit=first.unit,
        seconds=clock() - start,
        explanation=evidence.explanation if as_recorded else evidence.shortfall,
        expected=one.expected,
        quantity=first.name,
        effect=evidence.effect,
        status="done",
        reason="",
        limit=one.limit if evidence.verdict == "holds_with_limit" else "",
        evidence=evidence,
    )


@dataclass(frozen=True)
class ClaimsRequest:
    """Which claims are tested: those named; or the quick ones, or `everything`, of sections of the notes or all."""

    ids: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    everything: bool = False

    def check(self) -> None:
        """Refuse what chooses no claim.

        Raises:
            UsageError: no claim has this id or section, or ids are given with something else.
            MissingExtraError: the extra `tasks` is not installed, whose scipy judges most claims.

        """
        require("tasks", "claims")
        if self.ids and self.sections:
            raise UsageError("give --id or --section, not both")
        if self.ids and self.everything:
            raise UsageError("give --id or --all, not both; a claim that --id names is tested, however long it takes")
        for name in self.ids:
            if name not in CLAIMS:
                raise unknown("claim", name, CLAIMS, listing="claims")
        for section in self.sections:
            if not any(belongs(one, section) for one in CLAIMS.values()):
                raise UsageError(f"no claim belongs to section {section}; there are {', '.join(SECTIONS)}")

    def chosen(self) -> list[Claim]:
        """Return the claims that are asked for, each once."""
        if self.ids:
            return [CLAIMS[name] for name in dict.fromkeys(self.ids)]
        return [one for one in self._of_sections() if self.everything or one.quick]

    def left_out(self) -> list[str]:
        """Return the ids of the long claims that would be tested too if everything were."""
        return [one.id for one in self._of_sections() if not (self.ids or self.everything or one.quick)]

    def _of_sections(self) -> list[Claim]:
        wanted = self.sections
        return [one for one in CLAIMS.values() if not wanted or any(belongs(one, section) for section in wanted)]


def belongs(one: Claim, section: str) -> bool:
    """Tell whether a claim stands in a section: 1 holds 1.4, and 1.4 holds 1.4.1."""
    return one.section == section or one.section.startswith(f"{section}.")
