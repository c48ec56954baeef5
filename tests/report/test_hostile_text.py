"""Names, files and errors may hold anything: no form of a report hands a control character on, and none vanishes."""

from __future__ import annotations

import html
import io
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ET

import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from mlcv_bench import __main__ as entry
from mlcv_bench.api.pictures import Picture
from mlcv_bench.cli import app
from mlcv_bench.records import Column, Report, Table, visible
from mlcv_bench.report.emit import emit
from mlcv_bench.report.files import save_picture
from mlcv_bench.report.formats import NOTEBOOK, PRINTED, SAVED, written
from mlcv_bench.report.formats.github import annotation_lines
from mlcv_bench.report.formats.junit import to_junit
from mlcv_bench.report.formats.terminal import print_report
from mlcv_bench.report.picture import save

HOSTILE = "a\x1b[31mred\x07\u202eabc\x9b2J\x7f\x00\udcff"
SHOWN = r"a\x1b[31mred\x07\u202eabc\x9b2J\x7f\x00\udcff"
ROWS = [{"name": HOSTILE, "other": f"{HOSTILE}|{HOSTILE}"}]
TABLE = Table(
    f"title {HOSTILE}", (Column("name", "name"), Column("other", f"head {HOSTILE}")), ROWS, f"below {HOSTILE}"
)
REPORT = Report("cost", ("name", "other"), ROWS, [TABLE], [f"note {HOSTILE}"], [f"warning {HOSTILE}"])


def commands(text):
    """Return the characters of a text that command a terminal or turn it around."""
    return {one for one in text if unicodedata.category(one) in {"Cc", "Cf", "Cs"} and one not in "\n\t"}


def test_what_is_visible_stays_as_it_is():
    plain = "résumé 網絡 🙂 f* ≤ 1e-06\ta\nb"
    assert visible(plain) == plain
    assert visible(HOSTILE) == SHOWN


@pytest.mark.parametrize("function", sorted({*SAVED.values(), *PRINTED.values(), NOTEBOOK}))
def test_no_format_hands_on_a_control_character(function):
    text = written(REPORT, function)
    assert not commands(text)
    assert "1b[31mred" in text


def test_the_terminal_gets_none():
    stream = io.StringIO()
    print_report(REPORT, stream, 200)
    assert not commands(stream.getvalue())
    assert SHOWN in stream.getvalue()


def test_warnings_and_errors_get_none(capsys):
    emit(REPORT, "csv")
    app.complain(f"no file {HOSTILE}\nand a second line", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = entry.show_warning
        warnings.warn(HOSTILE, stacklevel=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"warning: warning {SHOWN}",
        f"mlcv-bench: no file {SHOWN} and a second line",
        f"warning: {SHOWN}",
    ]


TEXTS = dict.fromkeys(("entry", "command", "subject", "reason"), HOSTILE)
CHECK = TEXTS | {"limit": "max_params", "verdict": "fail", "seconds": 1.0, "measured": 2.0, "allowed": 1.0, "unit": ""}


def test_junit_and_annotations_get_none():
    text = to_junit(HOSTILE, [CHECK], {"time": "2026-01-01T00:00:00", "host": HOSTILE, "command": HOSTILE})
    assert not commands(text)
    assert ET.fromstring(text)[0].get("name") == SHOWN  # noqa: S314 - written here
    (line,) = annotation_lines([CHECK])
    assert not commands(line)


def test_a_picture_gets_none_and_no_mathematics(tmp_path):
    def draw(path):
        figure = Figure()
        figure.suptitle(f"${HOSTILE.replace(chr(0xDCFF), '')}$ a$b")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the font has no such glyphs
            save(figure, path)

    save_picture(tmp_path / "x.svg", draw)
    for text in ((tmp_path / "x.svg").read_text(), Picture("hostile", draw)._repr_svg_()):
        assert not commands(text)
        ET.fromstring(text)  # noqa: S314 - written here


@pytest.mark.parametrize(
    "name",
    [
        "<lambda>",
        "x**2 + 100*y**2",
        "__init__",
        "a|b",
        "a\\|b",
        "[x](http://there)",
        "~~no~~",
        "<!-- -->",
        "f* <= 1e-6",
    ],
)
def test_markdown_shows_a_name_as_it_is(name):
    table = Table(name, (Column("name", "name", justify="left"),), [{"name": name}], name)
    text = written(Report("cost", ("name",), [{"name": name}], [table], [name]), "markdown.to_markdown")
    page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).enable("table").render(text)
    shown = [html.unescape(part) for part in re.findall(r"<(?:h3|td|p)[^>]*>(.*?)</(?:h3|td|p)>", page, re.DOTALL)]
    assert shown == [name] * 4
