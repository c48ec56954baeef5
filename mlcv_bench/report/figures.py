"""The gallery: every figure of the notes by its number, and the page that shows them all. Loads nothing heavy."""

from __future__ import annotations

import html
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlcv_bench.errors import UsageError
from mlcv_bench.names import near_misses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One figure: its number in the notes, what it shows, and the function that draws it into a file."""

    number: str
    title: str
    place: str

    @property
    def stem(self) -> str:
        """The name of its file, without suffix."""
        return "figure-" + self.number.replace(".", "-")

    def draw(self, path: Path) -> None:
        """Run what the figure shows and draw it; the suffix of `path` decides the form."""
        module, _, attribute = self.place.partition(":")
        painter: Callable[[Path], None] = getattr(importlib.import_module(module), attribute)
        painter(path)


NETWORKS = "mlcv_bench.report.network_figures"
FIGURES: dict[str, Figure] = {
    figure.number: figure
    for figure in (
        Figure("2.1", "The inception module on the output of the stem", f"{NETWORKS}:inception_module"),
        Figure("2.2", "GoogLeNet with its auxiliary classifiers", f"{NETWORKS}:googlenet"),
        Figure("2.3", "ResNet-18", f"{NETWORKS}:resnet18"),
        Figure("2.4", "The standard residual block and the bottleneck block", f"{NETWORKS}:residual_blocks"),
        Figure("resnext", "A ResNeXt block's three equivalent forms (2.3.1)", f"{NETWORKS}:resnext_forms"),
    )
}
"""Every figure by its number, in the order of the notes."""


def find(numbers: Sequence[str]) -> list[Figure]:
    """Return the figures of these numbers.

    Raises:
        UsageError: there is no such figure.

    """
    found = []
    for number in numbers:
        if number not in FIGURES:
            close = near_misses(number, FIGURES)
            hint = f"did you mean {' or '.join(close)}?" if close else "the notes have no such figure;"
            raise UsageError(f"unknown figure '{number}': {hint} `mlcv-bench figures` lists {', '.join(FIGURES)}")
        found.append(FIGURES[number])
    return found


def index_page(figures: Sequence[Figure], suffix: str) -> str:
    """Return the gallery's page: every figure with its caption and the command that draws it."""
    parts = [
        f'<figure id="{figure.stem}"><a href="{figure.stem}{suffix}">'
        f'<img src="{figure.stem}{suffix}" alt="{html.escape(figure.title)}" loading="lazy"></a>'
        f"<figcaption><b>Figure {html.escape(figure.number)}.</b> {html.escape(figure.title)}. "
        f"<code>mlcv-bench figures {html.escape(figure.number)} -o {figure.stem}{suffix}</code></figcaption></figure>"
        for figure in figures
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
