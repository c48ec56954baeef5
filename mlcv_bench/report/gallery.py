"""The gallery: every figure of the notes by its number, and the page that shows them all."""

from __future__ import annotations

import html
import importlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mlcv_bench.errors import UsageError
from mlcv_bench.names import near_misses
from mlcv_bench.report import batch_sizes
from mlcv_bench.report import figures as races

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One figure: its number in the notes, what it shows, and the function that draws it into a file."""

    number: str
    title: str
    paint: Callable[[Path, int], None]
    """Takes the file and the seed of whatever is run for it."""

    @property
    def stem(self) -> str:
        """The name of its file, without suffix."""
        return "figure-" + self.number.replace(".", "-")

    def painter(self, seed: int) -> Callable[[Path], None]:
        """Return the function that draws it with this seed."""
        return lambda path: self.paint(path, seed)


def race_figure(number: str, path: Path, seed: int) -> None:
    """Run the races of a figure of chapter 1 and draw them."""
    from mlcv_bench.report.plots.figures import draw  # noqa: PLC0415 - matplotlib loads when a picture is drawn

    draw(races.run(number, seed=seed), path)


def batch_size_figure(path: Path, seed: int) -> None:
    """Train what figure 1.8 shows and draw it."""
    from mlcv_bench.report.plots.batch_sizes import draw  # noqa: PLC0415 - matplotlib loads when a picture is drawn

    draw(batch_sizes.run(seed), path)


def network_figure(name: str, path: Path, _seed: int) -> None:
    """Build the networks of a figure of chapter 2 and draw them; nothing in them is left to chance."""
    module = importlib.import_module("mlcv_bench.report.network_figures")  # torch loads when a picture is drawn
    painter: Callable[[Path], None] = getattr(module, name)
    painter(path)


_NETWORKS = {
    "2.1": ("The inception module on the output of the stem", "inception_module"),
    "2.2": ("GoogLeNet with its auxiliary classifiers", "googlenet"),
    "2.3": ("ResNet-18", "resnet18"),
    "2.4": ("The standard residual block and the bottleneck block", "residual_blocks"),
    "resnext": ("A ResNeXt block's three equivalent forms (section 2.3.1)", "resnext_forms"),
}

GALLERY: dict[str, Entry] = {
    **{number: Entry(number, one.caption, partial(race_figure, number)) for number, one in races.FIGURES.items()},
    batch_sizes.NUMBER: Entry(batch_sizes.NUMBER, batch_sizes.CAPTION, batch_size_figure),
    **{number: Entry(number, title, partial(network_figure, name)) for number, (title, name) in _NETWORKS.items()},
}
"""Every figure by its number, in the order of the notes."""


def find(numbers: Sequence[str]) -> list[Entry]:
    """Return the figures of these numbers.

    Raises:
        UsageError: there is no such figure.

    """
    for number in numbers:
        if number not in GALLERY:
            close = near_misses(number, GALLERY)
            hint = f"did you mean {' or '.join(close)}?" if close else "the notes have no such figure;"
            raise UsageError(f"unknown figure '{number}': {hint} choose from {', '.join(GALLERY)}")
    return [GALLERY[number] for number in dict.fromkeys(numbers)]


def index_page(entries: Sequence[Entry], suffix: str) -> str:
    """Return the gallery's page: every figure with its caption and the command that draws it."""
    parts = [
        f'<figure id="{one.stem}"><a href="{one.stem}{suffix}">'
        f'<img src="{one.stem}{suffix}" alt="{html.escape(one.title)}" loading="lazy"></a>'
        f"<figcaption><b>Figure {html.escape(one.number)}.</b> {html.escape(one.title)}. "
        f"<code>mlcv-bench figures {html.escape(one.number)} -o {one.stem}{suffix}</code></figcaption></figure>"
        for one in entries
    ]
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
