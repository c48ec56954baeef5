"""`check_claims`: the remarks of the notes, tested."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlcv_bench.api.calls import items, public
from mlcv_bench.api.results import Reported
from mlcv_bench.claims.claim import ClaimResult, ClaimsRequest, examine
from mlcv_bench.execution.processes import check_workers, in_turn
from mlcv_bench.report.claims import claims_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlcv_bench.records import Report


@dataclass(frozen=True, repr=False)
class CheckedClaims(Reported):
    """Claims with their verdicts: `.results`, a row each in `.frame`; numbers and sentences where ids were named."""

    request: ClaimsRequest
    results: tuple[ClaimResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every experiment ended, with the recorded verdict."""
        return not any(result.changed or result.status == "failed" for result in self.results)

    @property
    def drawn_of(self) -> tuple[ClaimResult, ...]:
        """The claims, of which the first is drawn."""
        return self.results

    def report(self) -> Report:
        """Return the claims as a report: verdicts, and the numbers behind those that were named."""
        named = bool(self.request.ids)
        return claims_report(self.results, explain=named, numbers=named, left_out=self.request.left_out())


@public
def check_claims(
    ids: str | Sequence[str] = (),
    *,
    sections: str | float | Sequence[str | float] = (),
    everything: bool = False,
    workers: int = 1,
    progress: Callable[[ClaimResult], object] = lambda _result: None,
) -> CheckedClaims:
    """Test the notes' remarks: an experiment, theory's prediction and a verdict for each.

    Args:
        ids: these claims alone, as `1.3-nesterov`; `mlcv-bench list claims` has all.
        sections: instead, those of these sections of the notes, as `1.4`.
        everything: also the long ones, which train networks for minutes.
        workers: processes to test in; 1 tests here.
        progress: is given every result as it comes.

    Returns:
        The claims that were tested: an interrupt ends the testing, and what is finished stays.

    Raises:
        UsageError: no claim has this id or section, both are given, or `workers` is out of range.

    """
    check_workers(workers, None)
    request = ClaimsRequest(items(ids), tuple(map(str, items(sections))), everything)
    request.check()
    results = []
    with contextlib.suppress(KeyboardInterrupt):
        for result in in_turn(examine, request.chosen(), workers):
            results.append(result)
            progress(result)
    return CheckedClaims(request, tuple(results))
