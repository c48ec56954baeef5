"""The audit: one network counted by fvcore and by torch as well, every difference explained operator by operator."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from mlcv_bench.architectures.inputs import in_order
from mlcv_bench.counting import isolation, tools
from mlcv_bench.counting.network import Network, Observation, observe
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line
from mlcv_bench.records import row_of

if TYPE_CHECKING:
    from collections.abc import Iterator

FVCORE = "fvcore"
TORCH = "torch FlopCounterMode"
EXPLANATIONS = {
    tools.EXACT: {FVCORE: "one for a MAC, as here", TORCH: "two for a MAC"},
    tools.MISSED: {
        FVCORE: "not counted: fvcore has no rule for this operator",
        TORCH: "not counted: no formula in its registry",
    },
    tools.NO_EFFECT: {FVCORE: "not counted: no output depends on it, and torch.jit drops it from the trace"},
}


@dataclass(frozen=True)
class AuditRow:
    """One kind of operator under one tool.

    `ours` are the MACs of our count; `theirs` what the tool says; `explained` what its rule, applied to our trace,
    gives; `leftover` is theirs - explained, which must be zero.
    """

    architecture: str
    input: str
    batch: int
    tool: str
    operator: str
    ours: int
    theirs: int
    difference: int
    explained: int
    leftover: int
    explanation: str

    def row(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return row_of(self)


@dataclass(frozen=True)
class Audit:
    """The audit of one network: its rows, and the modules where fvcore and our trace disagree."""

    architecture: str
    macs: int
    rows: tuple[AuditRow, ...]
    modules_checked: int
    modules_apart: tuple[str, ...]

    @property
    def leftover(self) -> int:
        """What no rule explains, over all operators of both tools, and one for every module that disagrees."""
        return sum(abs(row.leftover) for row in self.rows) + len(self.modules_apart)


def audit(network: Network, batch: int = 1) -> Audit:
    """Count a network three times and explain every difference.

    fvcore traces with torch.jit on the CPU, with real weights; torch's counter runs where ours does.

    Raises:
        UsageError: the network cannot be counted, or fvcore cannot trace it; one sentence why.

    """
    seen = observe(network, batch, functions=True)
    with isolation.left_alone(), quiet():
        theirs = {FVCORE: fvcore_counts(network, batch), TORCH: torch_counts(network, seen, batch)}
    by_module = theirs[FVCORE].pop("by_module")
    rows = [row for tool, counts in theirs.items() for row in compared(network, seen, batch, tool, counts)]
    apart = modules_apart(seen, by_module)
    return Audit(network.request.label, seen.trace.macs, tuple(rows), len(by_module), tuple(apart))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the remarks of torch.jit and fvcore to themselves; nothing of the network's own is silenced."""
    loggers = [logging.getLogger(name) for name in ("fvcore", "fvcore.nn.jit_analysis", "torch.utils.flop_counter")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for words in (".*torch.jit.*", ".*TracerWarning.*", ".*pkg_resources.*"):
            warnings.filterwarnings("ignore", message=words)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined] # torch.jit has it
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def fvcore_counts(network: Network, batch: int) -> dict[str, Any]:
    """Return fvcore's count by kind of operator, and under "by_module" its count of every module."""
    from fvcore.nn import FlopCountAnalysis  # noqa: PLC0415 - a second counter, for the audit alone

    module = network.on_cpu().eval()
    analysis = FlopCountAnalysis(module, tuple(in_order(network.inputs(module, batch, "cpu"), module)))
    analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False).tracer_warnings("none")
    try:
        with torch.no_grad():
            counts = analysis.by_operator()
    except Exception as error:
        raise UsageError(
            f"fvcore cannot trace {network.request.name}, so there is no audit "
            f"({type(error).__name__}: {first_line(error)}); the count itself needs no audit"
        ) from error
    by_module = {name: int(amount) for name, amount in analysis.by_module().items()}
    return {**{name: int(amount) for name, amount in counts.items()}, "by_module": by_module}


def torch_counts(network: Network, seen: Observation, batch: int) -> dict[str, Any]:
    """Return what torch's FlopCounterMode says by operator."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 - imports torch._dynamo

    on_meta = all(tensor.is_meta for tensor in seen.module.parameters()) and not isolation.is_script(seen.module)
    device = "meta" if on_meta and not seen.notes else "cpu"
    inputs = network.inputs(seen.module, batch, device)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), torch.device(device), counter:
        inputs.into(seen.module.eval())
    total: dict[Any, int] = counter.get_flop_counts().get("Global", {})
    return {str(packet).removeprefix("aten."): amount for packet, amount in total.items()}


def compared(network: Network, seen: Observation, batch: int, tool: str, theirs: dict[str, int]) -> Iterator[AuditRow]:
    """Yield one row a kind of operator: our MACs, the tool's figure, and what its rule makes of our trace."""
    ours: Counter[str] = Counter()
    explained: defaultdict[str, tools.Tally] = defaultdict(tools.Tally)
    for call, shares in tools.shares_of(tool, seen.trace, seen.module):
        if shares:
            name = "conv" if tool == FVCORE and call.operator == "convolution" else call.operator
            ours[name] += call.work.macs
            explained[name].add(shares)
    for name in dict.fromkeys([*explained, *theirs]):
        tally = explained[name]
        yield AuditRow(
            architecture=network.request.label,
            input=network.request.input_text,
            batch=batch,
            tool=tool,
            operator=name,
            ours=ours[name],
            theirs=theirs.get(name, 0),
            difference=theirs.get(name, 0) - ours[name],
            explained=tally.total,
            leftover=theirs.get(name, 0) - tally.total,
            explanation="; ".join(in_words(tool, *key, count) for key, count in tally.shares.items())
            or "no rule explains it",
        )


def in_words(tool: str, term: str, weight: Fraction | int, elements: int) -> str:
    """Say where an amount comes from."""
    return EXPLANATIONS.get(term, {}).get(tool) or f"{weight} x {elements:,} {term}"


def modules_apart(seen: Observation, theirs: dict[str, int]) -> list[str]:
    """Return the modules whose fvcore count, everything below included, is not what its rule makes of our trace."""
    ours: defaultdict[str, Fraction | int] = defaultdict(int)
    for call, shares in tools.shares_of(FVCORE, seen.trace, seen.module):
        amount = sum(share.amount for share in shares)
        path = call.module
        ours[""] += amount
        while path:
            ours[path] += amount
            path = path.rpartition(".")[0]
    return [
        f"{name or 'whole'}: {theirs[name]:,} against {int(ours[name]):,}"
        for name in theirs
        if theirs[name] != ours[name]
    ]
