"""The notes' figures of chapter 1 as pictures."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.figure import Figure as Canvas

from mlcv_bench.claims.figures import name_of
from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.ground import ground_of, window_of
from mlcv_bench.report.plots.landscape import draw_ground, draw_path, draw_start
from mlcv_bench.report.plots.race_data import distances_along
from mlcv_bench.report.plots.style import plain, style_of, write_near
from mlcv_bench.surfaces.surface import shown

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from mlcv_bench.claims.figures import Drawn
    from mlcv_bench.surface_race.race import Race


def draw(drawn: Drawn, path: Path) -> None:
    """Paint one figure: its caption above; below what the runs say of it, and every setting."""
    canvas = Canvas(layout="constrained")
    match drawn.figure.number:
        case "1.2":
            nesterov_step(drawn, canvas)
        case "1.4":
            gradients(drawn, canvas)
        case _:
            landscapes(drawn, canvas)
    canvas.suptitle(f"{drawn.figure.number}  {drawn.figure.caption}", fontsize=12)
    below = [drawn.figure.found(drawn.races), *map(settings_of, drawn.races)]
    width = round(canvas.get_figwidth() * 15)  # letters of this size on an inch
    written = "\n".join(textwrap.fill(words, width, break_on_hyphens=False) for words in dict.fromkeys(below) if words)
    canvas.supxlabel(written, fontsize=8.5, x=0.01, ha="left")
    save(canvas, path)


def settings_of(race: Race) -> str:
    """Say where a race's runs start, how long they are, and every setting of theirs."""
    if not race.results:
        return ""
    runs = "; ".join(f"{one.optimizer.partition(':')[0]} {one.settings}" for one in race.results)
    return f"{name_of(race)}: {race.steps} steps from ({shown(race.starts[0].point)}). {runs}."


def landscapes(drawn: Drawn, canvas: Canvas) -> None:
    """Draw every surface with its paths, and to its right the distance to the minimum step by step."""
    rows = len(drawn.races)
    canvas.set_size_inches(10.4, 3.9 * rows + 0.9)
    for row, race in enumerate(drawn.races):
        labels = [label for label, _ in race.traces]
        axes = canvas.add_subplot(rows, 2, 2 * row + 1)
        names = ("w0", "w1") if race.surface.finite_sum else ("x", "y")
        draw_ground(axes, ground_of(race.surface, window_of(race.surface, list(race.traces.values()))), names)
        for (label, _), trace in race.traces.items():
            draw_path(axes, trace, style_of(label, labels), label=label)
        draw_start(axes, race.starts[0].point)
        axes.legend(fontsize=8, loc="best", framealpha=0.9)
        formula = race.surface.formula
        axes.set_title(formula if len(formula) < 40 else name_of(race), fontsize=10)  # noqa: PLR2004 - what fits above a panel
        distances(plain(canvas.add_subplot(rows, 2, 2 * row + 2)), race, labels)


def distances(axes: Axes, race: Race, labels: list[str]) -> None:
    """Draw the distance to the minimum against the step, each line named at its rate."""
    for (label, _), trace in race.traces.items():
        apart = distances_along(race.surface, trace)
        axes.plot(apart, **style_of(label, labels).curve, linewidth=1.6, label=label)
    axes.set(yscale="log", xlabel="step", ylabel="distance to the minimum", xlim=(0, race.steps))
    axes.legend(frameon=False)


def nesterov_step(drawn: Drawn, canvas: Canvas) -> None:
    """Draw one step of momentum and of Nesterov from the same point of a real run, as arrows."""
    race = drawn.races[0]
    (trace,) = race.traces.values()
    result = race.results[0]
    settings = {name: float(value) for name, value in (pair.split("=") for pair in result.settings.split())}
    place = np.array(trace.point(1))
    velocity = place - np.array(trace.point(0))
    carried = settings["momentum"] * velocity
    ahead = place + carried
    gradient_here, gradient_there = (-settings["lr"] * np.array(race.surface.gradient(*at)) for at in (place, ahead))
    canvas.set_size_inches(8.6, 4.9)
    corners = [place, ahead, place + gradient_here, ahead + gradient_here, ahead + gradient_there]
    sides = [(min(c[i] for c in corners), max(c[i] for c in corners)) for i in (0, 1)]
    reach = 0.25 * max(high - low for low, high in sides)
    window = tuple((low - reach, high + reach) for low, high in sides)
    here, there = place + gradient_here, ahead + gradient_there
    panels = (
        ("standard momentum: the gradient here", place, here, "−η∇L(θ)", 6, "#D55E00"),
        ("Nesterov momentum: the gradient ahead", ahead, there, "−η∇L(θ + μv)", -16, "#E69F00"),
    )
    for number, (title, foot, head, words, offset, colour) in enumerate(panels, start=1):
        axes = canvas.add_subplot(1, 2, number)
        draw_ground(axes, ground_of(race.surface, (window[0], window[1])))
        gradient = head - foot
        arrow(axes, place, ahead, "#666666")
        label(axes, place + 0.5 * carried, "μv")
        arrow(axes, foot, head, "#0072B2")
        label(axes, foot + 0.5 * gradient, words, (-9, offset))
        arrow(axes, place, ahead + gradient, colour, width=2.4)
        label(axes, place + 0.62 * (carried + gradient), "new v", (-9, 6))
        if foot is place:
            axes.plot(*np.stack([ahead, ahead + gradient]).T, color="#0072B2", linestyle=":", linewidth=1.0)
            axes.plot(*np.stack([head, ahead + gradient]).T, color="#666666", linestyle=":", linewidth=1.0)
        axes.plot(*place, marker="o", color="white", markeredgecolor="black", markersize=8, zorder=8)
        label(axes, place, "θ")
        axes.plot(*(ahead + gradient), marker="o", color=colour, markeredgecolor="white", markersize=8, zorder=8)
        axes.set_aspect("equal")
        axes.set_title(title, fontsize=11)


def arrow(
    axes: Axes, foot: npt.NDArray[np.float64], head: npt.NDArray[np.float64], colour: str, width: float = 1.8
) -> None:
    """Draw an arrow from `foot` to `head`."""
    axes.annotate(
        "",
        xy=(head[0], head[1]),
        xytext=(foot[0], foot[1]),
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0},
        zorder=6,
    )


def label(axes: Axes, place: npt.NDArray[np.float64], text: str, offset: tuple[int, int] = (7, 6)) -> None:
    """Write a word next to a place, readable on any ground."""
    ha: Literal["left", "right"] = "right" if offset[0] < 0 else "left"
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    write_near(axes, text, place, offset, size=9, ha=ha, zorder=9, bbox=box)


def gradients(drawn: Drawn, canvas: Canvas) -> None:
    """Draw a canyon over w2 and w1, with the two parts of a step at eta = 1/L at several places, to scale."""
    surface = drawn.races[0].surface
    assert surface.L is not None  # noqa: S101 - a canyon is quadratic
    canvas.set_size_inches(7.8, 4.8)
    axes = canvas.add_subplot()
    draw_ground(axes, ground_of(surface, ((-5.5, 5.5), (-2.6, 2.6))), ("w2", "w1"))
    for x, y in ((-5.0, 2.0), (-3.0, -1.5), (3.0, 1.5), (5.0, -2.0)):
        place = np.array((x, y))
        along, across = np.array(surface.gradient(x, y)) / surface.L
        arrow(axes, place, place - np.array((0.0, across)), "#D55E00")
        arrow(axes, place, place - np.array((along, 0.0)), "#0072B2")
        axes.plot(x, y, marker="o", color="black", markersize=3, zorder=8)
    axes.plot([], [], color="#D55E00", label="part along w1: large")
    axes.plot([], [], color="#0072B2", label="part along w2: small")
    axes.legend(loc="upper center", framealpha=0.9)
    axes.set_aspect("equal")
    axes.set_title(surface.formula.replace("x^2", "w2^2").replace("y^2", "w1^2"), fontsize=10)
