"""What pictures of races show, as plain numbers: losses, distances, steps against the rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.report.plots.panel import Panel, Scaled, Series, series_of
from mlcv_bench.report.plots.style import style_of
from mlcv_bench.surface_race import theory
from mlcv_bench.surface_race.metrics import MISS, OUTCOMES
from mlcv_bench.surfaces.minima import distance_to_minimum

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surface_race.race import Race
    from mlcv_bench.surface_race.tuning import Sweep
    from mlcv_bench.surfaces.surface import Surface

LOWEST_GAP = 1e-12
"""Of the first gap: what lies lower is not shown."""
FEW_STEPS = 300
"""A budget below which an axis of steps has a name at 2 and 5 too."""
SMALLEST = 1e-300
"""What stands for zero on a logarithmic axis."""
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


def losses_of(surface: Surface, trace: Trajectory) -> npt.NDArray[np.float64]:
    """Return f - f* at every step, kept above zero for a logarithmic axis; or f where no lowest value is known."""
    values = np.asarray(trace.values)
    return values if surface.minimum is None else np.maximum(values - surface.minimum, SMALLEST)


def distances_along(surface: Surface, trace: Trajectory) -> npt.NDArray[np.float64]:
    """Return the distance to the nearest global minimum at every step, interpolated where each is a search.

    Kept above zero for a logarithmic axis; where no minimum is known, it is the distance from the start.
    """
    if trace.distances is not None:
        return np.asarray(np.maximum(trace.distances, SMALLEST))
    points = np.asarray(trace.points).T
    if not surface.minima:
        return np.asarray(np.linalg.norm(points - points[0], axis=1))
    if surface.listed:
        offsets = [np.linalg.norm(points - np.asarray(minimum), axis=1) for minimum in surface.minima]
        return np.asarray(np.maximum(np.min(offsets, axis=0), SMALLEST))
    steps = np.unique(np.linspace(0, len(points) - 1, min(len(points), SEARCHED_STEPS)).astype(int))
    found = [distance_to_minimum(surface, tuple(point)) for point in points[steps].tolist()]
    between = np.interp(np.arange(len(points)), steps, np.array(found, dtype=np.float64))
    return np.asarray(np.maximum(between, SMALLEST))


def curve_panels(race: Race, protocol: str) -> list[Panel]:
    """Return the panels of curves: loss and distance under a protocol, and the rates where they were tuned."""
    panels = [loss_panel(race, protocol), distance_panel(race, protocol)]
    return [*panels, rate_panel(race.sweeps, labels_of(race), race.steps)] if race.sweeps else panels


def loss_panel(race: Race, protocol: str) -> Panel:
    """Return f - f* against the step, with the closed form's slope; or f, where no lowest value is known."""
    surface = race.surface
    found = {label: losses_of(surface, trace) for label, trace in traces_of(race, protocol).items()}
    title, drawn = f"loss, {PROTOCOL_TITLES[protocol]}", curves(race, found)
    if surface.minimum is None:
        return Panel(title, Scaled("step"), Scaled("f"), drawn, legend=False)
    first = surface.value(*race.starts[0].point) - surface.minimum
    right = reach_of(race, protocol, found)
    return Panel(
        title,
        Scaled("step", low=0, high=right),
        Scaled("f - f*", "log", low=LOWEST_GAP * first, high=30 * first),
        [*drawn, *slopes(race, protocol, found, right, power=2)],
        level=race.target * first,
        level_words="target",
        legend=False,
    )


def distance_panel(race: Race, protocol: str) -> Panel:
    """Return the distance to the nearest global minimum against the step, or from the start where none is known."""
    surface = race.surface
    found = {label: distances_along(surface, trace) for label, trace in traces_of(race, protocol).items()}
    drawn = curves(race, found)
    if not surface.minima:
        return Panel("distance from the start", Scaled("step"), Scaled("distance", "log"), drawn, legend=False)
    first = distance_to_minimum(surface, race.starts[0].point) or 1.0
    right = reach_of(race, protocol, found)
    return Panel(
        f"distance to the minimum, {PROTOCOL_TITLES[protocol]}",
        Scaled("step", low=0, high=right),
        Scaled("distance", "log", low=math.sqrt(LOWEST_GAP) * first, high=5 * first),
        [*drawn, *slopes(race, protocol, found, right)],
        legend=False,
    )


def curves(race: Race, found: Mapping[str, npt.NDArray[np.float64]]) -> list[Series]:
    """Return what was found at steps 0, 1, ... as curves."""
    return [series_of(label, labels_of(race), np.arange(len(values)), values) for label, values in found.items()]


def slopes(
    race: Race, protocol: str, found: Mapping[str, npt.NDArray[np.float64]], right: int, *, power: int = 1
) -> list[Series]:
    """Return the closed form's decays, each as high as the curve itself comes to it in the panel's second quarter."""
    steps = np.arange(right + 1)
    lines = []
    for label, values in found.items():
        contraction = contraction_of(race, label, protocol)
        if contraction is None or not 0 < contraction < 1:
            continue
        factor = contraction**power
        quarter = steps[max(1, right // 4) : max(2, right // 2)]
        quarter = quarter[(quarter < len(values)) & (factor**quarter > LOWEST_GAP)]
        reached = values[quarter] / factor**quarter if quarter.size else values[:1]
        decay = reached.max() * factor**steps
        lines.append(series_of(label, labels_of(race), steps, decay, name="", line="--", width=0.9))
    return lines


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


def reach_of(race: Race, protocol: str, labels: Mapping[str, object]) -> int:
    """Return the last step worth showing: some way past the slowest arrival, or all where one is still on its way."""
    shown = [runs.endings for runs in race.runs if runs.optimizer in labels and runs.protocol == protocol]
    arrivals = [np.where(np.asarray(one.last_exit) < 0, one.first_hit, one.last_exit) for one in shown]
    slowest = max((int(steps.max()) for steps in arrivals), default=MISS)
    if slowest < 0 or any((np.asarray(one.outcome) == OUTCOMES.index("budget")).any() for one in shown):
        return race.steps
    return min(race.steps, max(20, math.ceil(1.15 * slowest)))


def rate_panel(sweeps: Sequence[Sweep], labels: Sequence[str], budget: int) -> Panel:
    """Return the median steps to the target at every rate of the grid, the best marked; a miss is not shown."""
    return Panel(
        "steps to the target against the rate",
        Scaled("learning rate", "log", low=sweeps[0].rates[0], high=sweeps[0].rates[-1]),
        Scaled("steps", "log", low=0.8, high=1.4 * budget, rounded=budget < FEW_STEPS),
        [series for sweep in sweeps for series in rate_series(sweep, labels)],
        level=budget,
        level_words="budget",
        legend=False,
    )


def steps_at_rates(sweep: Sweep) -> npt.NDArray[np.float64]:
    """Return the median steps at every rate, NaN for a miss."""
    return np.array([value if math.isfinite(value) else math.nan for value in sweep.medians])


def rate_series(sweep: Sweep, labels: Sequence[str]) -> Iterator[Series]:
    """Return one sweep, then its best rate."""
    label = sweep.optimizer
    steps = steps_at_rates(sweep)
    name = label if sweep.hit_any else f"{label} (never)"
    yield series_of(label, labels, np.array(sweep.rates), steps, name=name, marker=".", size=4)
    if sweep.hit_any:
        best = max(sweep.medians[sweep.best_index], 0.9)
        marker = style_of(label, labels).marker
        yield series_of(
            label, labels, np.array([sweep.best]), np.array([best]), name="", line="", marker=marker, size=8
        )
