"""One claim as a picture: the scene that makes the remark obvious, and every measured number on theory's."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure as Canvas

from mlcv_bench.claims.paths import distances, path
from mlcv_bench.report.claims import VERDICTS
from mlcv_bench.report.diagrams.networks import draw as draw_network
from mlcv_bench.report.plots.landscape import draw_ground, draw_path, draw_start, window_of
from mlcv_bench.report.plots.style import COLOURS, Style, style_of
from mlcv_bench.surfaces import builtin, finite_sum

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mlcv_bench.claims.claim import ClaimResult, Quantity
    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surfaces.surface import Point, Surface

DPI = 130
RIGHT, WRONG, OPEN = COLOURS[0], COLOURS[1], "#8C8C00"
OFF = 1.0
"""How far from theory a dot may stand on the chart, as a share of theory; what is farther stands at the edge."""

Run = tuple[str, str, dict[str, Any]]
"""Label, rule, settings."""
Scene = Callable[["Axes"], None]


def runs_on(surface: Surface, runs: Sequence[Run], steps: int, start: Point | None) -> dict[str, Trajectory]:
    """Run rules from one start."""
    return {label: path(rule, surface, start, steps=steps, **settings) for label, rule, settings in runs}


def over_surface(surface: Surface, runs: Sequence[Run], steps: int, start: Point | None = None) -> Scene:
    """Return a scene: paths over the surface's contours."""

    def scene(axes: Axes) -> None:
        traces = runs_on(surface, runs, steps, start)
        draw_ground(axes, surface, window_of(surface, list(traces.values())))
        for number, (label, _, _) in enumerate(runs):
            draw_path(axes, traces[label], styled(runs, number), label=label)
        draw_start(axes, start or surface.start)
        axes.legend(fontsize=8, loc="lower right")

    return scene


def styled(runs: Sequence[Run], number: int) -> Style:
    """Return the rule's own colour, or another where one rule runs several times."""
    rules = [rule for _, rule, _ in runs]
    if rules.count(rules[number]) == 1:
        return style_of(rules[number], rules)
    return Style((*COLOURS[:4], "#000000")[number % 5], "-", "osD^v"[number % 5])


def finished(axes: Axes, x: str, y: str, scale: str = "linear") -> None:
    """Label a panel's axes and its lines."""
    axes.set(xlabel=x, ylabel=y, yscale=scale)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def against_steps(surface: Surface, runs: Sequence[Run], steps: int, *, loss: bool = False) -> Scene:
    """Return a scene: the distance to the minimum of each run step by step, or its loss."""

    def scene(axes: Axes) -> None:
        for number, (label, trace) in enumerate(runs_on(surface, runs, steps, None).items()):
            found = loss_of(surface, trace) if loss else distances(trace, surface.minima[0])
            axes.plot([max(v, 1e-17) for v in found], **styled(runs, number).curve, lw=1.6, label=label)
        finished(axes, "step", "loss" if loss else "distance to the minimum", "log")

    return scene


def lines(x: Sequence[float], series: Mapping[str, Sequence[float]], xlabel: str, ylabel: str) -> Scene:
    """Return a scene: curves over numbers."""

    def scene(axes: Axes) -> None:
        for (label, values), colour in zip(series.items(), COLOURS, strict=False):
            axes.plot(x, values, "o-", ms=4, color=colour, label=label)
        finished(axes, xlabel, ylabel)

    return scene


def activations() -> Scene:
    """Return the scene of 2.2-skip-before-relu: mean activation against depth, both orders."""
    from mlcv_bench.claims.residual import growth  # noqa: PLC0415 - torch loads for this scene alone

    after, before = growth(after=True)[0], growth(after=False)[0]
    names = {"skip added after the ReLU": after, "before it, as ResNet does": before}
    return lines(range(1, len(after) + 1), names, "blocks", "mean activation")


def conditioning(result: ClaimResult) -> Scene:
    """Return the scene of 1.3-conditioning: steps against kappa."""
    found = result.evidence.figure if result.evidence else {}

    def scene(axes: Axes) -> None:
        lines(found["kappas"], found["steps"], "condition kappa", "steps to the target")(axes)
        axes.set(xscale="log", yscale="log")

    return scene


def one_step(axes: Axes) -> None:
    """Draw 1.1-sphere: what one step leaves of the distance, against the learning rate."""
    rates = [0.05 * i for i in range(1, 46)]
    found = [distances(path("sgd", builtin.sphere(), (3.0, 4.0), steps=1, lr=rate)) for rate in rates]
    axes.plot(rates, [far[1] / far[0] for far in found], "o", ms=4, color=RIGHT, label="one step, measured")
    axes.plot(rates, [abs(1 - rate) for rate in rates], color=WRONG, lw=1, label="|1 - eta L|")
    finished(axes, "learning rate, in units of 1/L", "|x1| / |x0|")


def turned(axes: Axes) -> None:
    """Draw 1.4-adam-axis: Adam and momentum on a canyon, straight and turned."""
    for rule, rate, colour in (("adam", 0.1, RIGHT), ("momentum", 0.01, WRONG)):
        for angle, line in ((0, "-"), (45, "--")):
            trace = path(rule, builtin.canyon(100).rotated(angle), steps=400, lr=rate)
            axes.plot(distances(trace), color=colour, ls=line, label=f"{rule}, canyon turned by {angle} degrees")
    finished(axes, "step", "distance to the minimum", "log")


def out_of_reach(axes: Axes) -> None:
    """Draw 2.3-less-expressive: what the best grouped convolution leaves of a dense one."""
    from mlcv_bench.claims.resnext import less_expressive  # noqa: PLC0415 - torch loads for this scene alone

    groups = (1, 2, 4, 8)
    measured = [one.measured for one in less_expressive().quantities[: len(groups)]]
    theory = [math.sqrt(1 - 1 / g) for g in groups]
    lines(groups, {"measured": measured, "sqrt(1 - 1/G)": theory}, "groups G", "share out of reach")(axes)


def loss_of(surface: Surface, trace: Trajectory) -> list[float]:
    """Return the loss at every step."""
    return [surface.value(*point) for point in zip(*trace.points, strict=True)]


CANYON = builtin.canyon(25)
NOISY = finite_sum.regression(batch=8)
CROSSING: list[Run] = [("eta = 1.9/L", "sgd", {"lr": 1.9 / 25}), ("eta = 0.9/L", "sgd", {"lr": 0.9 / 25})]
DESCENT_AND_NEWTON: list[Run] = [("gradient descent", "sgd", {"lr": 1.9 / 25}), ("Newton", "newton", {})]
MOMENTA: list[Run] = [
    ("gradient descent", "sgd", {"lr": 0.02}),
    ("momentum", "momentum", {"lr": 0.02}),
    ("Nesterov", "nesterov", {"lr": 0.02}),
]
ADAGRAD: list[Run] = [("SGD", "sgd", {"lr": 0.02}), ("AdaGrad", "adagrad", {"lr": 0.1})]
RMSPROP: list[Run] = [
    ("SGD", "sgd", {"lr": 0.01}),
    ("RMSProp, beta = 0.99", "rmsprop", {"lr": 0.01, "beta": 0.99}),
    ("RMSProp, beta = 0.9", "rmsprop", {"lr": 0.01, "beta": 0.9}),
]
ADAM: list[Run] = [("gradient descent", "sgd", {"lr": 1.9 / 100}), ("Adam", "adam", {"lr": 0.2})]

SCENES: dict[str, Callable[[], Scene]] = {
    "1.1-sphere": lambda: one_step,
    "1.1-canyon-oscillation": lambda: over_surface(CANYON, CROSSING, 40),
    "1.1-canyon-lr": lambda: over_surface(CANYON, CROSSING, 40),
    "1.1-canyon-loss-hides": lambda: against_steps(CANYON, CROSSING, 40, loss=True),
    "1.1-critical-points": lambda: over_surface(builtin.saddle(), DESCENT_AND_NEWTON, 100, (1.0, 0.1)),
    "1.2-saddle": lambda: over_surface(builtin.saddle(), DESCENT_AND_NEWTON, 100, (1.0, 0.1)),
    "1.2-one-step": lambda: over_surface(CANYON.rotated(30), DESCENT_AND_NEWTON, 30),
    "1.3-faster": lambda: against_steps(CANYON, MOMENTA, 200),
    "1.3-nesterov": lambda: against_steps(CANYON, MOMENTA, 200),
    "1.4-adaptive": lambda: over_surface(builtin.canyon(100), ADAM, 120),
    "1.4-adagrad-stops": lambda: against_steps(NOISY, ADAGRAD, 600),
    "1.4-adagrad-monotone": lambda: against_steps(NOISY, ADAGRAD, 600),
    "1.4-rmsprop": lambda: against_steps(finite_sum.logistic(batch=8), RMSPROP, 300, loss=True),
    "1.4-adam-axis": lambda: turned,
    "2.2-skip-before-relu": activations,
    "2.3-less-expressive": lambda: out_of_reach,
}
"""What is drawn next to the numbers; claims without a scene or a network have their numbers alone."""


def scene_of(result: ClaimResult) -> Scene | None:
    """Return what to draw next to the numbers."""
    if result.id == "1.3-conditioning":
        return conditioning(result)
    return SCENES[result.id]() if result.id in SCENES else None


NETWORKS = {
    "2.1-stem": "2.2",
    "2.1-module": "2.1",
    "2.1-auxiliary": "2.2",
    "2.2-stage": "2.3",
    "2.2-bottleneck": "2.4",
    "2.3-forms": "resnext",
}
"""Claims whose best picture is a network's figure, with its number."""


def draw(result: ClaimResult, place: Path) -> None:
    """Paint a claim that was tested."""
    if result.id in NETWORKS:
        draw_network(NETWORKS[result.id], place)
        return
    quantities = result.evidence.quantities if result.evidence else ()
    scene = scene_of(result)
    canvas = Canvas(layout="constrained")
    height = max(3.6 if scene else 1.6, 0.34 * len(quantities) + 1.6)
    canvas.set_size_inches(12.0 if scene else 8.0, height)
    axes = canvas.subplots(1, 2 if scene else 1, squeeze=False, width_ratios=[1, 1.15] if scene else None)[0]
    if scene:
        scene(axes[0])
    numbers(axes[-1], quantities)
    verdict = VERDICTS[result.verdict]
    canvas.suptitle(f"{result.id}: {result.remark.rstrip('.')} - {verdict}", fontsize=11.5, weight="bold")
    canvas.savefig(place, dpi=DPI)


def numbers(axes: Axes, quantities: Sequence[Quantity]) -> None:
    """Draw each quantity as a dot, at its distance from theory's value, with both numbers."""
    for row, one in enumerate(quantities):
        y = len(quantities) - row
        scale = abs(one.predicted) or 1.0
        x = max(-OFF, min(OFF, (one.measured - one.predicted) / scale)) if math.isfinite(one.measured) else OFF
        colour = {True: RIGHT, False: WRONG, None: OPEN}[one.met]
        slack = min(OFF, one.tolerance * (1.0 if one.relative else 1 / scale))
        axes.barh(y, 2 * slack, left=-slack, height=0.5, color="#DDE3E9")
        if one.interval:
            low, high = ((end - one.predicted) / scale for end in one.interval)
            axes.plot([max(-OFF, low), min(OFF, high)], [y, y], color=colour, lw=2)
        axes.plot(x, y, "o" if one.role == "statement" else "D", color=colour, ms=6, clip_on=False)
        limit = "limit: " if one.role == "limit" else ""
        axes.text(-1.08 * OFF, y, textwrap.fill(limit + one.name, 46), ha="right", va="center", fontsize=7.5)
        text = f"{one.measured:.5g} {one.relation} {one.predicted:.5g} {one.unit}"
        axes.text(1.08 * OFF, y, text, ha="left", va="center", fontsize=7.5)
    axes.axvline(0, color="#57606A", lw=1)
    axes.set_xlim(-OFF, OFF)
    axes.set_ylim(0.3, len(quantities) + 0.7)
    axes.set_yticks([])
    axes.set_xlabel("(measured - predicted) / predicted; dots as far as the edge may lie beyond it", fontsize=8)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
