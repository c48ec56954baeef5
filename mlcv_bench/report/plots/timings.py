"""Pictures of timings: latency against cost, the samples behind it, throughput against batch, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mlcv_bench.records import Report

# Okabe and Ito's colours, which remain distinct for colour-blind eyes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vP*X"
MOST_STRIPS = 24
STYLES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")

Run = Mapping[str, Any]


def draw(report: Report, path: Path) -> None:
    """Paint a timing report's panels; which ones there are depends on what was measured."""
    runs = [run for run in report.runs if run["status"] == "done"]
    cells = report.details["cells"]
    panels: list[Callable[[Axes], None]] = []
    if runs:
        panels += [
            lambda axes: _latency(axes, runs, cells, "macs", 1e9, "multiply-accumulates of the batch [G]"),
            lambda axes: _latency(axes, runs, cells, "params", 1e6, "parameters [M]"),
            lambda axes: _samples(axes, runs, cells),
        ]
    if len({run["batch"] for run in runs}) > 1:
        panels.append(lambda axes: _throughput(axes, runs))
    if report.details["peaks"] and any(run.get("peak_share") for run in runs):
        panels.append(lambda axes: _roofline(axes, runs, cells, report.details["peaks"]))
    columns = 2 if len(panels) > 1 else 1
    rows = math.ceil(len(panels) / columns) or 1
    figure = Figure(figsize=(6.6 * columns, 4.6 * rows), layout="constrained")
    if not panels:
        figure.add_subplot().set_title("no cell was timed")
    for place, panel in enumerate(panels, start=1):
        # The last one of an odd number takes the whole row.
        whole = place == len(panels) and len(panels) % columns
        panel(figure.add_subplot(rows, columns, (place, place + 1) if whole else place))
    figure.savefig(path, dpi=140)


def _colour(labels: Sequence[str], label: str) -> tuple[str, str]:
    position = labels.index(label)
    return COLOURS[position % len(COLOURS)], MARKERS[(position // len(COLOURS) + position) % len(MARKERS)]


def _labels(runs: Sequence[Run], cells: dict[str, Any]) -> list[str]:
    return [cells[run["key"]]["label"] for run in runs]


def _errors(run: Run) -> list[list[float]]:
    low, high = run["ci_low_s"], run["ci_high_s"]
    if low is None or high is None:
        return [[0.0], [0.0]]
    return [[(run["median_s"] - low) * 1e3], [(high - run["median_s"]) * 1e3]]


def _latency(axes: Axes, runs: Sequence[Run], cells: dict[str, Any], key: str, scale: float, words: str) -> None:
    labels = _labels(runs, cells)
    for run, label in zip(runs, labels, strict=True):
        if not run[key]:
            continue  # the counter could not tell
        colour, marker = _colour(labels, label)
        loaded = run["contention"] != "none"
        axes.errorbar(
            [run[key] / scale],
            [run["median_s"] * 1e3],
            yerr=_errors(run),
            color=colour,
            marker=marker,
            markersize=7,
            markerfacecolor="white" if loaded else colour,
            capsize=3,
            linestyle="none",
            label=label,
        )
    _scale(axes, "x", [run[key] / scale for run in runs if run[key]])
    _scale(axes, "y", [(run["ci_high_s"] or run["median_s"]) * 1e3 for run in runs])
    axes.set_xlabel(words)
    axes.set_ylabel("latency of a pass [ms]")
    hollow = any(run["contention"] != "none" for run in runs)
    axes.set_title("Median and 95% interval" + ("; hollow: measured beside other load" if hollow else ""), fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.25)
    if len(runs) <= MOST_STRIPS:
        axes.legend(fontsize=7, loc="best")


def _samples(axes: Axes, runs: Sequence[Run], cells: dict[str, Any]) -> None:
    shown = sorted(runs, key=lambda run: run["median_s"])[:MOST_STRIPS]
    labels = _labels(runs, cells)
    for height, run in enumerate(shown):
        blocks = cells[run["key"]]["blocks"]
        label = cells[run["key"]]["label"]
        colour, _ = _colour(labels, label)
        for position, block in enumerate(blocks):
            spread = (position + 0.5) / len(blocks) - 0.5
            heights = [height + 0.7 * spread] * len(block["calls_s"])
            clean = not block["contention"]["flags"]
            axes.plot(
                [call * 1e3 for call in block["calls_s"]],
                heights,
                linestyle="none",
                marker="." if clean else "x",
                markersize=3,
                color=colour,
                alpha=0.5,
            )
        axes.plot([run["median_s"] * 1e3] * 2, [height - 0.42, height + 0.42], color="black", linewidth=1.2)
    axes.set_yticks(range(len(shown)), [cells[run["key"]]["label"] for run in shown], fontsize=8)
    calls = [call for run in shown for block in cells[run["key"]]["blocks"] for call in block["calls_s"]]
    _scale(axes, "x", calls, from_zero=False)
    axes.set_xlabel("each timed pass [ms]")
    axes.set_title("Wall time of every pass, block above block; line: the figure, ×: beside other load", fontsize=10)
    axes.grid(visible=True, axis="x", which="both", alpha=0.25)


def _throughput(axes: Axes, runs: Sequence[Run]) -> None:
    varying = [
        key
        for key in ("device", "runtime", "dtype", "memory_format", "threads", "pass")
        if len({run[key] for run in runs}) > 1
    ]
    series: dict[str, list[Run]] = {}
    for run in runs:
        name = ", ".join([run["architecture"], *(f"{run[key]}{_unit(key)}" for key in varying)])
        series.setdefault(name, []).append(run)
    for name, members in series.items():
        members.sort(key=lambda run: run["batch"])
        colour, marker = _colour(list(series), name)
        rates = [run["images_per_s"] for run in members]
        low = [run["images_per_s"] - run["batch"] / (run["ci_high_s"] or run["median_s"]) for run in members]
        high = [run["batch"] / (run["ci_low_s"] or run["median_s"]) - run["images_per_s"] for run in members]
        axes.errorbar(
            [run["batch"] for run in members],
            rates,
            yerr=[low, high],
            color=colour,
            marker=marker,
            markersize=5,
            capsize=3,
            label=name,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches := sorted({run["batch"] for run in runs}), [str(batch) for batch in batches])
    axes.minorticks_off()
    _scale(axes, "y", [run["images_per_s"] for run in runs])
    axes.set_xlabel("images in a batch")
    axes.set_ylabel("images a second")
    axes.set_title("Throughput and its 95% interval", fontsize=10)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=7)


def _unit(key: str) -> str:
    return " threads" if key == "threads" else ""


def _roofline(axes: Axes, runs: Sequence[Run], cells: dict[str, Any], peaks: Sequence[Mapping[str, Any]]) -> None:
    labels = _labels(runs, cells)
    placed = [
        (run, cells[run["key"]]["intensity"]) for run in runs if run["gflops_per_s"] and cells[run["key"]]["intensity"]
    ]
    ridges = [peak["flops_per_s"] / peak["bytes_per_s"] for peak in peaks]
    intensities = [intensity for _, intensity in placed]
    left, right = min([*intensities, *ridges]) / 4, max([*intensities, *ridges]) * 4
    handles = []
    for style, peak in zip(STYLES * len(peaks), peaks, strict=False):
        ridge = peak["flops_per_s"] / peak["bytes_per_s"]
        points = [left, ridge, right]
        roof = [min(peak["flops_per_s"], point * peak["bytes_per_s"]) / 1e9 for point in points]
        axes.plot(points, roof, color="black", linestyle=style, linewidth=1)
        name = f"{peak['device']}, {peak['dtype']}, {peak['threads']} thread{'s' if peak['threads'] > 1 else ''}"
        handles.append(Line2D([], [], color="black", linestyle=style, label=f"roof: {name}"))
    for run, intensity in placed:
        label = cells[run["key"]]["label"]
        colour, marker = _colour(labels, label)
        axes.plot([intensity], [run["gflops_per_s"]], color=colour, marker=marker, markersize=7, linestyle="none")
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none", label=label))
    _logarithmic(axes, "x")
    _logarithmic(axes, "y")
    axes.set_xlabel("FLOP a byte, if each tensor moves once")
    axes.set_ylabel("rate [GFLOP/s]")
    axes.set_title("Against this machine's measured peaks", fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(handles=handles[:MOST_STRIPS], fontsize=7)


def _scale(axes: Axes, which: Literal["x", "y"], values: Sequence[float], *, from_zero: bool = True) -> None:
    """Choose the scale: linear for less than a decade, from zero where that shows the ratio, logarithmic beyond."""
    if not values:
        return
    if max(values) < 10 * min(values):
        if from_zero:
            (axes.set_xlim if which == "x" else axes.set_ylim)(0, 1.12 * max(values))
        return
    _logarithmic(axes, which)


def _logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
