"""Figures of costs: any two columns against each other with their Pareto front, and a network's modules as a tree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from mlcv_bench.counting.own_figures import Better, front, guessed
from mlcv_bench.records import Column, fitted
from mlcv_bench.report.costs import COST, PARAMETERS
from mlcv_bench.report.page.figures import HEIGHT, SYMBOLS, PageFigure, blank, text
from mlcv_bench.report.plots.costs import placed
from mlcv_bench.report.plots.timings import MARKERS, SERIES

if TYPE_CHECKING:
    from mlcv_bench.records import Report

OFFERED = ("params", "macs", "activations", "peak_activation_bytes", "weight_bytes", "operators")
"""Columns of a cost that an axis may have, before those of one's own."""
NAMED = 24
"""So many points have their names beside them; of more, those on the front."""
DECADE = 10
SIZES = {"macs": "MACs", "params": "parameters"}
"""What the areas of a tree may show."""

Run = Mapping[str, Any]


def figures(report: Report, _of: object = None) -> Iterator[PageFigure]:
    """Yield the scatter of several rows, and the tree of every network whose modules are known."""
    if len(report.runs) > 1:
        yield scatter(report)
    trees = {name: Tree.of(rows) for name, rows in report.details.get("modules", {}).items() if rows}
    if trees:
        yield icicle(trees)


def summary(report: Report, _of: object = None) -> Iterator[PageFigure]:
    """Yield the tree of the modules that `summary` shows, repeated ones as one that is as large as all."""
    rows: list[tuple[str, str, int, int]] = []
    path: list[str] = []
    for run in report.runs:
        del path[max(0, run["level"] - 1) :]
        path += [run["module"]] if run["level"] else []
        rows.append((".".join(path), run["kind"], run["params"] * run["times"], run["macs"] * run["times"]))
    yield icicle({report.runs[0]["module"]: Tree(rows)})


def scatter(report: Report) -> PageFigure:
    """Return the scatter of any two columns, chosen above it; the front is that of `counting.own_figures`."""
    own = [*report.details.get("join", {}).get("columns", ())]
    first, runs, labels = placed(report)
    columns = columns_of(runs, own)
    families = list(dict.fromkeys(run["family"] for run in runs))
    members = {family: [place for place, run in enumerate(runs) if run["family"] == family] for family in families}
    scaled = {
        column.key: [None if run.get(column.key) is None else run[column.key] / column.scale for run in runs]
        for column in columns
    }
    arrays = {
        f"{key}/{number}": [values[place] for place in members[family]]
        for key, values in scaled.items()
        for number, family in enumerate(families)
    }
    said = [text(label) for label in labels]
    arrays |= {f"text/{number}": [said[place] for place in members[family]] for number, family in enumerate(families)}
    better: dict[str, Better] = {column.key: "lower" for column in columns}
    better |= {name: guessed(name) for name in own}
    if own:
        better[own[0]] = report.details["join"]["better"]
    states = {
        f"{a}|{b}": state(x, y, scaled, better, said, len(families))
        for (a, x), (b, y) in itertools.product(enumerate(columns), repeat=2)
    }
    keys = [column.key for column in columns]
    start = [keys.index(key) for key in first]
    figure = blank()
    for number, family in enumerate(families):
        figure.add_trace(
            go.Scatter(
                mode="markers+text" if len(runs) <= NAMED else "markers",
                textposition="top center",
                cliponaxis=False,
                name=text(family),
                legendgroup=text(family),
                marker={
                    "color": SERIES[number % len(SERIES)],
                    "symbol": SYMBOLS[MARKERS[number % len(MARKERS)]],
                    "size": 10,
                },
                hovertemplate="%{text}<br>%{x:,.4~g}, %{y:,.4~g}<extra></extra>",
            )
        )
    mode = "lines" if len(runs) <= NAMED else "lines+text"
    line = {"color": "#000000", "dash": "dash", "width": 1}
    figure.add_trace(go.Scatter(mode=mode, name="Pareto front", line=line, textposition="top center", hoverinfo="skip"))
    figure.update_layout(height=round(1.3 * HEIGHT), showlegend=True)
    data = {
        "controls": [
            {"label": word, "options": [column.title for column in columns], "start": place}
            for word, place in zip(("across", "upwards"), start, strict=True)
        ],
        "arrays": arrays,
        "states": states,
    }
    caption = (
        "Pareto front: no other network here is better in one of the two figures and not worse in the other. "
        "A click on a family hides it."
    )
    return chosen("One figure against another", figure, caption, data)


def columns_of(runs: Sequence[Run], own: Sequence[str]) -> list[Column]:
    """Return the columns that an axis may have, in units that their figures fill."""
    known = {column.key: column for column in (*PARAMETERS, *COST)}
    offered = [known.get(key, Column(key, key.replace("_", " "))) for key in OFFERED]
    named = {"weight_bytes": "weights", "peak_activation_bytes": "peak activations"}
    offered = [Column(one.key, named.get(one.key, one.header), one.unit, one.format, one.scale) for one in offered]
    there = [one for one in (*offered, *(Column(name, name) for name in own)) if any(run.get(one.key) for run in runs)]
    return list(fitted(there, runs))


def state(
    x: Column,
    y: Column,
    scaled: Mapping[str, Sequence[float | None]],
    better: Mapping[str, Better],
    said: Sequence[str],
    families: int,
) -> dict[str, Any]:
    """Return what page.js sets for one choice of columns: the points, the front, and the axes."""
    sign = 1 if better[x.key] == "lower" else -1
    pairs = [(across, up) for across, up in zip(scaled[x.key], scaled[y.key], strict=True)]
    known = [(place, across, up) for place, (across, up) in enumerate(pairs) if across is not None and up is not None]
    ahead = front([(sign * across, up) for _, across, up in known], better[y.key])
    best = sorted((across, up, said[place]) for (place, across, up), on in zip(known, ahead, strict=True) if on)
    return {
        "data": {
            "x": [*(f"@{x.key}/{number}" for number in range(families)), [point[0] for point in best]],
            "y": [*(f"@{y.key}/{number}" for number in range(families)), [point[1] for point in best]],
            "text": [*(f"@text/{number}" for number in range(families)), [point[2] for point in best]],
        },
        "layout": {
            **axis("xaxis", x, [across for _, across, _ in known]),
            **axis("yaxis", y, [up for *_, up in known]),
        },
    }


def axis(name: str, column: Column, values: Sequence[float]) -> dict[str, Any]:
    """Return the words and the scale of an axis: logarithmic from a decade on, where nothing is zero."""
    wide = bool(values) and min(values) > 0 and max(values) >= DECADE * min(values)
    return {
        f"{name}.title.text": text(column.title),
        f"{name}.type": "log" if wide else "linear",
        f"{name}.dtick": "D2" if wide else None,
        f"{name}.tickformat": ",~g" if wide else None,
        f"{name}.autorange": True,
    }


class Tree:
    """The modules of a network as plotly's icicle takes them; every value is that of the module and all below it."""

    def __init__(self, rows: Sequence[tuple[str, str, int, int]]) -> None:
        """Have a row a module: path, kind, parameters and MACs, its parents among them."""
        self.ids = [path for path, *_ in rows]
        self.parents = [path.rpartition(".")[0] if path else None for path in self.ids]
        self.kinds = [kind for _, kind, *_ in rows]
        self.sums = {"params": [row[2] for row in rows], "macs": [row[3] for row in rows]}

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]]) -> Tree:
        """Return the tree of modules that each have what is their own alone."""
        held: dict[str, list[Any]] = {"": ["", "", 0, 0]}
        for path, kind, params, macs in rows:
            held.setdefault(path, [path, kind, 0, 0])[1] = kind
            place = path
            while True:
                # A container that costs nothing itself may have no row of its own.
                row = held.setdefault(place, [place, "", 0, 0])
                row[2] += params
                row[3] += macs
                if not place:
                    break
                place = place.rpartition(".")[0]
        return cls([(path, kind, params, macs) for path, kind, params, macs in held.values()])


def icicle(trees: Mapping[str, Tree]) -> PageFigure:
    """Return the modules of the chosen network as an icicle, whose areas are MACs or parameters."""
    arrays: dict[str, list[Any]] = {}
    for number, (name, tree) in enumerate(trees.items()):
        arrays[f"ids/{number}"] = [path or "all" for path in tree.ids]
        arrays[f"parents/{number}"] = ["" if parent is None else parent or "all" for parent in tree.parents]
        arrays[f"labels/{number}"] = [text(path.rpartition(".")[2] or name) for path in tree.ids]
        arrays[f"text/{number}"] = [text(kind) for kind in tree.kinds]
        for size in SIZES:
            arrays[f"{size}/{number}"] = tree.sums[size]
    states = {
        f"{number}|{place}": {
            "data": {
                **{key: [f"@{key}/{number}"] for key in ("ids", "parents", "labels", "text")},
                "values": [f"@{size}/{number}"],
                "hovertemplate": [
                    f"%{{id}} %{{text}}<br>%{{value:,}} {SIZES[size]}, %{{percentRoot:.1%}} of all<extra></extra>"
                ],
            },
            "layout": {},
        }
        for number in range(len(trees))
        for place, size in enumerate(SIZES)
    }
    figure = blank(round(1.2 * HEIGHT))
    figure.add_trace(
        go.Icicle(
            branchvalues="total",
            tiling={"orientation": "v"},
            textinfo="label+percent root",
            root={"color": "rgba(127,127,127,0.35)"},
            leaf={"opacity": 1},  # a clear one would take the page's colour, and its letters the other's
            sort=False,
            marker={"line": {"width": 1}},
        )
    )
    figure.update_layout(iciclecolorway=list(SERIES[:6]), margin={"l": 0, "r": 0, "t": 5, "b": 5})
    data = {
        "controls": [
            {"label": "network", "options": list(trees), "start": 0},
            {"label": "size by", "options": list(SIZES.values()), "start": 0},
        ],
        "arrays": arrays,
        "states": states,
    }
    caption = "A click on a module opens it; a click on the bar above goes back."
    return chosen("The modules of a network", figure, caption, data)


def chosen(title: str, figure: go.Figure, caption: str, data: Mapping[str, Any]) -> PageFigure:
    """Return a figure whose selects above it choose among states, showing the first choice."""
    state = data["states"]["|".join(str(control["start"]) for control in data["controls"])]
    for key, values in state["data"].items():
        for trace, value in zip(figure.data, values, strict=True):
            trace[key] = data["arrays"].get(value[1:], value) if isinstance(value, str) else value
    figure.update_layout({key.replace(".", "_"): value for key, value in state["layout"].items()})
    return PageFigure(title, figure, caption, "choose", data, whole=True)
