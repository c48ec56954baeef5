"""`mlcv-bench draw`: an architecture as a picture, traced from the built module."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.architectures.catalog import expand
from mlcv_bench.architectures.request import several_of
from mlcv_bench.cli.figures import checked_folder
from mlcv_bench.cli.options import (
    Asked,
    Assets,
    FontSize,
    Inputs,
    Name,
    Output,
    PictureSize,
    Quiet,
    Settings,
    Sink,
    ThemeOption,
    look_of,
    networks,
)
from mlcv_bench.errors import UsageError
from mlcv_bench.names import is_specification
from mlcv_bench.report.formats import PAGE
from mlcv_bench.report.look import LETTERS
from mlcv_bench.streams import writing_result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlcv_bench.architectures.request import Request
    from mlcv_bench.counting.network import Network
    from mlcv_bench.report.diagrams.drawing import DrawRequest
    from mlcv_bench.report.look import Look


def draw(
    name: Name,
    *,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=1, help="Levels of modules to open; by default as many as stay readable."),
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Draw the training pass, with auxiliary classifiers.")
    ] = False,
    every_layer: Annotated[
        bool, typer.Option("--every-layer", help="Give norms and activations boxes of their own; fold nothing.")
    ] = False,
    columns: Annotated[int | None, typer.Option("--columns", min=1, help="Columns to break the network into.")] = None,
    part: Annotated[
        str | None, typer.Option("--module", help="Draw this module of the network alone, such as layer1.0.")
    ] = None,
    settings: Settings = None,
    inputs: Inputs = None,
    output: Output = None,
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    picture_size: PictureSize = None,
    quiet: Quiet = False,
) -> Asked:
    """Draw an architecture from its code, as SVG, PNG or Graphviz text.

    -o net.svg, -o net.png or -o net.dot says which, and -o net.html is a page whose stages fold; without -o the
    Graphviz text goes to stdout. A family, or all, goes to the folder that -o names, as SVG.
    """
    from mlcv_bench.report.diagrams.drawing import SUFFIXES, DrawRequest

    look = look_of(theme, font_size, picture_size)
    asked = networks([name], settings, inputs)
    drawing = DrawRequest(depth, training, every_layer, columns, part)
    drawing.check()
    several = not is_specification(name) and len(expand([name])) > 1
    if several and output and not output[0].suffix:
        asked.check()
        folder = checked_folder(output)
        return Asked(asked, None, lambda: draw_folder(asked.requests(), drawing, folder, look))
    outputs = Sink.of("table", output, quiet, (*SUFFIXES, PAGE), texts=(), look=look, assets=assets).outputs
    if several:
        raise UsageError(f"{several_of(name)}; or name a folder for all of them, as -o pictures")
    asked.check_one("draw")

    def run() -> None:
        (request,) = asked.requests()
        from mlcv_bench.counting.network import Network
        from mlcv_bench.report.diagrams.dot import to_dot
        from mlcv_bench.report.files import save_picture

        network = Network.of(request)
        pages = [path for path in outputs if path.suffix.lower() == PAGE]
        for path in pages:
            save_page(network, drawing, path, assets)
        if outputs and len(pages) == len(outputs):
            return
        diagram = drawing.diagram_of(network)
        if not outputs:
            with writing_result() as stream:
                stream.write(to_dot(diagram))
        for path in (path for path in outputs if path not in pages):
            save_picture(path, partial(drawing.save, diagram), look)

    return Asked(asked, None, run)


def save_page(network: Network, drawing: DrawRequest, path: Path, assets: Path | None) -> None:
    """Save a drawing as a page, with what its modules cost."""
    from mlcv_bench.counting.network import observe
    from mlcv_bench.counting.tree import own_costs
    from mlcv_bench.report.emit import save
    from mlcv_bench.report.page.network import MOST_BOXES, DrawnNetwork, report_of

    diagram = drawing.diagram_of(network, MOST_BOXES)
    seen = observe(network, 1)
    inside = f"{drawing.module}." if drawing.module else ""
    own = own_costs(seen.module, seen.trace)
    drawn = DrawnNetwork(diagram, {name[len(inside) :]: cost for name, cost in own.items() if name.startswith(inside)})
    save(report_of(drawn), [path], of=drawn, assets=assets)


def draw_folder(requests: Sequence[Request], drawing: DrawRequest, folder: Path, look: Look) -> None:
    """Draw every network into a folder, under its name."""
    from mlcv_bench.counting.network import Network
    from mlcv_bench.report.files import save_picture

    folder.mkdir(exist_ok=True)
    for request in requests:
        diagram = drawing.diagram_of(Network.of(request))
        save_picture(folder / f"{request.name}.svg", partial(drawing.save, diagram), look)
    with writing_result() as stream:
        stream.write(f"{folder}\n")
