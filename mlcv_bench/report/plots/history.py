"""The picture of a history: a figure's way from commit to commit, a panel each, with the commits at which it jumped."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from mlcv_bench.history.commits import short
from mlcv_bench.report.history import MOST_DRAWN
from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.panel import Panel, Scaled, Series, unit_of
from mlcv_bench.report.plots.style import COLOURS, panels_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlcv_bench.records import Report

Row = dict[str, Any]
MOST_TICKS = 8
LONGEST = 24
"""Letters of a value that is a word; longer ones leave no room for the panel, and are told where one points."""
LOAD = "#999999"


def draw(report: Report, path: Path) -> None:
    """Paint every figure of a history against its commits."""
    save(panels_figure(panels(report), (6.5, 3.2), empty="no figure was found"), path)


def panels(report: Report, _of: object = None) -> list[Panel]:
    """Return a panel for each figure of `history show`, or for each that `history check` saw jump."""
    rows = report.details.get("figures") or (report.runs if report.study == "history" else [])
    series: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        series.setdefault(tuple(row[name] for name in ("study", "row", "settings", "column")), []).append(dict(row))
    jumps = report.runs if report.study == "history-check" else []
    # A word that never changed, such as the status, is no picture where there is another.
    drawn = {key: some for key, some in series.items() if not _one_word(some)} or series
    return [_panel(key, some, jumps) for key, some in itertools.islice(drawn.items(), MOST_DRAWN)]


def _one_word(rows: Sequence[Row]) -> bool:
    return isinstance(rows[0]["value"], str) and len({row["value"] for row in rows}) == 1


def _panel(key: tuple[str, ...], rows: Sequence[Row], jumps: Sequence[Mapping[str, Any]]) -> Panel:
    _, name, _, column = key
    commits = list(dict.fromkeys(row["commit"] for row in reversed(rows)))
    place = {commit: position for position, commit in enumerate(commits)}
    words = sorted({str(row["value"]) for row in rows if isinstance(row["value"], str)})
    timed = column.endswith("_s") and not words
    unit, scale = unit_of(column) if timed else (column, 1.0)
    drawn = []
    environments = list(dict.fromkeys(row["environment"] for row in rows)) if timed else [""]
    for number, environment in enumerate(environments):
        own = [row for row in rows if environment in {"", row["environment"]} and row["value"] is not None]
        for load in (False, True):
            some = sorted((row for row in own if bool(row["contention"]) is load), key=lambda row: place[row["commit"]])
            if not some:
                continue
            heights = [words.index(row["value"]) if words else row["value"] * scale for row in some]
            ends = [
                [value if row[end] is None else row[end] * scale for row, value in zip(some, heights, strict=True)]
                for end in ("ci_low", "ci_high")
            ]
            drawn.append(
                Series(
                    [place[row["commit"]] for row in some],
                    heights,
                    LOAD if load else COLOURS[number % len(COLOURS)],
                    name="beside other load" if load else f"machine {environment}" if len(environments) > 1 else "",
                    line="" if load or timed else "-",
                    marker="x" if load else "o",
                    size=4,
                    width=1.2,
                    steps=not timed,
                    errors=(ends[0], ends[1]) if timed else None,
                    texts=[f"{short(row['commit'])}, {row['author_date'][:10]}\n{row['value']}" for row in some],
                )
            )
    for jump in jumps:
        if tuple(jump[one] for one in ("study", "row", "settings", "column")) == key and jump["commit"] in place:
            at = place[jump["commit"]] - 0.5
            low, high = _span(drawn)
            drawn.append(
                Series([at, at], [low, high], "#000000", name=f"{jump['change']} at {short(jump['commit'])}", line="--")
            )
    names = range(1, len(words) + 1)
    ticks = range(0, len(commits), max(1, -(-len(commits) // MOST_TICKS)))
    return Panel(
        f"{name}: {column}",
        Scaled("commit", ticks=list(ticks), tick_words=[short(commits[tick])[:7] for tick in ticks]),
        Scaled(
            unit,
            ticks=list(range(len(words))),
            tick_words=words if max(map(len, words), default=0) <= LONGEST else [f"value {n}" for n in names],
        ),
        drawn,
    )


def _span(drawn: Sequence[Series]) -> tuple[float, float]:
    heights = [value for one in drawn for value in one.y]
    return min(heights), max(heights)
