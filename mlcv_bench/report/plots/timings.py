"""Pictures of timings: latency against cost, the samples behind it, throughput against batch, and the roofline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

from mlcv_bench.records import counted, interval_text
from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.panel import Panel, Scaled, Series
from mlcv_bench.report.plots.style import COLOURS, LINES, panels_figure
from mlcv_bench.timing.batches import by_batch, knee, throughput
from mlcv_bench.timing.request import Cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from mlcv_bench.records import Report

SERIES = (*COLOURS, "#000000", "#999999")
MARKERS = "osD^vP*X"
MOST_STRIPS = 24
MOST_POINTS = 4000
"""Passes that a page shows one by one."""

Run = Mapping[str, Any]


def draw(report: Report, path: Path) -> None:
    """Paint a timing report's panels; which ones there are depends on what was measured."""
    save(figure(report), path)


def figure(report: Report, _of: object = None) -> Figure:
    """Return the picture of a timing."""
    return panels_figure(panels(report), (6.6, 4.6), empty="no cell was timed")


def page_panels(report: Report, _of: object = None) -> list[Panel]:
    """Return the same panels, with a point a block where the passes are too many to move."""
    return panels(report, most=MOST_POINTS)


def panels(report: Report, most: int | None = None) -> list[Panel]:
    """Return what was measured as panels; beyond `most` passes, each block is shown by its median."""
    held = report.details.get("cells", {})
    runs = [run for run in report.runs if run["status"] == "done" and run.get("key") in held]
    if not runs:
        return []
    labels = [held[run["key"]]["label"] for run in runs]
    looks = {run["key"]: look(labels.index(label)) for run, label in zip(runs, labels, strict=True)}
    cells = {key: held[key] | {"look": found} for key, found in looks.items()}
    found = [
        _latency(runs, cells, "macs", 1e9, "multiply-accumulates of the batch [G]"),
        _latency(runs, cells, "params", 1e6, "parameters [M]"),
        _samples(runs, cells, most),
    ]
    if len({run["batch"] for run in runs}) > 1:
        found.append(_throughput(runs, cells))
    if report.details["peaks"] and any(run.get("peak_share") for run in runs):
        found.append(_roofline(runs, cells, report.details["peaks"]))
    return found


def look(position: int) -> dict[str, Any]:
    """Return the colour and the marker of the network at this place of a legend; few places are alike."""
    marker = MARKERS[(position // len(SERIES) + position) % len(MARKERS)]
    return {"colour": SERIES[position % len(SERIES)], "marker": marker}


def _ends(run: Run) -> tuple[float, float]:
    """Return the ends of a run's interval, its median where it has none."""
    low, high = run["ci_low_s"], run["ci_high_s"]
    return (run["median_s"], run["median_s"]) if None in {low, high} else (low, high)


def _said(run: Run, cell: Mapping[str, Any]) -> str:
    """Say of a run what its point shows."""
    low, high = _ends(run)
    interval = interval_text(low * 1e3, high * 1e3, ",.3f")
    return f"{cell['label']}\n{run['median_s'] * 1e3:,.3f} ms ({interval})\ncontention: {run['contention']}"


def _latency(runs: Sequence[Run], cells: dict[str, Any], key: str, scale: float, words: str) -> Panel:
    shown = [run for run in runs if run[key]]  # of others the counter could not tell
    series = [
        Series(
            [run[key] / scale],
            [run["median_s"] * 1e3],
            name=cells[run["key"]]["label"],
            line="",
            size=7,
            hollow=run["contention"] != "none",
            errors=([low * 1e3], [high * 1e3]),
            texts=[f"{_said(run, cells[run['key']])}\n{words}: {run[key] / scale:,.4g}"],
            **cells[run["key"]]["look"],
        )
        for run in shown
        for low, high in [_ends(run)]
    ]
    hollow = any(run["contention"] != "none" for run in runs)
    return Panel(
        "Median and 95% interval" + ("; hollow: measured beside other load" if hollow else ""),
        scaled(words, [run[key] / scale for run in shown]),
        scaled("latency of a pass [ms]", [(run["ci_high_s"] or run["median_s"]) * 1e3 for run in runs]),
        series,
        legend=len(runs) <= MOST_STRIPS,
    )


def _samples(runs: Sequence[Run], cells: dict[str, Any], most: int | None) -> Panel:
    shown = sorted(runs, key=lambda run: run["median_s"])[:MOST_STRIPS]
    calls = [call for run in shown for block in cells[run["key"]]["blocks"] for call in block["calls_s"]]
    whole = most is None or len(calls) <= most
    series = [one for height, run in enumerate(shown) for one in _strip(height, run, cells[run["key"]], whole=whole)]
    ticks, words = range(len(shown)), [cells[run["key"]]["label"] for run in shown]
    what = "Wall time of every pass, block above block" if whole else "Median wall time of every block"
    return Panel(
        f"{what}; line: the figure, ×: beside other load",
        scaled("each timed pass [ms]", [call * 1e3 for call in calls], from_zero=False),
        Scaled(ticks=ticks, tick_words=words),
        series,
        legend=False,
        grid="x",
        tall=max(1.0, (len(shown) + 3) / 12),
    )


def _strip(height: int, run: Run, cell: Mapping[str, Any], *, whole: bool) -> Iterator[Series]:
    """Yield the passes of one cell at its height, those of contaminated blocks apart, and its figure as a line."""
    blocks = cell["blocks"]
    for clean in (True, False):
        points = [
            (call * 1e3, height + 0.7 * ((place + 0.5) / len(blocks) - 0.5), place, block)
            for place, block in enumerate(blocks)
            if (not block["contention"]["flags"]) is clean
            for call in (block["calls_s"] if whole else [median(block["calls_s"])])
        ]
        said = [
            f"{cell['label']}: {call:,.4g} ms\nblock {place + 1} of {len(blocks)}, "
            f"{counted(len(block['calls_s']), 'call')}\n"
            f"contention: {', '.join(block['contention']['flags']) or 'none'}"
            for call, _, place, block in points
        ]
        across, up = [point[0] for point in points], [point[1] for point in points]
        dots: dict[str, Any] = {"line": "", "marker": "." if clean else "x", "size": 3, "alpha": 0.5}
        yield Series(across, up, cell["look"]["colour"], texts=said, **dots)
    middle, label = [run["median_s"] * 1e3] * 2, [_said(run, cell)] * 2
    yield Series(middle, [height - 0.42, height + 0.42], "#000000", width=1.2, texts=label)


def _throughput(runs: Sequence[Run], cells: dict[str, Any]) -> Panel:
    by_cell = {Cell.from_dict(cells[run["key"]]["cell"]): run for run in runs}
    series = []
    for position, (name, alike) in enumerate(by_batch(by_cell).items()):
        members = [by_cell[cell] for cell in alike]
        rates = [run["images_per_s"] for run in members]
        ends = [_ends(run) for run in members]
        low = [run["batch"] / high for run, (_, high) in zip(members, ends, strict=True)]
        high = [run["batch"] / low for run, (low, _) in zip(members, ends, strict=True)]
        batches = [run["batch"] for run in members]
        said = [f"{name}\nbatch {batch}: {rate:,.1f} images/s" for batch, rate in zip(batches, rates, strict=True)]
        series.append(Series(batches, rates, name=name, errors=(low, high), texts=said, **look(position)))
        if len(members) > 1:
            at = knee(throughput(members))
            rate = next(run["images_per_s"] for run in members if run["batch"] == at)
            ring: dict[str, Any] = {"marker": "o", "size": 14, "hollow": True, "line": ""}
            series.append(
                Series([at], [rate], look(position)["colour"], group=name, texts=[f"{name}\nthe knee"], **ring)
            )
    ringed = any(one.hollow for one in series)
    return Panel(
        f"Throughput and its 95% interval{'; ring: the knee, 90% of the best' if ringed else ''}",
        Scaled("images in a batch", "log2", ticks=sorted({run["batch"] for run in runs})),
        scaled("images a second", [run["images_per_s"] for run in runs]),
        series,
    )


def _roofline(runs: Sequence[Run], cells: dict[str, Any], peaks: Sequence[Mapping[str, Any]]) -> Panel:
    placed = [(run, cells[run["key"]]) for run in runs if run["gflops_per_s"] and cells[run["key"]]["intensity"]]
    ridges = [peak["flops_per_s"] / peak["bytes_per_s"] for peak in peaks]
    reached = [*(cell["intensity"] for _, cell in placed), *ridges]
    left, right = min(reached) / 4, max(reached) * 4
    series = []
    for style, peak, ridge in zip(LINES * len(peaks), peaks, ridges, strict=False):
        points = [left, ridge, right]
        roof = [min(peak["flops_per_s"], point * peak["bytes_per_s"]) / 1e9 for point in points]
        name = f"roof: {peak['device']}, {peak['dtype']}, {counted(peak['threads'], 'thread')}"
        series.append(Series(points, roof, "#000000", name=name, line=style, width=1))
    for run, cell in placed:
        share = f"\n{run['roof_share']:.0%} of its roof" if run.get("roof_share") else ""
        said = f"{cell['label']}\n{run['gflops_per_s']:,.1f} GFLOP/s at {cell['intensity']:,.1f} FLOP/byte{share}"
        at, rate = [cell["intensity"]], [run["gflops_per_s"]]
        series.append(Series(at, rate, name=cell["label"], line="", size=7, texts=[said], **cell["look"]))
    # Room for the legend below the points.
    low = min(run["gflops_per_s"] for run, _ in placed) / 4 if placed else None
    return Panel(
        "Against this machine's measured peaks",
        Scaled("FLOP a byte, if each tensor moves once", "log", rounded=True),
        Scaled("rate [GFLOP/s]", "log", low=low, rounded=True),
        [*series[:MOST_STRIPS], *(replace(one, name="", group=one.name) for one in series[MOST_STRIPS:])],
    )


def scaled(words: str, values: Sequence[float], *, from_zero: bool = True) -> Scaled:
    """Choose the scale: linear for less than a decade, from zero where that shows the ratio, logarithmic beyond."""
    if not values:
        return Scaled(words)
    if max(values) < 10 * min(values):
        return Scaled(words, low=0, high=1.12 * max(values)) if from_zero else Scaled(words)
    return Scaled(words, "log", rounded=True)
