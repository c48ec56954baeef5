"""Saves a finished picture with the look that was asked for: its size, its letters and its theme."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from matplotlib import patheffects
from matplotlib.axis import Axis, Tick
from matplotlib.collections import Collection
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.contour import ContourSet
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text

from mlcv_bench.report.look import CURRENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

DPI = 140
DARKEST = 0.1
"""Lightness of the dark theme's page."""
SHADES = 256


def save(figure: Figure, path: Path, dpi: float = DPI) -> None:
    """Save a picture with the current look."""
    write(figure, path, fit(figure, dpi))


def fit(figure: Figure, dpi: float = DPI) -> float:
    """Give a picture the size and the letters of the current look; return its dots an inch.

    The picture grows to the shape of the size, so that nothing in it is squeezed, and is then drawn at as many dots an
    inch as make that size.
    """
    look = CURRENT.get()
    if look.size is not None:
        width, height = figure.get_size_inches()
        wide, high = look.size
        width = max(width, height * wide / high)
        dpi = wide / width
        # Matplotlib cuts a part of a pixel off.
        figure.set_size_inches((wide + 1e-3) / dpi, (high + 1e-3) / dpi)
    for text in apart_from_ticks(figure, Text):
        text.set_parse_math(False)  # a dollar in a name is one
        text.set_fontsize(float(text.get_fontsize()) * look.scale)
    if look.scale != 1:
        for axis, which, tick in ticks_of(figure):
            axis.set_tick_params(which=which, labelsize=tick.label1.get_fontsize() * look.scale)
    return dpi


def write(figure: Figure, path: Path, dpi: float) -> None:
    """Save a picture that has its size and letters, in the current look's theme."""
    theme = CURRENT.get().theme
    tint(figure)
    vector = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    # Text stays text, to be found, copied and changed; the same picture is the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mlcv-bench", "pdf.fonttype": 42}):
        metadata = vector.get(path.suffix.lower(), {})
        figure.savefig(path, dpi=dpi, metadata=metadata, transparent=theme == "transparent")


def tint(figure: Figure) -> None:
    """Turn a picture that was drawn on white into one on black, if the current look is dark."""
    if CURRENT.get().theme != "dark":
        return
    kept = in_colours_of_images(figure)
    for artist in apart_from_ticks(figure, None):
        if id(artist) not in kept:
            tint_artist(artist)
    for axis, which, tick in ticks_of(figure):
        grid = mirrored(tick.gridline.get_color())
        axis.set_tick_params(which=which, colors=mirrored("black"), grid_color=grid)


def tint_artist(artist: Artist) -> None:
    """Mirror an artist's colours; those of a heat map stay, since its bar explains them."""
    match artist:
        case Line2D():
            # All are read first: a marker without colours of its own takes the line's.
            line, face, edge = artist.get_color(), artist.get_markerfacecolor(), artist.get_markeredgecolor()
            artist.set_color(mirrored(line))
            artist.set_markerfacecolor(mirrored(face))
            artist.set_markeredgecolor(mirrored(edge))
        case Patch():
            tint_patch(artist)
        case Text():
            tint_text(artist)
        case ContourSet():
            shades = artist.get_cmap()([i / (SHADES - 1) for i in range(SHADES)])
            artist.set_cmap(ListedColormap([mirrored(shade) for shade in shades]))
        case Collection() if artist.get_array() is None:
            artist.set_facecolor([mirrored(colour) for colour in artist.get_facecolor()])
            artist.set_edgecolor([mirrored(colour) for colour in artist.get_edgecolor()])


def ticks_of(figure: Figure) -> Iterator[tuple[Any, Literal["major", "minor"], Any]]:
    """Yield every axis with a tick of either kind, which has the looks of all of that kind."""
    for axis in figure.findobj(Axis):
        yield from ((axis, "major", tick) for tick in axis.get_major_ticks()[:1])
        yield from ((axis, "minor", tick) for tick in axis.get_minor_ticks()[:1])


def apart_from_ticks(figure: Figure, kind: Any) -> list[Any]:  # noqa: ANN401 - a class of matplotlib's artists
    """Return a picture's artists of a kind, without ticks: an axis makes these anew when it is drawn."""
    ticks = {id(part) for tick in figure.findobj(Tick) for part in tick.findobj()}
    return [artist for artist in figure.findobj(kind) if id(artist) not in ticks]


def in_colours_of_images(figure: Figure) -> set[int]:
    """Return what explains the colours of an image, which are kept, by its identity."""
    if not figure.findobj(AxesImage):
        return set()
    return {id(handle) for legend in figure.findobj(Legend) for handle in legend.legend_handles}


def tint_patch(patch: Patch) -> None:
    """Mirror a patch's colours."""
    face, edge = patch.get_facecolor(), patch.get_edgecolor()
    patch.set_facecolor(mirrored(face))
    patch.set_edgecolor(mirrored(edge))


def tint_text(text: Text) -> None:
    """Mirror a text's colour, and those of its box, its arrow and its halo."""
    text.set_color(mirrored(text.get_color()))
    for patch in (text.get_bbox_patch(), text.arrow_patch if isinstance(text, Annotation) else None):
        if patch is not None:
            tint_patch(patch)
    if text.get_path_effects():
        text.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground=mirrored("white"), alpha=0.85)])


def mirrored(colour: Any) -> Any:  # noqa: ANN401 - whatever matplotlib takes for a colour
    """Return a colour of the same hue that is as light as the given one is dark; white becomes the dark page."""
    red, green, blue, alpha = to_rgba(colour)
    if alpha == 0:
        return "none"  # which an artist's own alpha leaves alone
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    return (*colorsys.hls_to_rgb(hue, 1 - (1 - DARKEST) * lightness, saturation), alpha)
