"""The page of a race on a surface: paths from above and in three dimensions, curves, and what moves them.

Every path is drawn at `MOST_POINTS` of its steps at most, as 32-bit numbers. `race.js` cuts the paths at a step, and
puts those of another protocol or of a rate of the tuning in their place; it reads `data_of` and the `meta` of traces.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import plotly.graph_objects as go

from mlcv_bench.report.page.figures import (
    FROM_ABOVE,
    NOT_RUN_AGAIN,
    SIDE,
    SOLID,
    TALL,
    Markup,
    PageFigure,
    absent,
    blank,
    figure_of,
    mark,
    path_traces,
    text,
)
from mlcv_bench.report.plots.ground import LEVELS, Ground, alike, ground_of, titled, window_of
from mlcv_bench.report.plots.panel import Panel
from mlcv_bench.report.plots.race_data import (
    PROTOCOL_TITLES,
    distance_panel,
    distances_along,
    labels_of,
    loss_panel,
    losses_of,
    protocols_of,
    rate_panel,
    reach_of,
    shown_of,
    traces_of,
)
from mlcv_bench.report.plots.style import style_of
from mlcv_bench.report.plots.tasks import panels as panels_of_tasks
from mlcv_bench.surface_race.engines import retraced
from mlcv_bench.surface_race.race import Race
from mlcv_bench.surface_race.tuning import GRID, Sweep

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlcv_bench.records import Report
    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surfaces.surface import Point

    Floats = npt.NDArray[np.float32]

MOST_POINTS = 200
"""Steps of a path that a page keeps: the first half of them all, then ever fewer."""
RETRACING_S = 8.0
"""So long a page may take to walk the runs of one optimizer's tuning again."""
EVERY = 2
"""A page keeps every other row and column of the picture's heights, and in three dimensions every sixth."""
SMALLEST = np.float32(1e-38)
"""Smaller numbers are none of 32 bits, and none on a logarithmic axis."""
SEEN = 1 / 400
"""A step that moves nothing by this share of any axis is not kept: no figure would show it."""
DECADES = 12
"""Of a logarithmic axis."""
HEIGHT = 360
"""Pixels of the curves."""

BEHAVIOUR = "race"
"""What of the page's script works on these figures."""
Shows = Literal["point", "height", "loss", "distance"]


def marks_of(last: int) -> npt.NDArray[np.int64]:
    """Return the steps, 0 and `last` among them, that a page may keep."""
    half = MOST_POINTS // 2
    if last < MOST_POINTS:
        return np.arange(last + 1)
    return np.unique([*range(half), *np.geomspace(half, last, half).round().astype(int)])


@dataclass(frozen=True, eq=False)
class Course:
    """A run as a page keeps it: `loss` is f - f*, or f where no lowest value is known; no x and y but in a plane."""

    steps: npt.NDArray[np.int32]
    loss: Floats
    distance: Floats
    x: Floats | None = None
    y: Floats | None = None
    height: Floats | None = None

    @classmethod
    def of(cls, trace: Trajectory, race: Race, ground: Ground | None) -> Course:
        """Thin a trajectory out."""
        marks = marks_of(len(trace.values) - 1)
        curves, moved = [], []
        for values, known in (
            (losses_of(race.surface, trace)[marks], race.surface.minimum is not None),
            (distances_along(race.surface, trace)[marks], bool(race.surface.minima)),
        ):
            curves.append(np.maximum(values, SMALLEST) if known else values)
            moved.append(decades(curves[-1]) if known else values / (np.ptp(values[np.isfinite(values)]) or 1.0))
        plane = []
        if ground is not None:
            plane = [np.asarray(part)[marks] for part in trace.points]
            moved += [part / (high - low) for part, (low, high) in zip(plane, ground.window, strict=True)]
            plane.append(ground.heights(np.nan_to_num(np.asarray(trace.values)[marks], nan=np.inf)))
        kept = visible_steps(np.stack(moved, axis=1))
        with np.errstate(over="ignore"):
            numbers = [part[kept].astype(np.float32) for part in (*curves, *plane)]
        return cls(marks[kept].astype(np.int32), *numbers)

    def data(self) -> dict[str, Any]:
        """Return it as the page's script reads it."""
        return {name: packed(values) for name, values in vars(self).items() if values is not None}


def decades(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return where values stand on a logarithmic axis below the first; what lies lower stands at its end."""
    return np.asarray(np.log10(np.maximum(values / values[0], 10.0**-DECADES)) / DECADES)


def visible_steps(places: npt.NDArray[np.float64]) -> list[int]:
    """Return the rows, the first and the last among them, that differ from the one kept before in a share of an axis.

    Args:
        places: shape [steps, axes], as shares of the axes.

    """
    kept = [0]
    for row in range(1, len(places)):
        if not (np.abs(places[row] - places[kept[-1]]) < SEEN).all():
            # The row before ends what did not move, so that a line does not begin to move too early.
            kept += [row - 1, row] if kept[-1] < row - 1 else [row]
    return kept if kept[-1] == len(places) - 1 else [*kept, len(places) - 1]


def packed(values: npt.NDArray[Any]) -> dict[str, str]:
    """Return numbers as plotly writes them too: their type, and their bytes in base64."""
    if values.dtype == np.int32 and values[-1] < 2**16:
        values = values.astype(np.uint16)
    return {"dtype": values.dtype.str[1:], "bdata": base64.b64encode(values.tobytes()).decode()}


def figures(report: Report, race: object) -> Iterator[PageFigure | Panel | Markup]:
    """Yield the figures of a race; of a saved one on a surface that was not run again, the tuning alone."""
    if "setups" in report.details:
        yield from (replace(panel, legend=True) for panel in panels_of_tasks(report))
        return
    if not isinstance(race, Race):
        yield absent("Paths", f"The file holds no paths, {NOT_RUN_AGAIN}")
        sweeps = [saved_sweep(details) for details in report.details.get("sweeps", ())]
        if sweeps:
            labels = list(dict.fromkeys(run["optimizer"] for run in report.runs))
            yield replace(rate_panel(sweeps, labels, report.details["steps"]), legend=True)
        return
    if race.traces:
        yield from figures_of_paths(race)
    if race.sweeps:
        panel = rate_panel(race.sweeps, labels_of(race), race.steps)
        yield PageFigure("Steps to the target against the rate", in_looks(figure_of(panel)), whole=True)


def figures_of_paths(race: Race) -> Iterator[PageFigure]:
    """Yield what the race's runs did; the first figure has the controls, and the data of all."""
    flat = race.surface.dimension == 2  # noqa: PLR2004 - only a plane is seen from above
    ground = ground_of(race.surface, window_of(race.surface, list(race.traces.values()))) if flat else None
    courses = {pair: Course.of(trace, race, ground) for pair, trace in race.traces.items()}
    protocol = shown_of(protocols_of(race))
    shown = {label: course for (label, name), course in courses.items() if name == protocol}
    data, left_out = data_of(race, courses, ground)
    caption = words_of(race, left_out)
    found: list[PageFigure] = []
    if ground is not None:
        found += [
            PageFigure(f"Paths from above, {titled(race.surface)}", from_above(ground, shown, race), caption),
            PageFigure("Paths in three dimensions", in_three_dimensions(ground, shown)),
        ]
    origin = "to the minimum" if race.surface.minima else "from the start"
    found += [
        PageFigure("Loss", curves(race, loss_panel, "loss", shown, protocol)),
        PageFigure(f"Distance {origin}", curves(race, distance_panel, "distance", shown, protocol)),
    ]
    yield replace(found[0], behaviour=BEHAVIOUR, data=data, caption=caption)
    yield from found[1:]


def data_of(
    race: Race, courses: Mapping[tuple[str, str], Course], ground: Ground | None
) -> tuple[dict[str, Any], list[str]]:
    """Return what the page's script needs, and the optimizers whose tuning took too long to be walked again."""
    runs: dict[str, dict[str, Any]] = {text(label): {} for label in labels_of(race)}
    for (label, protocol), course in courses.items():
        runs[text(label)][protocol] = course.data()
    left_out = []
    for sweep in race.sweeps:
        paths = retraced(sweep, race.starts[0], RETRACING_S)
        if paths:
            runs[text(sweep.optimizer)]["rates"] = [Course.of(path, race, ground).data() for path in paths]
        else:
            left_out.append(sweep.optimizer)
    protocols = protocols_of(race)
    known = race.surface.minimum is not None
    reach = {name: reach_of(race, name, traces_of(race, name)) if known else race.steps for name in protocols}
    return {
        "protocols": {name: PROTOCOL_TITLES[name] for name in protocols},
        "shown": shown_of(protocols),
        "reach": reach,
        "steps": race.steps,
        "marks": marks_of(race.steps).tolist(),
        "rates": list(GRID) if len(left_out) < len(race.sweeps) else [],
        "names": {text(label): label for label in labels_of(race)},
        "runs": runs,
    }, left_out


def moved(traces: Sequence[Any], data: Mapping[str, Any], state: str, rate: int | None = None) -> list[Any]:
    """Return the arguments of plotly's `restyle` that put whole runs of a protocol, or of a rate, into traces."""
    places = [place for place, trace in enumerate(traces) if trace.meta and "shows" in trace.meta]
    changed: dict[str, list[Any]] = {"x": [], "y": [], "z": [], "customdata": []}
    for place in places:
        held = data["runs"][traces[place].meta["run"]].get(state)
        course = held if rate is None or held is None else held[rate]
        points = points_of(course, traces[place].meta) if course else {}
        for name, values in changed.items():
            values.append(points.get(name, []))
    return [changed, places]


def points_of(course: Mapping[str, Any], what: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a trace shows of a run, as plotly reads it."""
    run = {name: unpacked(values) for name, values in course.items()}
    cut = slice(-1, None) if what["head"] else slice(None)
    if what["shows"] in {"loss", "distance"}:
        return {"x": packed(run["steps"][cut]), "y": packed(run[what["shows"]][cut])}
    told = np.stack([run["steps"].astype(np.float32), run["loss"]], axis=1)[cut]
    points = {name: packed(run[name][cut]) for name in ("x", "y")}
    points["customdata"] = packed(told.ravel()) | {"shape": f"{len(told)}, 2"}
    return points | ({"z": packed(run["height"][cut])} if what["shows"] == "height" else {})


def unpacked(held: Mapping[str, str]) -> npt.NDArray[Any]:
    """Return the numbers that `packed` wrote."""
    return np.frombuffer(base64.b64decode(held["bdata"]), held["dtype"])


def words_of(race: Race, left_out: Sequence[str]) -> str:
    """Say what is shown, and what is not."""
    words = [f"Every path is drawn at up to {MOST_POINTS} of its steps, the first {MOST_POINTS // 2} among them."]
    if len(race.starts) > 1:
        words.append(f"Paths are those of the first of {len(race.starts)} starts.")
    if race.sweeps:
        words.append("A tuning keeps no paths: those of its rates were run again for this page, from this start.")
    if left_out:
        words.append(f"Left out, since that takes long: {', '.join(left_out)}.")
    return " ".join(words)


def meta(label: str, shows: Shows, *, head: bool = False) -> dict[str, Any]:
    """Return what a trace tells the page's script of itself."""
    return {"run": text(label), "shows": shows, "head": head}


def from_above(ground: Ground, shown: Mapping[str, Course], race: Race) -> go.Figure:
    """Draw lines of equal height, and on them every path with its head."""
    figure = blank(TALL).update_layout(showlegend=False)
    raised = ground.heights(ground.values)[::EVERY, ::EVERY].astype(np.float32)
    figure.add_trace(
        go.Contour(
            x=ground.x[::EVERY].astype(np.float32),
            y=ground.y[::EVERY].astype(np.float32),
            z=raised,
            contours={"start": 0, "end": 1, "size": 1 / (LEVELS - 1)},
            colorscale=FROM_ABOVE,
            line={"color": "#8A95A1", "width": 0.5},
            showscale=False,
            hoverinfo="skip",
        )
    )
    for label, course in shown.items():
        for head, trace in enumerate(path_traces(label, list(shown), *in_plane(course), hover_of(label))):
            trace.meta = meta(label, "point", head=bool(head))
            figure.add_trace(trace)
    for name, points, symbol in places_of(ground, race):
        figure.add_trace(mark(name, points, symbol, f"{name} (%{{x:.4g}}, %{{y:.4g}})"))
    scale = {"scaleanchor": "x", "constrain": "domain"} if alike(ground.window) else {}
    figure.update_layout(
        xaxis={"range": ground.window[0], "title": {"text": "x"}, "constrain": "domain", "showgrid": False},
        yaxis={"range": ground.window[1], "title": {"text": "y"}, "showgrid": False, **scale},
    )
    return figure


def in_plane(course: Course) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the points of a path with their steps and losses, and those of its head."""
    told = np.stack([course.steps.astype(np.float32), course.loss], axis=1)
    whole = {"x": course.x, "y": course.y, "customdata": told}
    return whole, {name: values[-1:] for name, values in whole.items() if values is not None}


def places_of(ground: Ground, race: Race) -> Iterator[tuple[str, Sequence[Point], str]]:
    """Yield what is marked besides: its name, its points and plotly's symbol."""
    yield "start", [race.starts[0].point], "circle-open"
    if ground.surface.minima:
        yield "minimum", ground.surface.minima, "cross-thin-open"
    if ground.surface.local_minima:
        yield "local minimum", ground.surface.local_minima, "x-thin-open"


def hover_of(label: str) -> str:
    """Return what a point of a path says of itself."""
    figures = "step %{customdata[0]}<br>at (%{x:.4g}, %{y:.4g})<br>loss %{customdata[1]:.4g}"
    return f"{text(label)}<br>{figures}<extra></extra>"


def in_three_dimensions(ground: Ground, shown: Mapping[str, Course]) -> go.Figure:
    """Draw the surface with the paths on it."""
    figure = blank(TALL).update_layout(showlegend=False)
    every = 3 * EVERY
    raised = ground.heights(ground.values)[::every, ::every].astype(np.float32)
    figure.add_trace(
        go.Surface(
            x=ground.x[::every].astype(np.float32),
            y=ground.y[::every].astype(np.float32),
            z=raised,
            colorscale=SOLID,
            showscale=False,
            hoverinfo="skip",
            opacity=0.9,
        )
    )
    for label, course in shown.items():
        style = style_of(label, list(shown))
        for head in (False, True):
            lines = in_plane(course)[head]
            figure.add_trace(
                go.Scatter3d(
                    **lines,
                    z=course.height[-1:] if head and course.height is not None else course.height,
                    mode="markers" if head else "lines",
                    line={"color": style.colour, "width": 5},
                    marker={"color": style.colour, "size": 4},
                    meta=meta(label, "height", head=head),
                    name=text(label),
                    legendgroup=text(label),
                    showlegend=not head,
                    hovertemplate=hover_of(label),
                )
            )
    ticks = [ground.lowest + ground.span * 10.0**-power for power in range(3)]
    figure.update_layout(
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene={
            "xaxis": {"range": ground.window[0], "title": {"text": "x"}, **SIDE},
            "yaxis": {"range": ground.window[1], "title": {"text": "y"}, **SIDE},
            "zaxis": {
                "range": [0, 1.02],
                "title": {"text": "f"},
                "tickvals": ground.heights(np.array(ticks)).tolist(),
                "ticktext": [f"{float(f'{tick:.2g}'):g}" for tick in ticks],
                **SIDE,
            },
            "aspectmode": "manual",
            "aspectratio": {"x": 1.2, "y": 1.2, "z": 0.7},
            "camera": {"eye": {"x": 1.15, "y": -1.3, "z": 1.35}},
        },
    )
    return figure


def curves(
    race: Race, panel: Callable[[Race, str], Panel], shows: Shows, shown: Mapping[str, Course], protocol: str
) -> go.Figure:
    """Draw a panel of curves at the steps that a page keeps, with the closed form's slopes of every protocol."""
    panels = {name: panel(race, name) for name in protocols_of(race)}
    found = panels[protocol]
    own = [one for one in found.series if one.name]
    thinned = [replace(one, x=shown[one.group].steps, y=getattr(shown[one.group], shows)) for one in own]
    figure = in_looks(figure_of(replace(found, series=thinned)))
    for trace, one in zip(figure.data, own, strict=True):
        trace.meta = meta(one.group, shows)
    for name, other in panels.items():
        slopes = [one for one in other.series if not one.name]
        for trace in figure_of(replace(found, series=slopes)).data:
            # A straight line on a logarithmic axis needs its ends alone.
            trace.update(
                x=trace.x[[0, -1]],
                y=trace.y[[0, -1]],
                meta={"protocol": name},
                opacity=float(name == protocol),
                hoverinfo="skip",
            )
            figure.add_trace(trace)
    return figure


def in_looks(figure: go.Figure) -> go.Figure:
    """Give a panel of curves its height; the controls name the optimizers of all figures."""
    return figure.update_layout(height=HEIGHT, showlegend=False)


def saved_sweep(details: Mapping[str, Any]) -> Sweep:
    """Return a tuning from a saved result, whose steps are its medians."""
    steps = [[-1 if value is None else value] for value in details["medians"]]
    finals = [np.inf if value is None else value for value in details["final_values"]]
    return Sweep(details["optimizer"], tuple(details["rates"]), steps, steps, tuple(finals), details["stochastic"])
