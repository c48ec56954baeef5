"""The history beside a suite that runs: it takes the results, may give the baseline, and says what came before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcv_bench import environment
from mlcv_bench.comparing.saved import RULES, study_of
from mlcv_bench.errors import UsageError
from mlcv_bench.history.adding import new_results
from mlcv_bench.history.database import History
from mlcv_bench.history.request import AddRequest
from mlcv_bench.history.trends import Trends, baseline_of
from mlcv_bench.suites.report import suite_report
from mlcv_bench.suites.trends import CheckTrends

if TYPE_CHECKING:
    from mlcv_bench.comparing.judging import Check, Result
    from mlcv_bench.records import Report
    from mlcv_bench.suites.document import Suite


class Past:
    """A history in use by one run of a suite, in the checkout where one stands."""

    def __init__(self, path: Path, against: str | None) -> None:
        """Read the baseline of the revision `against`, if one is given, before anything is measured.

        Raises:
            UsageError: this is no checkout, git knows no such revision, or the file is no history.

        """
        now = environment.capture()
        if now.commit is None:
            raise UsageError("--history keeps results by their commits, and this is no checkout of git; leave it out")
        self.path, self.commit = path, now.commit
        self._added: set[str] = set()
        with History(path, create=True) as history:
            self.base = None if against is None else baseline_of(history, against, now.as_dict(), Path.cwd())

    def add(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Add the entries' results; those that are there already are not added again."""
        new = [(name, one) for name, one in documents.items() if name not in self._added and study_of(one) in RULES]
        if not new:
            return
        with History(self.path, create=True) as history:
            history.add(list(new_results(new, AddRequest((), self.path), Path.cwd())))
        self._added.update(name for name, _ in new)

    def report(self, suite: Suite, checks: Sequence[Check], results: Sequence[Result]) -> Report:
        """Return the suite's report with each figure's last commits, of the base branch if there is a base."""
        documents = {result.entry.name: result.document for result in results if result.document is not None}
        self.add(documents)
        with History(self.path) as history:
            branches = [self.base.branch] if self.base is not None and self.base.baseline is not None else []
            branches += history.branches()
            trends = Trends(history, branches[0] if branches else "", self.commit)
        found = {name: trends.of(one) for name, one in documents.items() if study_of(one) in RULES}
        report = suite_report(suite, checks, results, CheckTrends(found, documents))
        return report if self.base is None else replace(report, notes=[*report.notes, self.base.sentence])
