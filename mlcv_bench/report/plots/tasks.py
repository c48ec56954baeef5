"""Pictures of races on tasks: curves with bands over the seeds, sensitivity to the rate, performance profiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.style import legend_columns, panels_figure, readable, style_of, worded

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mlcv_bench.records import Report

DASHES = (0, (6, 3))
Run = Mapping[str, Any]


def draw(report: Report, path: Path) -> None:
    """Paint a race's panels: for each task and model a row of curves, then rates and profile."""
    save(figure(report), path)


def panels_of(report: Report, names: Sequence[str]) -> list[Callable[[Axes], None]]:
    """Return what to paint, one function a panel."""
    panels: list[Callable[[Axes], None]] = []
    for setup in report.details["setups"]:
        place = (setup["task"], setup["model"])
        for protocol in ("tuned", "default"):
            runs = [
                run
                for run in report.runs
                if (run["task"], run["model"]) == place and run["protocol"] == protocol and run["epoch"] is not None
            ]
            if runs:
                panels.append(partial(_losses, runs=runs, names=names, setup=setup, protocol=protocol))
                panels.append(partial(_errors, runs=runs, names=names, setup=setup, protocol=protocol))
        if sweeps := [sweep for sweep in report.details["sweeps"] if (sweep["task"], sweep["model"]) == place]:
            panels.append(partial(_sensitivity, sweeps=sweeps, names=names))
        behind = [row for row in report.details["behind"] if (row["task"], row["model"]) == place]
        if len(setup["seeds"]) > 1 and behind:
            own = [row for row in behind if row["protocol"] == behind[0]["protocol"]]
            panels.append(partial(_behind, rows=own, names=names))
    for protocol, profile in report.details["profiles"].items():
        if len(profile) > 1:
            panels.append(partial(_profile, profile=profile, names=names, protocol=protocol))
    return panels


def figure(report: Report) -> Figure:
    """Return the picture of a race; a panel is there when there is something in it."""
    names = list(dict.fromkeys(run["optimizer"] for run in report.runs))
    panels = panels_of(report, names)
    drawn = panels_figure(panels, (6.4, 4.0), more=0.5, empty="no run was finished")
    # One legend for all panels: a name has one colour everywhere.
    handles: dict[str, Any] = {}
    for axes in drawn.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    ordered = sorted(handles, key=lambda label: names.index(label) if label in names else len(names))
    if ordered:
        drawn.legend(
            [handles[label] for label in ordered],
            ordered,
            loc="outside lower center",
            ncols=legend_columns(drawn, ordered),
            fontsize=9,
        )
    return drawn


def band(runs: Sequence[Run], key: str) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return epochs, and the median, least and largest value over the seeds at each; a diverged seed ends its part."""
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
        if run[key] is not None and math.isfinite(run[key]):
            by_epoch.setdefault(run["epoch"], []).append(run[key])
    epochs = sorted(by_epoch)
    values = [by_epoch[epoch] for epoch in epochs]
    return (
        [float(epoch) for epoch in epochs],
        [float(np.median(found)) for found in values],
        [min(found) for found in values],
        [max(found) for found in values],
    )


def _losses(axes: Axes, *, runs: Sequence[Run], names: Sequence[str], setup: Mapping[str, Any], protocol: str) -> None:
    seen = [run["train_loss"] for run in runs if run["train_loss"]]
    _frame(axes, min(seen, default=1.0) / 1.3, max(seen, default=1.0) * 1.3)
    for name in names:
        epochs, middle, low, high = band([run for run in runs if run["optimizer"] == name], "train_loss")
        if epochs:
            _banded(axes, name, names, epochs, middle, low, high)
    count = len(setup["seeds"])
    spread = f"median and range of {count} seeds" if count > 1 else "one seed"
    title = f"{setup['task']}, {setup['model']}, {protocol}: {spread}"
    worded(axes, "epoch", "training loss of the epoch", title)


def _errors(axes: Axes, *, runs: Sequence[Run], names: Sequence[str], setup: Mapping[str, Any], protocol: str) -> None:
    target = 1 - setup["target"]
    seen = [error for run in runs if run["val_accuracy"] is not None and (error := 1 - run["val_accuracy"]) > 0]
    known = [*seen, *([target] if target > 0 else [])] or [0.01]
    # A logarithmic axis has no zero: an epoch without an error is drawn at the foot of the panel.
    foot = 0.7 * min(known)
    _frame(axes, foot, 1.3 * max(known))
    readable(axes.yaxis)
    for name in names:
        epochs, *values = band([run for run in runs if run["optimizer"] == name], "val_accuracy")
        if epochs:
            middle, high, low = ([max(1 - value, foot) for value in part] for part in values)
            _banded(axes, name, names, epochs, middle, low, high)
    if target > 0:
        axes.axhline(target, color="black", linewidth=0.8, linestyle=DASHES)
    title = f"{setup['task']}, {setup['model']}, {protocol}: dashed: target"
    worded(axes, "epoch", "validation error", title)


def _banded(axes: Axes, name: str, names: Sequence[str], epochs: Sequence[float], *values: Sequence[float]) -> None:
    style = style_of(name, names)
    middle, low, high = values
    axes.plot(epochs, middle, label=name, linewidth=1.6, **style.curve)
    axes.fill_between(epochs, low, high, color=style.colour, alpha=0.15, linewidth=0)


def _frame(axes: Axes, low: float, high: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _sensitivity(axes: Axes, *, sweeps: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    for sweep in sweeps:
        grid = [point for point in sweep["grid"] if point["hits"]]
        style = style_of(sweep["optimizer"], names)
        axes.plot(
            [point["rate"] for point in grid],
            [point["steps"] for point in grid],
            marker="o",
            markersize=3,
            linewidth=1.4,
            label=sweep["optimizer"],
            **style.curve,
        )
        best = sweep["best"]
        axes.plot([best["rate"]], [best["steps"]], marker="*", markersize=11, linestyle="none", color=style.colour)
    axes.axhline(sweeps[0]["budget_steps"], color="black", linewidth=0.8, linestyle=DASHES)
    axes.set_xscale("log")
    axes.set_yscale("log")
    readable(axes.yaxis)
    low, high = axes.get_xlim()
    if high < 100 * low:
        readable(axes.xaxis)
    setup = f"{sweeps[0]['task']}, {sweeps[0]['model']}"
    title = f"{setup}: rates that met the target; star: best setting; dashed: budget"
    worded(axes, "learning rate", "steps to the target, mean", title)


def _behind(axes: Axes, *, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    for height, row in enumerate(reversed(rows)):
        colour = style_of(row["optimizer"], names).colour
        axes.plot([row["low"], row["high"]], [height, height], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([row["mean"]], [height], marker="o", markersize=6, color=colour, linestyle="none")
    axes.set_yticks(range(len(rows)), [row["optimizer"] for row in reversed(rows)], fontsize=9)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    setup = f"{rows[0]['task']}, {rows[0]['model']}, {rows[0]['protocol']}"
    words = "mean difference in steps to the target, with its 95% interval"
    title = f"{setup}: steps behind {rows[0]['leader']}, paired by seed"
    worded(axes, words, title=title, axis="x", which="major")


def _profile(axes: Axes, *, profile: Mapping[str, Any], names: Sequence[str], protocol: str) -> None:
    right = max((tau for points in profile.values() for tau, _ in points), default=1.0) * 1.1
    for name, points in profile.items():
        axes.step(
            [*(tau for tau, _ in points), right],
            [*(share for _, share in points), points[-1][1]],
            where="post",
            label=name,
            linewidth=1.6,
            **style_of(name, names).curve,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks := [2**k for k in range(math.ceil(math.log2(right)) + 1)], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(1, right)
    axes.set_ylim(-0.03, 1.03)
    words = "steps to the target, as a multiple of the fastest"
    worded(axes, words, "share of tasks, models and seeds", f"Performance profile, {protocol}")
