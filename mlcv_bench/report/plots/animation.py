"""A race as a picture, or as it runs: paths grow step by step over the landscape, as a GIF or, by ffmpeg, as MP4."""

from __future__ import annotations

import itertools
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mlcv_bench.errors import UsageError
from mlcv_bench.report.formats import ANIMATIONS
from mlcv_bench.report.picture import fit, save, tint
from mlcv_bench.report.plots.ground import ground_of, height_of, window_of
from mlcv_bench.report.plots.landscape import draw_ground, draw_start
from mlcv_bench.report.plots.race_data import (
    PROTOCOL_TITLES,
    labels_of,
    protocols_of,
    reach_of,
    shown_of,
    traces_of,
)
from mlcv_bench.report.plots.races import drawn, handle_of
from mlcv_bench.report.plots.style import style_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from mlcv_bench.report.plots.ground import Window
    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surface_race.race import Race

    Pixels = npt.NDArray[np.uint8]
    """Of a frame: [height, width, 3]."""

DPI = 90
FRAMES = 90
FRAMES_A_SECOND = 15
LAST = 22
"""Frames that the end stays for."""
COLOURS = 256


def draw(race: Race, path: Path) -> None:
    """Paint a race; an animation runs the protocol that the curves show."""
    paint_or_run(race, path, [shown_of(protocols_of(race))])


def draw_protocols(race: Race, path: Path) -> None:
    """Paint a race; an animation runs every protocol, side by side."""
    paint_or_run(race, path, protocols_of(race) or ["default"])


def paint_or_run(race: Race, path: Path, animated: Sequence[str]) -> None:
    """Paint a race, or run these protocols where the suffix is an animation's."""
    if path.suffix.lower() in ANIMATIONS:
        animate(race, path, animated)
        return
    save(drawn(race), path)


def animate(race: Race, path: Path, protocols: Sequence[str]) -> None:
    """Write a race as an animation, slower at the beginning, with a panel for each protocol.

    Raises:
        UsageError: ffmpeg made no film.

    """
    film = Film(race, protocols)
    if path.suffix.lower() == ".mp4":
        write_mp4(film, path)
    else:
        write_gif(film, path)


class Film:
    """The frames of an animation: the landscape is painted once, and each frame puts the paths on a copy of it."""

    def __init__(self, race: Race, protocols: Sequence[str]) -> None:
        """Paint what does not move."""
        labels = labels_of(race)
        traces = {protocol: traces_of(race, protocol) for protocol in protocols}
        paths = [trace for found in traces.values() for trace in found.values()]
        window = window_of(race.surface, paths)
        ground = ground_of(race.surface, window)
        right = max((reach_of(race, *found) for found in traces.items()), default=0)
        self.steps = sorted({0, *(round(right * (i / FRAMES) ** 1.7) for i in range(FRAMES + 1))})
        wide = 7.2 if len(protocols) == 1 else 5.0
        size = (wide * len(protocols), (wide - 0.8) * height_of(window) + 1.3)
        self.figure = Figure(figsize=size, layout="constrained")
        canvas: Any = FigureCanvasAgg(self.figure)  # matplotlib leaves its canvas without types
        self.canvas = canvas
        panels = self.figure.subplots(1, len(protocols), squeeze=False)[0]
        self.paths: list[GrowingPath] = []
        for axes, protocol in zip(panels, protocols, strict=True):
            draw_ground(axes, ground)
            draw_start(axes, race.starts[0].point)
            axes.set_title(f"{race.surface.name}, {PROTOCOL_TITLES[protocol]}", fontsize=11)
            self.paths += [GrowingPath(axes, trace, label, labels, window) for label, trace in traces[protocol].items()]
        self.counter = panels[0].text(0.02, 0.03, "", transform=panels[0].transAxes, fontsize=11, zorder=10)
        shown = [label for label in labels if any(label in found for found in traces.values())]
        if shown:
            handles = [handle_of(label, labels) for label in shown]
            self.figure.legend(handles=handles, loc="outside lower center", ncols=4 * len(protocols), frameon=False)
        self.figure.set_dpi(fit(self.figure, DPI))
        tint(self.figure)
        canvas.draw()
        self.ground = canvas.copy_from_bbox(self.figure.bbox)

    def frame(self, step: int) -> Pixels:
        """Paint the paths up to a step."""
        self.canvas.restore_region(self.ground)
        self.counter.set_text(f"step {step}")
        for path in self.paths:
            path.move(step)
            path.axes.draw_artist(path.line)
        for path in self.paths:
            path.axes.draw_artist(path.head)
        self.counter.axes.draw_artist(self.counter)
        return np.asarray(self.canvas.buffer_rgba())[:, :, :3].copy()

    def frames(self) -> Iterator[Pixels]:
        """Paint every frame."""
        return map(self.frame, self.steps)


class GrowingPath:
    """A path that grows, and its head."""

    axes: Axes
    line: Line2D
    head: Line2D

    def __init__(self, axes: Axes, trace: Trajectory, label: str, labels: Sequence[str], window: Window) -> None:
        """Begin with nothing drawn."""
        style = style_of(label, labels)
        self.axes, self.trace, self.window = axes, trace, window
        (self.line,) = axes.plot([], [], **style.curve, linewidth=1.6, zorder=4)
        (self.head,) = axes.plot([], [], **style.head(9), zorder=7)

    def move(self, step: int) -> None:
        """Go on to a step; a head that has left the frame waits at its edge."""
        last = min(step, len(self.trace.values) - 1)
        x, y = (axis[: last + 1] for axis in self.trace.points[:2])
        self.line.set_data(x, y)
        here = [np.clip(axis[-1:], *side) for axis, side in zip((x, y), self.window, strict=True)]
        self.head.set_data(*here)


def write_gif(film: Film, path: Path) -> None:
    """Write the frames with one palette, so that no colour flickers."""
    # Every colour stands in the first and the last frames, or in one between.
    samples = [film.frame(step) for step in film.steps[:: max(1, len(film.steps) // 3)]]
    palette = Image.fromarray(np.vstack([*samples, film.frame(film.steps[-1])])).quantize(COLOURS)
    first, *others = (
        Image.fromarray(pixels).quantize(palette=palette, dither=Image.Dither.NONE) for pixels in film.frames()
    )
    durations = [1000 // FRAMES_A_SECOND] * len(others) + [1000 * LAST // FRAMES_A_SECOND]
    shared = bytes(palette.getpalette() or ())
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, palette=shared)


def write_mp4(film: Film, path: Path) -> None:
    """Hand the frames to ffmpeg.

    Raises:
        UsageError: ffmpeg made no film.

    """
    end = film.frame(film.steps[-1])
    height, width, _ = end.shape
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FRAMES_A_SECOND), "-i", "-"]
    # Players want even sides and this form of pixels.
    film_of = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = ["ffmpeg", "-y", "-loglevel", "error", *raw, *film_of, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603 - no shell
        assert process.stdin is not None  # noqa: S101 - it was asked for
        try:
            for pixels in itertools.chain(film.frames(), itertools.repeat(end, LAST)):
                process.stdin.write(pixels.tobytes())
        except BrokenPipeError:
            pass  # what it said tells more
        _, said = process.communicate()
    if process.returncode:
        reason = (said.decode(errors="replace").strip().splitlines() or ["(no message)"])[0]
        raise UsageError(f"ffmpeg made no film: {reason}; save a .gif instead")
