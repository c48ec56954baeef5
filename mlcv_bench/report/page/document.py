"""Writes the page: one HTML file with its tables, figures, files to download, script and looks; nothing is fetched."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from plotly import offline

from mlcv_bench.comparing.saved import SavedResult
from mlcv_bench.environment import capture
from mlcv_bench.errors import UsageError
from mlcv_bench.records import Table, visible
from mlcv_bench.report.files import save_text
from mlcv_bench.report.formats.delimited import csv_parts
from mlcv_bench.report.formats.html import html_table
from mlcv_bench.report.formats.json_text import document_parts
from mlcv_bench.report.page.figures import Markup, PageFigure, figures_of, shown
from mlcv_bench.report.saved import report_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlcv_bench.records import Report

LARGEST = 2**25
"""Characters of a file that a page still holds to download; a longer one would make the page slow to open."""
JUDGED = ("ab", "compare", "suite")
"""The studies whose first note is a verdict."""
MEASURED = ("time", "ab")
"""The studies whose figures the environment decides."""
FEW = 3
"""More warnings than this are folded."""
FILTERED = 6
"""Rows from which on a table has a field that filters them."""
PLOTLY = "plotly.min.js"
LOOKED_AT = frozenset({"optim-race", "lr-sweep", "basins", "landscape"})
"""Studies whose figures stand above their tables."""


@dataclass(frozen=True)
class Content:
    """A report on a page: how it came about, and what its saved JSON is called and says.

    `of` is the live record that the study yielded; None where the report comes from a file and was not run again.
    """

    report: Report
    environment: Mapping[str, Any]
    document: Iterable[str]
    name: str
    of: object = None

    @classmethod
    def saved(cls, name: str, report: Report, document: Mapping[str, Any], of: object = None) -> Content:
        """Return the content of a saved file: its report, the whole document, and the record where it was run again."""
        environment = {"command": document.get("command", ""), **document["environment"]}
        return cls(report, environment, [json.dumps(document, indent=1)], name, of)


def page_of(report: Report, of: object = None, assets: str = "") -> Iterator[str]:
    """Write the page of what a command found."""
    environment = capture(device=report.device)
    content = Content(report, environment.as_dict(), document_parts(report, environment), report.study, of)
    yield from page([content], assets)


def entries_of(report: Report) -> Iterator[Content]:
    """Yield what the entries of a suite found, each as its own saved file would be shown."""
    for name, document in report.details.get("entries", {}).items() if report.study == "suite" else ():
        yield Content.saved(f"{name}.json", report_of(SavedResult.of(name, document)), document)


def beside(path: Path, assets: Path | None) -> str:
    """Put plotly's script into a folder, and return that folder's address as the page at `path` sees it.

    Raises:
        UsageError: the folder cannot be written.

    """
    if assets is None:
        return ""
    script, code = assets / PLOTLY, offline.get_plotlyjs()
    try:
        assets.mkdir(parents=True, exist_ok=True)
        if not script.is_file() or script.read_text(encoding="utf-8") != code:
            save_text(script, code)
    except OSError as error:
        raise UsageError(f"--assets {assets} cannot be written: {error.strerror or error}") from error
    return quote(Path(os.path.relpath(assets.resolve(), path.resolve().parent)).as_posix())


def page(contents: Sequence[Content], assets: str = "") -> Iterator[str]:
    """Write a page of one or several results, part by part.

    Args:
        contents: what stands on it, in order.
        assets: the folder beside, as an address, that holds plotly's script; without, the page holds it itself.

    """
    contents = [one for given in contents for one in (given, *entries_of(given.report))]
    title = ", ".join(dict.fromkeys(one.report.study for one in contents))
    figures = [list(figures_of(one.report, one.of)) for one in contents]
    code = script("page.js") + script("race.js")
    drawn_by_plotly = any(isinstance(one, PageFigure) for drawn in figures for one in drawn)
    plotly = offline.get_plotlyjs() if drawn_by_plotly and not assets else ""
    allowed = " ".join(f"'sha256-{digest(text)}'" for text in (code, plotly) if text)
    elsewhere = " 'self' file:" if assets else ""
    # The policy is a second lock: markup that slipped in could neither run nor fetch anything.
    policy = (
        f"default-src 'none'; script-src {allowed}{elsewhere}; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; form-action 'none'; base-uri 'none'"
    )
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown(title)} - mlcv-bench</title>\n<style>\n{script('page.css')}</style>\n</head>\n<body>\n"
        '<header><h1>mlcv-bench <span class="study">'
        f'{shown(title)}</span></h1><button type="button" id="theme" aria-label="Light or dark">Light / dark</button>'
        "</header>\n<main>\n"
    )
    if len(contents) > 1:
        links = "".join(
            f'<li><a href="#result-{place}">{shown(one.name)}</a></li>' for place, one in enumerate(contents)
        )
        yield f'<nav aria-label="Results"><ul>{links}</ul></nav>\n'
    for place, (one, drawn) in enumerate(zip(contents, figures, strict=True)):
        yield from section(one, drawn, place)
    yield "</main>\n"
    if drawn_by_plotly and assets:
        yield f'<script src="{shown(assets)}/{PLOTLY}"></script>\n'
    if plotly:
        # The text stands before it: page.js unpacks and runs it when that is shown.
        yield f'<script type="text/plain" id="plotly">{compressed(plotly)}</script>\n'
    yield f"<script>{code}</script>\n</body>\n</html>\n"


def section(content: Content, figures: Sequence[PageFigure | Markup], place: int) -> Iterator[str]:
    """Write one result: how it came about, its first table, its figures, the other tables, and its files."""
    report = content.report
    command = str(content.environment.get("command", ""))
    yield f'<section class="result" id="result-{place}">\n<h2>{shown(content.name)}</h2>\n'
    if command:
        yield (
            f'<p class="command"><code>{shown(command)}</code> <button type="button" class="copy">Copy</button></p>\n'
        )
    yield circumstances(content.environment, wide_open=report.study in MEASURED)
    yield from sentences(report)
    # A drawing, cards or paths are looked at before their table is read, other plots show what stands in theirs.
    lead = 0 if report.study in LOOKED_AT or (figures and isinstance(figures[0], Markup)) else 1
    yield from map(table_part, report.tables[:lead])
    if figures:
        parts = (figure_part(figure, f"figure-{place}-{number}") for number, figure in enumerate(figures))
        yield f'<div class="figures">\n{"".join(parts)}</div>\n'
    yield from map(table_part, report.tables[lead:])
    yield from files_part(content)
    yield "</section>\n"


def sentences(report: Report) -> Iterator[str]:
    """Write what a command says: its verdict first where it gives one, and many warnings folded."""
    verdict, notes = (report.notes[:1], report.notes[1:]) if report.study in JUDGED else ([], report.notes)
    for sentence in verdict:
        yield f'<p class="verdict">{shown(sentence)}</p>\n'
    warnings = [f'<p class="warning"><b>Warning:</b> {shown(warning)}</p>\n' for warning in report.warnings]
    if len(warnings) > FEW:
        yield f"<details><summary>{len(warnings)} warnings</summary>\n{''.join(warnings)}</details>\n"
    else:
        yield from warnings
    for note in notes:
        yield f'<p class="note">{shown(note)}</p>\n'


def circumstances(environment: Mapping[str, Any], *, wide_open: bool = False) -> str:
    """Say with which version and when, and what decided the figures; that is folded unless `wide_open`."""
    versions = environment.get("versions") or {}
    date = str(environment.get("time", ""))
    date = date.replace("T", " ").replace("+00:00", " UTC")
    lead = f"mlcv-bench {versions.get('mlcv-bench', 'of unknown version')}, {date}"
    facts = {key: value for key, value in environment.items() if key not in {"command", "time", "versions", "flags"}}
    facts |= versions | (environment.get("flags") or {})
    rows = "".join(
        f"<tr><th scope=row>{shown(key.replace('_', ' '))}</th><td>{shown(value)}</td></tr>"
        for key, value in facts.items()
        if value is not None
    )
    opened = " open" if wide_open else ""
    summary = f"<summary>{shown(lead)}</summary>"
    return f"<details class=environment{opened}>{summary}<table>{rows}</table></details>\n"


def table_part(table: Table) -> str:
    """Write a table that page.js sorts by a click on a header, and filters where it is long."""
    field = ""
    if len(table.rows) >= FILTERED:
        field = (
            '<p class="filter"><label>Filter <input type="search" placeholder="any words of a row"></label> '
            '<output aria-live="polite"></output></p>'
        )
    return f'<div class="table">{field}<div class="wide" tabindex="0">{visible(html_table(table))}</div></div>\n'


def figure_part(figure: PageFigure | Markup, name: str) -> str:
    """Write a figure that page.js draws by plotly."""
    if isinstance(figure, Markup):
        return f'<figure class="whole"><figcaption><h3>{shown(figure.title)}</h3></figcaption>{figure.html}</figure>\n'
    height = figure.figure.layout.height
    caption = f"<p>{shown(figure.caption)}</p>" if figure.caption else ""
    whole = ' class="whole"' if figure.whole else ""
    data = json.loads(figure.figure.to_json()) | {"behaviour": figure.behaviour, "more": dict(figure.data)}
    kind = "plot late" if "scene" in data["layout"] else "plot"  # what is slow to draw waits for the others
    return (
        f'<figure{whole}><figcaption><h3>{shown(figure.title)}</h3></figcaption><div class="{kind}" id="{name}" '
        f'style="min-height:{height}px" role="img" aria-label="{shown(figure.title)}"></div>{caption}'
        f"{block(data, f'{name}-data')}</figure>\n"
    )


def files_part(content: Content) -> Iterator[str]:
    """Write the files to download: the runs as CSV, and everything as JSON."""
    buttons, blocks = [], []
    for suffix, parts in (("csv", csv_parts(content.report)), ("json", content.document)):
        name = f"{Path(content.name).stem}.{suffix}"
        held = within(parts, LARGEST)
        if held is None:
            buttons.append(f"<span>{shown(name)} is too large for this page; save it by -o {shown(name)}</span>")
            continue
        buttons.append(f'<button type="button" class="download" data-name="{shown(name)}">{suffix.upper()}</button>')
        blocks.append(f'<script type="text/plain">{compressed(held)}</script>')
    yield f'<p class="files">Download: {" ".join(buttons)}{"".join(blocks)}</p>\n'


def within(parts: Iterable[str], most: int) -> str | None:
    """Return the whole text, or None as soon as it is longer than `most` characters."""
    held, size = [], 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size > most:
            return None
    return visible("".join(held))


def block(data: object, name: str = "") -> str:
    """Return data in the page for its script, without a character that ends the block."""
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")
    return f'<script type="application/json"{f" id={name}" if name else ""}>{text}</script>'


def compressed(text: str) -> str:
    """Return a text as page.js unpacks it: by gzip, in base64."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def script(name: str) -> str:
    """Return a file of this folder."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Return a script's digest, as a policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
