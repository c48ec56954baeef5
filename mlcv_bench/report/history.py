"""What a history holds and where it jumped, as people and machines read it."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlcv_bench.comparing.differences import figure_text
from mlcv_bench.history.commits import short
from mlcv_bench.history.database import StoredFigure
from mlcv_bench.history.jumps import Jump
from mlcv_bench.records import Column, Report, Rows, Table, columns_of, counted, interval_text, row_of

if TYPE_CHECKING:
    from mlcv_bench.history.database import History
    from mlcv_bench.history.figures import Value
    from mlcv_bench.history.jumps import JumpSearch, Key, Selected

FEW = 4
"""Figures that have a column each in the table of commits; more have a line each in a table of their own."""
BARS = "▁▂▃▄▅▆▇█"
LEVEL = BARS[3]
LEAST_SPAN = 1.1
"""The ratio that the whole height of a line of bars stands for, at least, where figures are measured."""
NOTHING = "·"
MOST_DRAWN = 24
"""Panels of a picture."""
LONGEST = 40
"""Letters of a figure that is words, such as the operators that are called."""
COMMITS = (
    Column("commit", "commit", justify="left"),
    Column("author_date", "date", justify="left"),
    Column("results", "results"),
)
FIGURES = (
    Column("row", "row", justify="left"),
    Column("column", "figure", justify="left"),
    Column("newest", "newest"),
    Column("spark", "trend", justify="left"),
    Column("since", "unchanged since", justify="left"),
)
JUMPS = (
    Column("commit", "commit", justify="left"),
    Column("author_date", "date", justify="left"),
    Column("row", "row", justify="left"),
    Column("column", "figure", justify="left"),
    Column("base", "before"),
    Column("new", "after"),
    Column("ratio", "ratio", format=".4f"),
    Column("interval", "interval"),
    Column("change", "change", justify="left"),
    Column("range", "between", justify="left"),
    Column("reason", "because", justify="left"),
)


def history_report(selected: Selected) -> Report:
    """Return the selected figures, newest commit first, and how each went on."""
    figures = selected.figures
    rows = [_commit_row(commit, figures) for commit in reversed(selected.commits)]
    several = len(selected.series) > FEW
    columns = [*COMMITS]
    if not several:
        for name, key in _names(selected.series).items():
            values = latest(selected.series[key])
            columns.append(Column(name, name))
            for row in rows:
                row[name] = shown(values[row["name"]]) if row["name"] in values else None
    title = f"The last {counted(len(rows), 'commit')} of {branch_words(selected.branch)}"
    alone = _alone(selected.series)
    tables = [Table(f"{title}: {alone}" if alone and not several else title, columns, rows)]
    if several:
        trends = [trend(selected, key) for key in selected.series]
        caption = f"Trends run from the oldest commit to the newest; {NOTHING} is a commit without this figure."
        tables.insert(0, Table("Figures", FIGURES, trends, caption))
    return Report("history", columns_of(StoredFigure), [row_of(one) for one in figures], tables, _remarks(selected))


def _commit_row(commit: Any, figures: Sequence[StoredFigure]) -> dict[str, Any]:  # noqa: ANN401 - a Commit
    results = {one.result for one in figures if one.commit == commit.commit}
    return {
        "name": commit.commit,
        "commit": short(commit.commit),
        "author_date": commit.author_date[:10],
        "results": len(results),
    }


def _alone(series: Mapping[Key, Sequence[StoredFigure]]) -> str:
    rows = {row for _, row, _, _ in series}
    return rows.pop() if len(rows) == 1 else ""


def _names(series: Mapping[Key, Sequence[StoredFigure]]) -> dict[str, Key]:
    """Name few series shortly: by the words of their rows that not all of them have, and their column."""
    words = [row.split() for _, row, _, _ in series]
    common = set.intersection(*map(set, words))
    found: dict[str, Key] = {}
    for key, row in zip(series, words, strict=True):
        name = " ".join([*(word for word in row if word not in common), key[3]])
        while name in found:
            name += " "  # other settings of one row
        found[name] = key
    return found


def latest(figures: Sequence[StoredFigure]) -> dict[str, StoredFigure]:
    """Return the figure that was added last for each commit, in the order of the commits."""
    return {one.commit: one for one in figures}


def shown(figure: StoredFigure) -> str:
    """Write a figure for people, with its interval; a star marks a time that was measured beside other load."""
    if figure.column.endswith("_s") and isinstance(figure.value, float):
        ends = [figure.value, figure.ci_low, figure.ci_high]
        middle, *interval = [f"{1e3 * end:.4g}" for end in ends if end is not None]
        text = f"{middle} ms" if not interval else f"{middle} ({' .. '.join(interval)}) ms"
        return f"{text} *" if figure.contention else text
    return textwrap.shorten(figure_text(figure.value), LONGEST, placeholder=" ...")


def trend(selected: Selected, key: Key) -> dict[str, Any]:
    """Return one series as a line: its newest figure, a bar for each commit, and since when it is as it is."""
    values = latest(selected.series[key])
    newest = next(reversed(values.values()))
    same = list(itertools.takewhile(lambda one: one.value == newest.value, reversed(values.values())))
    return {
        "row": key[1],
        "column": key[3],
        "newest": shown(newest),
        "spark": sparkline([values[one.commit].value if one.commit in values else None for one in selected.commits]),
        "since": None if isinstance(newest.value, float) else short(same[-1].commit),
    }


def sparkline(values: Sequence[Value]) -> str:
    """Draw a line of bars from the least to the largest value; words in the order of their first appearance."""
    known = [value for value in values if value is not None]
    ranked: Mapping[Any, float] = {value: place for place, value in enumerate(dict.fromkeys(known))}
    if all(isinstance(value, int | float) for value in known):
        ranked = {value: float(value) for value in known if isinstance(value, int | float)}
    low, high = min(ranked.values(), default=0.0), max(ranked.values(), default=0.0)
    if any(isinstance(value, float) for value in known):
        high = max(high, LEAST_SPAN * low)  # so that noise does not look like a mountain range
    return "".join(
        NOTHING
        if value is None
        else LEVEL
        if low == high
        else BARS[round((len(BARS) - 1) * (ranked[value] - low) / (high - low))]
        for value in values
    )


def branch_words(branch: str) -> str:
    """Name a branch; a checkout of none has no name."""
    return f"branch {branch}" if branch else "no branch"


def _remarks(selected: Selected) -> list[str]:
    others = [name for name in selected.other_branches if name != selected.branch]
    number = len(selected.series)
    notes = []
    if number > MOST_DRAWN:
        notes.append(f"A picture has at most {MOST_DRAWN} of these {number} figures; choose with --row and --column.")
    notes += [f"Also stored: {', '.join(map(branch_words, others))}; choose with --branch."] if others else []
    if any(one.contention for figures in selected.series.values() for one in figures):
        notes.append("* measured beside other load, and left out where jumps are looked for.")
    return notes


def jumps_report(found: JumpSearch) -> Report:
    """Return every jump, newest first, and in a sentence whether the newest commit is worse."""
    rows = [_jump_row(one) for one in found.jumps]
    columns = JUMPS if any(row["reason"] for row in rows) else JUMPS[:-1]
    caption = (
        "Exact figures: every commit at which they changed. Times: the commit at which the level most probably "
        "changed, and the range (as git writes it) that holds it with 95%."
    )
    commits = found.selected.commits
    newest = f"{short(commits[-1].commit)}, the newest of {counted(len(commits), 'commit')} of "
    newest += branch_words(found.selected.branch)
    worse = found.worse
    verdict = f"{newest}: {_worse_words(worse)}"
    tables = [Table(verdict, columns, rows, caption)] if rows else []
    notes = [] if rows else [verdict]
    if found.within:
        notes.append(f"{counted(found.within, 'jump')} of a time stayed within --fail-above and is not shown.")
    notes += [f"Undecided, {counted(len(names), 'time')}: {reason}." for reason, names in found.undecided.items()]
    keys = dict.fromkeys((one.study, one.row, one.settings, one.column) for one in found.jumps)
    drawn = [row_of(one) for key in keys for one in reversed(found.selected.series.get(key, ()))]
    details = {"figures": drawn, "undecided": {reason: list(names) for reason, names in found.undecided.items()}}
    return Report("history-check", columns_of(Jump), [row_of(one) for one in found.jumps], tables, notes, (), details)


class StoredRows(Rows):
    """Every figure of a history, read as it is written out."""

    columns = columns_of(StoredFigure)

    def __init__(self, history: History) -> None:
        """Read from an open history."""
        self._history = history

    def __len__(self) -> int:
        """Return the number of figures."""
        return self._history.size()

    def values(self) -> Iterator[Sequence[Any]]:
        """Return the values of every row."""
        return (tuple(row_of(one).values()) for one in self._history.every_figure())


def stored_report(history: History) -> Report:
    """Return every figure of a history."""
    rows = StoredRows(history)
    return Report("history", rows.columns, rows, notes=[f"{len(rows):,} figures of {history.path}."])


def _worse_words(worse: Sequence[Jump]) -> str:
    if not worse:
        return "no figure is worse than it was."
    each = "; ".join(f"{one.row} {one.column} since {short(one.commit)}" for one in worse)
    return f"{counted(len(worse), 'figure')} worse than before: {each}."


def _jump_row(jump: Jump) -> dict[str, Any]:
    timed = jump.p_value is not None
    spread = jump.ratio_low is not None and jump.ratio_high is not None and timed
    return row_of(jump) | {
        "commit": short(jump.commit),
        "author_date": jump.author_date[:10],
        "base": figure_text(jump.base, jump.column),
        "new": figure_text(jump.new, jump.column),
        "interval": interval_text(jump.ratio_low or 0.0, jump.ratio_high or 0.0, ".3f") if spread else None,
        "range": f"{short(jump.after)}..{short(jump.until)}",
    }
