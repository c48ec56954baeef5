"""The notes' figures: what was run for those of chapter 1, and the gallery of all by their numbers."""

from __future__ import annotations

import html
from functools import partial
from typing import TYPE_CHECKING, Any

from mlcv_bench.claims import figures
from mlcv_bench.errors import UsageError
from mlcv_bench.names import did_you_mean, spelled
from mlcv_bench.records import Report, Table, columns_of, filled, row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mlcv_bench.claims.figures import Drawn


GALLERY: dict[str, str] = {
    **{number: figure.caption for number, figure in figures.FIGURES.items()},
    "2.1": "The inception module on the output of the stem",
    "2.2": "GoogLeNet with its auxiliary classifiers",
    "2.3": "ResNet-18",
    "2.4": "The standard residual block and the bottleneck block",
    "inception-resnet-a": "The block Inception-ResNet-A (section 2.2.2)",
    "inception-resnet-b": "The block Inception-ResNet-B (section 2.2.2)",
    "resnext": "A ResNeXt block's three equivalent forms (section 2.3.1)",
}
"""What every figure shows, by its number, in the order of the notes."""


def stem_of(number: str) -> str:
    """Return the name of a figure's file, without suffix."""
    return "figure-" + number.replace(".", "-")


def painter(number: str, seed: int = 0) -> Callable[[Path], None]:
    """Run what a figure of chapter 1 shows, and return what draws it into a file; networks are built as they are drawn.

    Raises:
        UsageError: the seed is negative.

    """
    if number in figures.FIGURES:
        from mlcv_bench.report.plots.figures import draw as draw_runs  # noqa: PLC0415 - loads when drawn

        return partial(draw_runs, figures.run(number, seed=seed))
    from mlcv_bench.report.diagrams.networks import draw as draw_networks  # noqa: PLC0415 - as above

    return partial(draw_networks, number)


def find(numbers: Sequence[str]) -> list[str]:
    """Return the numbers, each once.

    Raises:
        UsageError: there is no such figure.

    """
    numbers = [spelled(number, GALLERY) for number in numbers]
    for number in numbers:
        if number not in GALLERY:
            hint = did_you_mean(number, GALLERY, "the notes have no such figure;")
            raise UsageError(f"unknown figure '{number}': {hint} choose from {', '.join(GALLERY)}")
    return list(dict.fromkeys(numbers))


def figure_report(drawn: Drawn) -> Report:
    """Return the runs behind a figure of chapter 1, and what they say of its caption."""
    from mlcv_bench.report.races import ONE_START  # noqa: PLC0415 - for the runs alone
    from mlcv_bench.surface_race.metrics import RaceResult  # noqa: PLC0415 - as above

    def shown(result: RaceResult) -> dict[str, Any]:
        return row_of(result) | {"outcome": result.outcome.replace("_", " ")}

    number = drawn.figure.number
    rows = [shown(result) for found in drawn.races for result in found.results]
    columns = [column for column in filled(ONE_START, rows) if column.key != "protocol"]
    tables = [
        Table(
            f"Figure {number}: {figures.name_of(found)}, {found.surface.formula}, {found.steps} steps",
            columns,
            [shown(result) for result in found.results],
        )
        for found in drawn.races
        if found.results
    ]
    runs = [row_of(result) for found in drawn.races for result in found.results]
    notes = [drawn.figure.found(drawn.races)]
    if not tables:
        notes.insert(0, f"Figure {number}: {drawn.figure.caption}; give -o figure.png to draw it")
    return Report("figures", columns_of(RaceResult), runs, tables, notes, details={"figure": number})


def index_page(numbers: Sequence[str], suffix: str) -> str:
    """Return the gallery's page: every figure with its caption and the command that draws it."""
    parts = []
    for number in numbers:
        file, shown, title = stem_of(number) + suffix, html.escape(number), html.escape(GALLERY[number])
        parts.append(
            f'<figure id="{stem_of(number)}"><a href="{file}"><img src="{file}" alt="{title}" loading="lazy"></a>'
            f"<figcaption><b>Figure {shown}.</b> {title}. "
            f"<code>mlcv-bench figures {shown} -o {file}</code></figcaption></figure>"
        )
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#1f2328}"
        "figure{margin:0 0 3em}img{max-width:100%;border:1px solid #d0d7de;border-radius:6px}"
        "figcaption{margin-top:.6em}code{background:#f6f8fa;padding:.1em .3em}"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>The notes' figures</title><style>{style}</style></head>\n<body><h1>The notes' figures</h1>\n"
        "<p>Optimizers are run and networks are built for these pictures; none is a sketch.</p>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
