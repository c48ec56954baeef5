"""Pictures of timings: latency against cost, the samples behind it, throughput against batch, and the roofline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.lines import Line2D

from mlcv_bench.records import counted
from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.style import COLOURS, LINES, panels_figure, readable, worded
from mlcv_bench.timing.batches import by_batch, knee, throughput
from mlcv_bench.timing.request import Cell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mlcv_bench.records import Report

SERIES = (*COLOURS, "#000000", "#999999")
MARKERS = "osD^vP*X"
MOST_STRIPS = 24

Run = Mapping[str, Any]


def draw(report: Report, path: Path) -> None:
    """Paint a timing report's panels; which ones there are depends on what was measured."""
    runs = [run for run in report.runs if run["status"] == "done"]
    labels = [report.details["cells"][run["key"]]["label"] for run in runs]
    looks = {run["key"]: look(labels.index(label)) for run, label in zip(runs, labels, strict=True)}
    cells = {key: report.details["cells"][key] | {"look": found} for key, found in looks.items()}
    panels: list[Callable[[Axes], None]] = []
    if runs:
        panels += [
            lambda axes: _latency(axes, runs, cells, "macs", 1e9, "multiply-accumulates of the batch [G]"),
            lambda axes: _latency(axes, runs, cells, "params", 1e6, "parameters [M]"),
            lambda axes: _samples(axes, runs, cells),
        ]
    if len({run["batch"] for run in runs}) > 1:
        panels.append(lambda axes: _throughput(axes, runs, cells))
    if report.details["peaks"] and any(run.get("peak_share") for run in runs):
        panels.append(lambda axes: _roofline(axes, runs, cells, report.details["peaks"]))
    save(panels_figure(panels, (6.6, 4.6), empty="no cell was timed"), path)


def look(position: int) -> dict[str, Any]:
    """Return the colour and the marker of the network at this place of a legend; few places are alike."""
    marker = MARKERS[(position // len(SERIES) + position) % len(MARKERS)]
    return {"color": SERIES[position % len(SERIES)], "marker": marker}


def _errors(run: Run) -> list[list[float]]:
    low, high = run["ci_low_s"], run["ci_high_s"]
    if low is None or high is None:
        return [[0.0], [0.0]]
    return [[(run["median_s"] - low) * 1e3], [(high - run["median_s"]) * 1e3]]


def _latency(axes: Axes, runs: Sequence[Run], cells: dict[str, Any], key: str, scale: float, words: str) -> None:
    for run in runs:
        if not run[key]:
            continue  # the counter could not tell
        cell = cells[run["key"]]
        loaded = run["contention"] != "none"
        axes.errorbar(
            [run[key] / scale],
            [run["median_s"] * 1e3],
            yerr=_errors(run),
            **cell["look"],
            markersize=7,
            markerfacecolor="white" if loaded else cell["look"]["color"],
            capsize=3,
            linestyle="none",
            label=cell["label"],
        )
    _scale(axes, "x", [run[key] / scale for run in runs if run[key]])
    _scale(axes, "y", [(run["ci_high_s"] or run["median_s"]) * 1e3 for run in runs])
    hollow = any(run["contention"] != "none" for run in runs)
    title = "Median and 95% interval" + ("; hollow: measured beside other load" if hollow else "")
    worded(axes, words, "latency of a pass [ms]", title)
    if len(runs) <= MOST_STRIPS:
        axes.legend(fontsize=7, loc="best")


def _samples(axes: Axes, runs: Sequence[Run], cells: dict[str, Any]) -> None:
    shown = sorted(runs, key=lambda run: run["median_s"])[:MOST_STRIPS]
    for height, run in enumerate(shown):
        cell = cells[run["key"]]
        for position, block in enumerate(cell["blocks"]):
            spread = (position + 0.5) / len(cell["blocks"]) - 0.5
            heights = [height + 0.7 * spread] * len(block["calls_s"])
            clean = not block["contention"]["flags"]
            axes.plot(
                [call * 1e3 for call in block["calls_s"]],
                heights,
                linestyle="none",
                marker="." if clean else "x",
                markersize=3,
                color=cell["look"]["color"],
                alpha=0.5,
            )
        axes.plot([run["median_s"] * 1e3] * 2, [height - 0.42, height + 0.42], color="black", linewidth=1.2)
    axes.set_yticks(range(len(shown)), [cells[run["key"]]["label"] for run in shown], fontsize=8)
    calls = [call for run in shown for block in cells[run["key"]]["blocks"] for call in block["calls_s"]]
    _scale(axes, "x", calls, from_zero=False)
    title = "Wall time of every pass, block above block; line: the figure, ×: beside other load"
    worded(axes, "each timed pass [ms]", title=title, axis="x")


def _throughput(axes: Axes, runs: Sequence[Run], cells: dict[str, Any]) -> None:
    by_cell = {Cell.from_dict(cells[run["key"]]["cell"]): run for run in runs}
    ringed = False
    for position, (name, alike) in enumerate(by_batch(by_cell).items()):
        members = [by_cell[cell] for cell in alike]
        rates = [run["images_per_s"] for run in members]
        low = [run["images_per_s"] - run["batch"] / (run["ci_high_s"] or run["median_s"]) for run in members]
        high = [run["batch"] / (run["ci_low_s"] or run["median_s"]) - run["images_per_s"] for run in members]
        axes.errorbar(
            [run["batch"] for run in members],
            rates,
            yerr=[low, high],
            **look(position),
            markersize=5,
            capsize=3,
            label=name,
        )
        if len(members) > 1:
            at = knee(throughput(members))
            rate = next(run["images_per_s"] for run in members if run["batch"] == at)
            ring: dict[str, Any] = {"marker": "o", "markersize": 14, "markerfacecolor": "none", "linestyle": "none"}
            axes.plot([at], [rate], color=look(position)["color"], **ring)
            ringed = True
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches := sorted({run["batch"] for run in runs}), [str(batch) for batch in batches])
    axes.minorticks_off()
    _scale(axes, "y", [run["images_per_s"] for run in runs])
    ring_text = "; ring: the knee, 90% of the best" if ringed else ""
    worded(axes, "images in a batch", "images a second", f"Throughput and its 95% interval{ring_text}", which="major")
    axes.legend(fontsize=7)


def _roofline(axes: Axes, runs: Sequence[Run], cells: dict[str, Any], peaks: Sequence[Mapping[str, Any]]) -> None:
    placed = [(run, cells[run["key"]]) for run in runs if run["gflops_per_s"] and cells[run["key"]]["intensity"]]
    ridges = [peak["flops_per_s"] / peak["bytes_per_s"] for peak in peaks]
    reached = [*(cell["intensity"] for _, cell in placed), *ridges]
    left, right = min(reached) / 4, max(reached) * 4
    handles = []
    for style, peak, ridge in zip(LINES * len(peaks), peaks, ridges, strict=False):
        points = [left, ridge, right]
        roof = [min(peak["flops_per_s"], point * peak["bytes_per_s"]) / 1e9 for point in points]
        axes.plot(points, roof, color="black", linestyle=style, linewidth=1)
        name = f"{peak['device']}, {peak['dtype']}, {counted(peak['threads'], 'thread')}"
        handles.append(Line2D([], [], color="black", linestyle=style, label=f"roof: {name}"))
    for run, cell in placed:
        axes.plot([cell["intensity"]], [run["gflops_per_s"]], **cell["look"], markersize=7, linestyle="none")
        handles.append(Line2D([], [], **cell["look"], linestyle="none", label=cell["label"]))
    axes.set(xscale="log", yscale="log")
    readable(axes.xaxis)
    readable(axes.yaxis)
    words = "FLOP a byte, if each tensor moves once"
    worded(axes, words, "rate [GFLOP/s]", "Against this machine's measured peaks")
    if placed:
        # Room for the legend below the points.
        axes.set_ylim(bottom=min(run["gflops_per_s"] for run, _ in placed) / 4)
    axes.legend(handles=handles[:MOST_STRIPS], fontsize=7, loc="lower right")


def _scale(axes: Axes, which: Literal["x", "y"], values: Sequence[float], *, from_zero: bool = True) -> None:
    """Choose the scale: linear for less than a decade, from zero where that shows the ratio, logarithmic beyond."""
    if not values:
        return
    if max(values) < 10 * min(values):
        if from_zero:
            (axes.set_xlim if which == "x" else axes.set_ylim)(0, 1.12 * max(values))
        return
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    readable(axes.xaxis if which == "x" else axes.yaxis)
