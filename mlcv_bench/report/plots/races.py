"""Pictures of races: paths seen from above, loss and distance against steps, sensitivity to the rate, animation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.report.plots.landscape import Window, draw_ground, draw_path, draw_start, height_of, titled, window_of
from mlcv_bench.report.plots.style import Style, legend_columns, plain, style_of, write_near
from mlcv_bench.surface_race import theory
from mlcv_bench.surface_race.metrics import MISS, OUTCOMES
from mlcv_bench.surfaces.minima import distance_to_minimum

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surface_race.race import Race
    from mlcv_bench.surface_race.tuning import Sweep
    from mlcv_bench.surfaces.surface import Surface

LOWEST_GAP = 1e-12
MOST_TOGETHER = 20
"""Optimizers whose paths are told apart in one panel; more have a panel each."""
PANELS_ACROSS = 6
SEARCHED_STEPS = 200  # of a path, where every distance is a search
PROTOCOL_TITLES = {"default": "default settings", "tuned": "tuned rate", "theory": "theory's settings"}


def labels_of(race: Race) -> list[str]:
    """Return the optimizers in the order of their entry."""
    return list(dict.fromkeys(label for label, _ in race.traces))


def protocols_of(race: Race) -> list[str]:
    """Return the protocols that were run, in the order of the contract."""
    return [name for name in PROTOCOL_TITLES if any(protocol == name for _, protocol in race.traces)]


def shown_of(protocols: Sequence[str]) -> str:
    """Return the protocol that the curves show."""
    return "tuned" if "tuned" in protocols else (protocols or ["default"])[0]


def traces_of(race: Race, protocol: str) -> dict[str, Trajectory]:
    """Return the path of every optimizer under a protocol."""
    return {label: trace for (label, name), trace in race.traces.items() if name == protocol}


def paint(race: Race, figure: Figure) -> None:
    """Lay out the panels: one landscape a protocol above, the curves below."""
    labels, protocols = labels_of(race), protocols_of(race)
    flat = race.surface.dimension == 2  # noqa: PLR2004 - only a plane is seen from above
    if flat and len(labels) > MOST_TOGETHER:
        one_by_one(race, figure, shown_of(protocols))
        return
    curves = 2 + bool(race.sweeps)
    columns = max(len(protocols) if flat else 0, curves, 1)
    rows = 2 if flat and protocols else 1
    window = window_of(race.surface, list(race.traces.values())) if rows > 1 else None
    wide = min(4.9 * columns / max(len(protocols), 1), 7.2) - 0.6
    above = [0.9 + wide * height_of(window)] if window is not None else []
    below = 4.3
    figure.set_size_inches(4.9 * columns, sum(above) + below + 0.9)
    # Each row is laid out by itself: two panels above three share no columns.
    bands = figure.subfigures(rows, 1, squeeze=False, height_ratios=[*above, below])[:, 0]
    if window is not None:
        for axes, protocol in zip(bands[0].subplots(1, len(protocols), squeeze=False)[0], protocols, strict=True):
            landscape(axes, race, protocol, labels, window)
    shown = shown_of(protocols)
    panels = bands[-1].subplots(1, curves)
    gaps(panels[0], race, shown, labels)
    distances(panels[1], race, shown, labels)
    if race.sweeps:
        sensitivity(panels[2], race, labels)
    figure.suptitle(titled(race.surface), fontsize=12)
    handles = [handle_of(label, labels) for label in labels]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(figure, labels), frameon=False)


def one_by_one(race: Race, figure: Figure, protocol: str) -> None:
    """Draw the path of each of many optimizers in a panel of its own, the best first."""
    firsts = [next(runs.results(slice(1))) for runs in race.runs if runs.protocol == protocol]
    missed = math.inf
    order = {
        one.optimizer: tuple(missed if value is None else value for value in (one.last_exit, one.final_loss))
        for one in firsts
    }
    traces = traces_of(race, protocol)
    window = window_of(race.surface, list(traces.values()))
    rows = -(-len(traces) // PANELS_ACROSS)
    figure.set_size_inches(2.1 * PANELS_ACROSS, (0.35 + 1.9 * height_of(window)) * rows + 0.6)
    panels = list(figure.subplots(rows, PANELS_ACROSS, squeeze=False).flat)
    for axes, label in zip(panels, sorted(traces, key=order.__getitem__), strict=False):
        draw_ground(axes, race.surface, window, ("", ""))
        draw_path(axes, traces[label], style_of(label, [label]))
        draw_start(axes, race.starts[0].point)
        axes.set_title(label, fontsize=6)
        axes.set(xticks=[], yticks=[])
    for axes in panels[len(traces) :]:
        axes.set_visible(False)
    figure.suptitle(f"{titled(race.surface)}, {PROTOCOL_TITLES[protocol]}", fontsize=12)


def handle_of(label: str, labels: Sequence[str]) -> Line2D:
    """Return an optimizer's entry in a legend."""
    style = style_of(label, labels)
    return Line2D([], [], **style.curve | style.head(), label=label)


def landscape(axes: Axes, race: Race, protocol: str, labels: list[str], window: Window) -> None:
    """Draw the surface from above with every optimizer's path under one protocol."""
    draw_ground(axes, race.surface, window)
    for label, trace in traces_of(race, protocol).items():
        draw_path(axes, trace, style_of(label, labels))
    draw_start(axes, race.starts[0].point)
    axes.set_title(PROTOCOL_TITLES[protocol], fontsize=11)


def gaps(axes: Axes, race: Race, protocol: str, labels: list[str]) -> None:
    """Draw f - f* against the step on a log axis, with the closed form's slope dashed."""
    lowest = race.surface.minimum
    plain(axes)
    axes.set_title(f"loss, {PROTOCOL_TITLES[protocol]}", fontsize=11)
    axes.set_xlabel("step")
    traces = traces_of(race, protocol)
    if lowest is None:
        axes.set_ylabel("f")
        for label, trace in traces.items():
            axes.plot(trace.values, **style_of(label, labels).curve, linewidth=1.4)
        return
    first = race.surface.value(*race.starts[0].point) - lowest
    axes.set_ylabel("f - f*")
    axes.axhline(race.target * first, color="black", linewidth=0.8, linestyle=":")
    gap = {label: np.asarray(trace.values) - lowest for label, trace in traces.items()}
    write_near(axes, "target", (reach_of(race, protocol, gap), race.target * first), (-4, 3), ha="right")
    decays(axes, race, protocol, labels, gap, power=2, zorder=3)
    axes.set_ylim(LOWEST_GAP * first, 30 * first)


def decays(
    axes: Axes,
    race: Race,
    protocol: str,
    labels: list[str],
    values: Mapping[str, npt.NDArray[np.float64]],
    *,
    power: int = 1,
    zorder: int = 2,
) -> None:
    """Draw what decays step by step on a log axis, and dashed the closed form's factor to a power."""
    axes.set_yscale("log")
    right = reach_of(race, protocol, values)
    for label, found in values.items():
        style = style_of(label, labels)
        axes.plot(np.maximum(found, 1e-300), **style.curve, linewidth=1.4, zorder=zorder)
        factor = contraction_of(race, label, protocol)
        if factor is not None and 0 < factor < 1:
            draw_slope(axes, found, factor**power, right, style.colour)
    axes.set_xlim(0, right)


def contraction_of(race: Race, label: str, protocol: str) -> float | None:
    """Return the closed form's factor a step, at the settings that an optimizer ran with."""
    for runs in race.runs:
        if runs.optimizer == label and runs.protocol == protocol:
            name = label.partition(":")[0]
            if name not in RULES or race.surface.stochastic:
                return None
            settings = dict(pair.split("=") for pair in runs.settings.split())
            return theory.contraction(name, {key: float(value) for key, value in settings.items()}, race.surface)
    return None


def draw_slope(axes: Axes, values: npt.NDArray[np.float64], factor: float, right: int, colour: str) -> None:
    """Draw the closed form's decay, dashed, as high as the curve itself comes to it in the panel's second quarter."""
    steps = np.arange(right + 1)
    quarter = steps[max(1, right // 4) : max(2, right // 2)]
    quarter = quarter[(quarter < len(values)) & (factor**quarter > LOWEST_GAP)]
    reached = values[quarter] / factor**quarter if quarter.size else values[:1]
    axes.plot(steps, reached.max() * factor**steps, color=colour, linestyle=(0, (4, 3)), linewidth=0.9, zorder=2)


def reach_of(race: Race, protocol: str, labels: Mapping[str, object]) -> int:
    """Return the last step worth showing: some way past the slowest arrival, or all where one is still on its way."""
    shown = [runs.endings for runs in race.runs if runs.optimizer in labels and runs.protocol == protocol]
    arrivals = [np.where(np.asarray(one.last_exit) < 0, one.first_hit, one.last_exit) for one in shown]
    slowest = max((int(steps.max()) for steps in arrivals), default=MISS)
    if slowest < 0 or any((np.asarray(one.outcome) == OUTCOMES.index("budget")).any() for one in shown):
        return race.steps
    return min(race.steps, max(20, math.ceil(1.15 * slowest)))


def distances_along(surface: Surface, trace: Trajectory) -> npt.NDArray[np.float64]:
    """Return the distance to the nearest global minimum at every step, interpolated where each is a search."""
    if trace.distances is not None:
        return np.asarray(trace.distances)
    points = np.asarray(trace.points).T
    if surface.listed:
        offsets = [np.linalg.norm(points - np.asarray(minimum), axis=1) for minimum in surface.minima]
        return np.asarray(np.min(offsets, axis=0))
    steps = np.unique(np.linspace(0, len(points) - 1, min(len(points), SEARCHED_STEPS)).astype(int))
    found = [distance_to_minimum(surface, tuple(point)) for point in points[steps].tolist()]
    return np.interp(np.arange(len(points)), steps, np.array(found, dtype=np.float64))


def distances(axes: Axes, race: Race, protocol: str, labels: list[str]) -> None:
    """Draw the distance to the nearest global minimum against the step, on a log axis."""
    traces = traces_of(race, protocol)
    plain(axes)
    axes.set_xlabel("step")
    if not race.surface.minima:
        axes.set_title("distance from the start", fontsize=11)
        origin = np.asarray(race.starts[0].point)
        for label, trace in traces.items():
            offsets = np.asarray(trace.points).T - origin
            axes.plot(np.linalg.norm(offsets, axis=1), **style_of(label, labels).curve, linewidth=1.4)
        axes.set_yscale("symlog", linthresh=1e-2)
        return
    axes.set_title(f"distance to the minimum, {PROTOCOL_TITLES[protocol]}", fontsize=11)
    axes.set_ylabel("distance")
    first = distance_to_minimum(race.surface, race.starts[0].point) or 1.0
    found = {label: distances_along(race.surface, trace) for label, trace in traces.items()}
    decays(axes, race, protocol, labels, found)
    axes.set_ylim(math.sqrt(LOWEST_GAP) * first, 5 * first)


def sensitivity(axes: Axes, race: Race, labels: list[str]) -> None:
    """Draw the median steps to the target at every rate of the grid."""
    plain(axes)
    axes.set_title("steps to the target against the rate", fontsize=11)
    for sweep in race.sweeps:
        draw_sweep(axes, sweep, style_of(sweep.optimizer, labels))
    frame_sweeps(axes, race.sweeps[0], race.steps)
    axes.set_ylim(0.8, 1.3 * race.steps)
    axes.set_ylabel("steps")
    write_near(axes, "budget", (race.sweeps[0].rates[0], race.steps), (4, -10))


def draw_sweep(axes: Axes, sweep: Sweep, style: Style, *, width: float = 1.5, dot: float = 4, head: float = 8) -> None:
    """Draw one sweep, its best rate marked; a rate between two misses stays visible as a point."""
    steps = [value if math.isfinite(value) else math.nan for value in sweep.medians]
    axes.plot(sweep.rates, steps, **style.curve, linewidth=width, marker=".", markersize=dot)
    if sweep.hit_any:
        best = sweep.best_index
        axes.plot(sweep.rates[best], max(steps[best], 0.9), **style.head(head), zorder=5)


def frame_sweeps(axes: Axes, sweep: Sweep, budget: int) -> None:
    """Set up the axes of sweeps, with their budget of steps as a line."""
    axes.set(xscale="log", yscale="log", xlabel="learning rate", xlim=(sweep.rates[0], sweep.rates[-1]))
    axes.axhline(budget, color="black", linewidth=0.8, linestyle=":")
