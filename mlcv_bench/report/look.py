"""How a picture is to look, as the command line asks for it: torch-free, and read by whatever saves a picture."""

from __future__ import annotations

import contextlib
import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

Theme = Literal["light", "dark", "transparent"]
LETTERS = 10.0
"""Points of the letters at axes, of which every other size is a share."""
PIXELS = (100, 10_000)
"""Least and most of a side."""
SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)


@dataclass(frozen=True)
class Look:
    """Theme, points of the letters at axes, and width and height in pixels, None for the picture's own.

    A `light` or `dark` page, or the light one's colours on a `transparent` one. A .svg or .pdf, which has no pixels,
    takes the shape of the size alone.
    """

    theme: Theme = "light"
    letters: float = LETTERS
    size: tuple[int, int] | None = None

    def check(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            UsageError: letters or sides that are too small or too large.

        """
        if not 4 <= self.letters <= 40:  # noqa: PLR2004 - what can be read, and what leaves room for a picture
            raise UsageError(f"--font-size {self.letters:g} is not from 4 to 40 points; the usual one is {LETTERS:g}")
        if self.size is not None and not all(PIXELS[0] <= side <= PIXELS[1] for side in self.size):
            raise UsageError(
                f"--size {self.size[0]}x{self.size[1]}: a side has from {PIXELS[0]} to {PIXELS[1]} pixels; "
                "for example --size 1600x900"
            )

    @property
    def scale(self) -> float:
        """How much larger than usual the letters are."""
        return self.letters / LETTERS


USUAL = Look()


def parse_size(text: str) -> tuple[int, int]:
    """Read width x height in pixels.

    Raises:
        UsageError: the text is no size.

    """
    found = SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"--size {text} is no size; write width x height in pixels, for example --size 800x600")
    return int(found[1]), int(found[2])


CURRENT: ContextVar[Look] = ContextVar("look", default=USUAL)
"""The look of the picture that is being drawn."""


@contextlib.contextmanager
def looking(look: Look) -> Iterator[None]:
    """Draw what the block draws with this look."""
    token = CURRENT.set(look)
    try:
        yield
    finally:
        CURRENT.reset(token)
