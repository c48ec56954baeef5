"""What the public functions return: the record of a study that shows itself."""

from __future__ import annotations

import io
import textwrap
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

from mlcv_bench.errors import UsageError
from mlcv_bench.extras import require
from mlcv_bench.records import counted
from mlcv_bench.report.formats import NOTEBOOK, written

if TYPE_CHECKING:
    import pandas as pd

    from mlcv_bench.records import Report

LINE = 120
"""Characters of what a result is, in its one line."""


class Reported(ABC):
    """A record with its report: one line as text, tables when printed or in a notebook, `.frame` for pandas."""

    @classmethod
    def of(cls, found: Any) -> Self:  # noqa: ANN401 - the record of the study that the class belongs to
        """Take over the fields of a record."""
        made: Any = cls
        result: Self = made(**{field.name: getattr(found, field.name) for field in fields(found)})
        return result

    @abstractmethod
    def report(self) -> Report:
        """Return what the command shows and saves: runs, tables, notes, warnings."""

    @property
    def frame(self) -> pd.DataFrame:
        """The runs, a row each, under the columns of the command's CSV."""
        import pandas as pd  # noqa: PLC0415 - attributes alone need no pandas

        report = self.report()
        return pd.DataFrame(list(report.run_values()), columns=report.all_columns)

    def plot(self, *, interactive: bool = False) -> Any:  # noqa: ANN401 - plotly is an extra
        """Return the picture that the command draws, as a matplotlib figure.

        Args:
            interactive: instead, the figures of the command's page as one plotly figure, to explore in a notebook.

        Raises:
            UsageError: there is nothing to draw.
            MissingExtraError: what draws it is not installed.

        """
        if interactive:
            require("page", ".plot(interactive=True)")
            from mlcv_bench.report.page.together import together as drawn  # noqa: PLC0415 - loads plotly
        else:
            require("plots", ".plot()")
            from mlcv_bench.report.plots import figure_of as drawn  # noqa: PLC0415 - loads matplotlib
        report = self.report()
        figure = drawn(report, self.drawn_of)
        if figure is None:
            kind = "to explore " * interactive
            raise UsageError(f"a result of {report.study} has no figure {kind}here; its rows are in .frame")
        return figure

    @property
    def drawn_of(self) -> object:
        """What the command hands to what draws its report."""
        return self

    def __repr__(self) -> str:
        """Return one line: the first table's title and what its rows are called, and how much was found."""
        report = self.report()
        title = report.study
        if report.tables:
            table = report.tables[0]
            names = dict.fromkeys(table.columns[0].text(row.get(table.columns[0].key)) for row in table.rows)
            title = f"{table.title}: {', '.join(names)}"
        rows = counted(len(report.runs), "row")
        return f"<{type(self).__name__}: {textwrap.shorten(title, LINE, placeholder=' ...')}; {rows} in .frame>"

    def __str__(self) -> str:
        """Return the tables as a terminal shows them."""
        from mlcv_bench.report.formats.terminal import print_report  # noqa: PLC0415 - loads rich

        text = io.StringIO()
        print_report(self.report(), text)
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        """Return the tables as a notebook shows them."""
        return written(self.report(), NOTEBOOK)
