"""`draw` and `figure`: networks and the notes' figures as pictures."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mlcv_bench.api.calls import public
from mlcv_bench.api.costs import network_of
from mlcv_bench.architectures.inputs import InputLike
from mlcv_bench.extras import require
from mlcv_bench.report import gallery
from mlcv_bench.report.diagrams.drawing import SUFFIXES, DrawRequest
from mlcv_bench.report.files import check_outputs, save_picture
from mlcv_bench.report.formats import PICTURES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Picture:
    """A picture: shows itself in a notebook, and is saved by `.save("picture.svg")`."""

    def __init__(self, title: str, paint: Callable[[Path], None], suffixes: Sequence[str] = PICTURES) -> None:
        """Have a title, a function that paints into a file, and the suffixes of the files that it paints into."""
        self.title = title
        self._paint = paint
        self._suffixes = suffixes

    def __repr__(self) -> str:
        """Return one line."""
        return f"<Picture: {self.title}; .save takes {' '.join(self._suffixes)}>"

    @public
    def save(self, path: str | Path) -> None:
        """Paint into a file, which is replaced whole or not at all; its suffix decides the form.

        Raises:
            UsageError: the suffix is of no such form, or the file cannot be written.

        """
        place = Path(path)
        check_outputs([place], pictures=self._suffixes, texts=())
        save_picture(place, self._paint)

    def _repr_svg_(self) -> str:
        """Return the picture as a notebook shows it."""
        require("plots", "a picture in a notebook")
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "picture.svg"
            save_picture(place, self._paint)
            text = place.read_text(encoding="utf-8")
        return text[text.index("<svg") :]  # a notebook's page is no XML file


@public
def draw(
    subject: str | nn.Module | Callable[..., nn.Module],
    *,
    input: InputLike | None = None,  # noqa: A002 - the word of the command line
    tensors: str | Sequence[str] = (),
    depth: int | None = None,
    training: bool = False,
    every_layer: bool = False,
    columns: int | None = None,
    **options: Any,  # noqa: ANN401 - the builder's own options
) -> Picture:
    """Draw a network from its code.

    Args:
        subject: an architecture's name, a specification, a function or class that builds a network, or any module,
            which is left exactly as it is.
        input: as in `count`.
        tensors: as in `count`.
        depth: levels of modules to open; by default as many as stay readable.
        training: draw the training pass, with auxiliary classifiers.
        every_layer: give norms and activations boxes of their own; fold nothing.
        columns: to break the network into.
        **options: keyword options of the architecture's builder, such as form="branches".

    Raises:
        UsageError: unknown name or option, or a network that cannot take the input or be followed by torch.fx.

    """
    request = DrawRequest(depth, training, every_layer, columns)
    request.check()
    network = network_of(subject, input, tensors, options)
    diagram = request.diagram_of(network)
    return Picture(network.request.label, partial(request.save, diagram), SUFFIXES)


@public
def figure(number: str | float, *, seed: int = 0) -> Picture:
    """Draw a figure of the notes: what it shows in chapter 1 is run, the networks of chapter 2 are built.

    Args:
        number: 1.1 to 2.4, or resnext; `mlcv-bench figures` lists them.
        seed: decides starts, noise, weights and the order of data.

    Raises:
        UsageError: there is no such figure, or the seed is negative.

    """
    (found,) = gallery.find([str(number)])
    return Picture(f"figure {found}: {gallery.GALLERY[found]}", gallery.painter(found, seed))
