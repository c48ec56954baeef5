"""How pictures look: size, letters, theme, text as text, equal scales, titles; and animations."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mlcv_bench.errors import UsageError
from mlcv_bench.report.files import save_picture
from mlcv_bench.report.look import Look
from mlcv_bench.report.picture import mirrored, save
from mlcv_bench.report.plots import animation, basins, ground, races
from mlcv_bench.surface_race.basins import basins as run_basins
from mlcv_bench.surface_race.race import race
from mlcv_bench.surface_race.request import BasinsRequest, RaceRequest


def drawn(path, look):
    """Save a plot with a name, a logarithmic axis and a white marker, and return its figure."""
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.add_subplot(title="a$b$c", yscale="log")
    axes.plot([1, 2], [1, 100], marker="o", markerfacecolor="white", color="black")
    save_picture(path, lambda place: save(figure, place), look)
    return figure


@pytest.mark.parametrize("size", [(640, 480), (333, 777), (1920, 1080)], ids=str)
def test_a_picture_has_the_pixels_asked_for(tmp_path, size):
    drawn(tmp_path / "x.png", Look(size=size))
    with Image.open(tmp_path / "x.png") as found:
        assert found.size == size


def test_letters_grow_together(tmp_path):
    usual, large = (drawn(tmp_path / "x.png", Look(letters=points)) for points in (10, 15))

    def sizes(figure):
        (axes,) = figure.axes
        return [text.get_fontsize() for text in (axes.title, axes.yaxis.get_ticklabels()[0], axes.xaxis.label)]

    assert sizes(large) == pytest.approx([1.5 * points for points in sizes(usual)])


def test_a_theme_changes_the_page_and_keeps_what_is_drawn_apart_from_it(tmp_path):
    pages = {}
    for theme in ("light", "dark", "transparent"):
        drawn(tmp_path / "x.png", Look(theme))
        with Image.open(tmp_path / "x.png") as found:
            pixels = np.asarray(found.convert("RGBA"))
        pages[theme] = pixels[2, 2].tolist()
        darkest, lightest = pixels[..., :3].min(), pixels[..., :3].max()
        assert lightest - darkest > 200
    assert pages["light"] == [255, 255, 255, 255]
    assert max(pages["dark"][:3]) < 40
    assert pages["dark"][3] == 255
    assert pages["transparent"][3] == 0


def test_a_mirrored_colour_keeps_its_hue():
    assert mirrored("black") == (1, 1, 1, 1)
    assert mirrored("white") == pytest.approx((0.1, 0.1, 0.1, 1))
    assert mirrored("none") == "none"
    # Of half the lightness, 0.25, a dark red becomes as pale as 1 - 0.9 * 0.25; its hue and saturation stay.
    assert mirrored((0.5, 0, 0, 1)) == pytest.approx((1.0, 0.55, 0.55, 1))


def test_text_stays_text_and_a_dollar_a_dollar(tmp_path):
    drawn(tmp_path / "x.svg", Look())
    text = (tmp_path / "x.svg").read_text()
    assert ">a$b$c</text>" in text
    assert "mathdefault" not in text.replace("$\\mathdefault", "")
    first = (tmp_path / "x.svg").read_bytes()
    drawn(tmp_path / "x.svg", Look())
    assert (tmp_path / "x.svg").read_bytes() == first


@pytest.mark.parametrize("look", [Look(letters=3), Look(letters=41), Look(size=(10, 400)), Look(size=(400, 99999))])
def test_what_cannot_be_drawn_is_refused(look):
    with pytest.raises(UsageError, match=r"--(font-size|size)"):
        look.check()


def test_a_circle_is_round_and_coordinates_of_other_reach_keep_their_scales():
    found = race(RaceRequest("sphere", ("sgd",), steps=20, protocols=("default",)))
    figure = Figure()
    races.paint(found, figure)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    (x0, y0), (x1, _), (_, y2) = (axes.transData.transform(place) for place in ((0, 0), (1, 0), (0, 1)))
    assert x1 - x0 == pytest.approx(y2 - y0)
    assert ground.alike(((0, 10), (0, 2)))
    assert not ground.alike(((0, 1000), (0, 2)))


def test_a_path_near_the_box_is_whole_in_the_frame():
    found = race(RaceRequest("canyon", ("momentum",), steps=200, protocols=("theory",)))
    (trace,) = found.traces.values()
    window = ground.window_of(found.surface, [trace])
    for (low, high), values in zip(window, trace.points, strict=True):
        assert low < min(values) <= max(values) < high


@pytest.mark.parametrize("letters", [10, 16])
def test_the_title_of_a_small_map_is_whole(tmp_path, monkeypatch, letters):
    figures = []
    monkeypatch.setattr(basins, "save", lambda figure, path, dpi: (figures.append(figure), save(figure, path, dpi)))
    found = run_basins(BasinsRequest("himmelblau", ("momentum",), steps=20, size=(30, 20)))
    save_picture(tmp_path / "x.png", lambda path: basins.draw(found, path), Look(letters=letters))
    (figure,) = figures
    figure.draw_without_rendering()
    texts = [*figure.texts, *figure.legends[0].get_texts()]
    assert figure.get_suptitle().replace("\n", " ") == basins.title_of(found)
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


def local_palettes(data):
    """Count the frames of a GIF, and those with a palette of their own (GIF89a specification, sections 17 to 26)."""
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    frames = own = 0
    while data[position] != 0x3B:
        if data[position] == 0x21:
            position += 2
        else:
            flags = data[position + 9]
            frames += 1
            own += bool(flags & 0x80)
            position += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        while data[position]:
            position += data[position] + 1
        position += 1
    return frames, own


def test_an_animation_has_one_palette_a_panel_a_protocol_and_the_size(tmp_path):
    found = race(RaceRequest("sphere", ("sgd", "adam"), steps=5, protocols=("default", "tuned")))
    path = tmp_path / "x.gif"
    save_picture(path, lambda place: animation.draw_protocols(found, place), Look("dark", size=(400, 300)))
    frames, own = local_palettes(path.read_bytes())
    assert frames > 3
    assert own == 0
    with Image.open(path) as film:
        assert film.size == (400, 300)
        assert max(film.convert("RGB").getpixel((2, 2))) < 40


def test_a_film_is_made_by_ffmpeg_or_its_complaint_is_said(tmp_path, monkeypatch):
    found = race(RaceRequest("sphere", ("sgd",), steps=5, protocols=("default",)))
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text('#!/bin/sh\nfor last; do :; done\nexec /bin/cat > "$last"\n')
    ffmpeg.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    save_picture(tmp_path / "x.mp4", lambda place: animation.draw(found, place), Look(size=(100, 100)))
    size = (tmp_path / "x.mp4").stat().st_size
    assert size % (3 * 100 * 100) == 0
    assert size > 22 * 3 * 100 * 100
    ffmpeg.write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    with pytest.raises(UsageError, match="no such codec; save a"):
        save_picture(tmp_path / "x.mp4", lambda place: animation.draw(found, place))
