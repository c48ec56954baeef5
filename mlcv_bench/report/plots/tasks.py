"""Pictures of races on tasks: curves with bands over the seeds, sensitivity to the rate, performance profiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.panel import Panel, Scaled, Series, series_of
from mlcv_bench.report.plots.style import legend_columns, panels_figure

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from mlcv_bench.records import Report

EPOCHS = Scaled("epoch", whole=True)
Run = Mapping[str, Any]


def draw(report: Report, path: Path) -> None:
    """Paint a race's panels: for each task and model a row of curves, then rates and profile."""
    save(figure(report), path)


def panels(report: Report, _race: object = None) -> Iterator[Panel]:
    """Yield the panels, for each task and model a row of curves, then rates and profile; each has something in it."""
    names = list(dict.fromkeys(run["optimizer"] for run in report.runs))
    for setup in report.details["setups"]:
        place = (setup["task"], setup["model"])
        for protocol in ("tuned", "default"):
            runs = [
                run
                for run in report.runs
                if (run["task"], run["model"]) == place and run["protocol"] == protocol and run["epoch"] is not None
            ]
            if runs:
                yield losses(runs, names, setup, protocol)
                yield errors(runs, names, setup, protocol)
        if sweeps := [sweep for sweep in report.details["sweeps"] if (sweep["task"], sweep["model"]) == place]:
            yield sensitivity(sweeps, names)
        behind = [row for row in report.details["behind"] if (row["task"], row["model"]) == place]
        if len(setup["seeds"]) > 1 and behind:
            yield differences([row for row in behind if row["protocol"] == behind[0]["protocol"]], names)
    for protocol, found in report.details["profiles"].items():
        if len(found) > 1:
            yield profile(found, names, protocol)


def figure(report: Report, _race: object = None) -> Figure:
    """Return the picture of a race; a panel is there when there is something in it."""
    names = list(dict.fromkeys(run["optimizer"] for run in report.runs))
    drawn = panels_figure(list(panels(report)), (6.4, 4.0), more=0.5, empty="no run was finished")
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


def losses(runs: Sequence[Run], names: Sequence[str], setup: Mapping[str, Any], protocol: str) -> Panel:
    """Return the training loss of every epoch."""
    seen = [run["train_loss"] for run in runs if run["train_loss"]]
    count = len(setup["seeds"])
    spread = f"median and range of {count} seeds" if count > 1 else "one seed"
    return Panel(
        f"{setup['task']}, {setup['model']}, {protocol}: {spread}",
        EPOCHS,
        Scaled("training loss of the epoch", "log", min(seen, default=1.0) / 1.3, max(seen, default=1.0) * 1.3),
        banded(runs, names, "train_loss"),
        legend=False,
    )


def errors(runs: Sequence[Run], names: Sequence[str], setup: Mapping[str, Any], protocol: str) -> Panel:
    """Return the validation error at every epoch's end."""
    target = 1 - setup["target"]
    seen = [error for run in runs if run["val_accuracy"] is not None and (error := 1 - run["val_accuracy"]) > 0]
    known = [*seen, *([target] if target > 0 else [])] or [0.01]
    # A logarithmic axis has no zero: an epoch without an error is drawn at the foot of the panel.
    foot = 0.7 * min(known)
    return Panel(
        f"{setup['task']}, {setup['model']}, {protocol}: dashed: target",
        EPOCHS,
        Scaled("validation error", "log", foot, 1.3 * max(known), rounded=True),
        banded(runs, names, "val_accuracy", lambda accuracy: max(1 - accuracy, foot)),
        level=target if target > 0 else None,
        legend=False,
    )


def banded(
    runs: Sequence[Run], names: Sequence[str], key: str, shown: Callable[[float], float] = float
) -> list[Series]:
    """Return a curve an optimizer, the median of `shown` over the seeds, with its range as a band."""
    found = []
    for name in names:
        epochs, middle, low, high = band([run for run in runs if run["optimizer"] == name], key)
        if epochs:
            ends = ([shown(value) for value in low], [shown(value) for value in high])
            found.append(series_of(name, names, epochs, [shown(value) for value in middle], band=ends))
    return found


def sensitivity(sweeps: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Panel:
    """Return the steps to the target at every rate that met it."""
    drawn = []
    rates = []
    for sweep in sweeps:
        grid = [point for point in sweep["grid"] if point["hits"]]
        rates += [point["rate"] for point in grid]
        steps = [point["steps"] for point in grid]
        name, best = sweep["optimizer"], sweep["best"]
        drawn.append(series_of(name, names, [point["rate"] for point in grid], steps, marker="o", size=3))
        star = {"name": "", "line": "", "marker": "*", "size": 11}
        drawn.append(series_of(name, names, [best["rate"]], [best["steps"]], **star))
    few = max(rates, default=1.0) < 100 * min(rates, default=1.0)
    return Panel(
        f"{sweeps[0]['task']}, {sweeps[0]['model']}: rates that met the target; star: best setting; dashed: budget",
        Scaled("learning rate", "log", rounded=few),
        Scaled("steps to the target, mean", "log", rounded=True),
        drawn,
        level=sweeps[0]["budget_steps"],
        legend=False,
    )


def differences(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Panel:
    """Return how far every optimizer is behind the first, the best at the top."""
    places = list(range(len(rows)))
    upwards = list(zip(places, reversed(rows), strict=True))
    drawn = [
        series_of(row["optimizer"], names, [row["low"], row["high"]], [place, place], name="", line="-", width=2.0)
        for place, row in upwards
    ] + [
        series_of(row["optimizer"], names, [row["mean"]], [place], name="", line="", marker="o", size=6)
        for place, row in upwards
    ]
    labels = [row["optimizer"] for row in reversed(rows)]
    setup = f"{rows[0]['task']}, {rows[0]['model']}, {rows[0]['protocol']}"
    return Panel(
        f"{setup}: steps behind {rows[0]['leader']}, paired by seed",
        Scaled("mean difference in steps to the target, with its 95% interval"),
        Scaled("", low=-0.6, high=len(rows) - 0.4, ticks=places, tick_words=labels),
        drawn,
        upright=0,
        legend=False,
        grid="x",
    )


def profile(found: Mapping[str, Any], names: Sequence[str], protocol: str) -> Panel:
    """Return the share of tasks, models and seeds that are met within a multiple of the fastest's steps."""
    right = max((tau for points in found.values() for tau, _ in points), default=1.0) * 1.1
    drawn = [
        series_of(
            name,
            names,
            [*(tau for tau, _ in points), right],
            [*(share for _, share in points), points[-1][1]],
            steps=True,
        )
        for name, points in found.items()
    ]
    ticks = [2**k for k in range(math.ceil(math.log2(right)) + 1)]
    return Panel(
        f"Performance profile, {protocol}",
        Scaled("steps to the target, as a multiple of the fastest", "log2", 1, right, ticks=ticks),
        Scaled("share of tasks, models and seeds", low=-0.03, high=1.03),
        drawn,
        legend=False,
    )
