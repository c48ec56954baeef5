"""One colour, line and marker an optimizer, in every picture: distinct in print and for colour-blind eyes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LineStyle = Literal["-", "--", ":", "-."]

VARIANTS: tuple[LineStyle, ...] = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Style:
    """How an optimizer is drawn."""

    colour: str
    line: LineStyle
    marker: str


# Okabe and Ito (2008) without their yellow, which paper swallows; relatives share a hue and differ in line and marker.
TABLE: dict[str, Style] = {
    "sgd": Style("#0072B2", "-", "o"),
    "momentum": Style("#D55E00", "-", "s"),
    "nesterov": Style("#E69F00", "-", "D"),
    "adagrad": Style("#009E73", "-", "^"),
    "rmsprop": Style("#56B4E9", "-", "v"),
    "adam": Style("#CC79A7", "-", "P"),
    "adam_l2": Style("#CC79A7", ":", "p"),
    "adamw": Style("#7B3294", "--", "X"),
    "adamw_torch": Style("#7B3294", ":", "d"),
    "newton": Style("#000000", "-", "*"),
}
OTHERS = ("#666666", "#A6761D", "#1B4F3F", "#8C8C00")
MISSING = "#B0B0B0"


def style_of(label: str, labels: list[str]) -> Style:
    """Return the style of `label` in a picture that shows `labels`; other settings of one rule take other lines."""
    name = label.partition(":")[0]
    family = [other for other in labels if other.partition(":")[0] == name]
    known = TABLE.get(name)
    if known is None:
        strangers = list(dict.fromkeys(other for other in labels if other.partition(":")[0] not in TABLE))
        position = strangers.index(label)
        return Style(OTHERS[position % len(OTHERS)], VARIANTS[position // len(OTHERS) % len(VARIANTS)], "h")
    position = family.index(label)
    if position == 0:
        return known
    lines = [line for line in VARIANTS if line != known.line]
    return Style(known.colour, lines[(position - 1) % len(lines)], known.marker)
