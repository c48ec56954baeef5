"""`mlcv-bench draw`: an architecture as a picture, traced from the built module."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from mlcv_bench.cli.options import Asked, Inputs, Name, Output, Quiet, Settings, Sink, networks
from mlcv_bench.streams import writing_result


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
    settings: Settings = None,
    inputs: Inputs = None,
    output: Output = None,
    quiet: Quiet = False,
) -> Asked:
    """Draw an architecture from its code, as SVG, PNG or Graphviz text.

    -o net.svg, -o net.png or -o net.dot says which; without -o the Graphviz text goes to stdout.
    """
    from mlcv_bench.report.diagrams.drawing import SUFFIXES, DrawRequest

    outputs = Sink.of("table", output, quiet, SUFFIXES, texts=()).outputs
    asked = networks([name], settings, inputs)
    asked.check_one("draw")
    drawing = DrawRequest(depth, training, every_layer, columns)
    drawing.check()

    def run() -> None:
        (request,) = asked.requests()
        from mlcv_bench.counting.network import Network
        from mlcv_bench.report.diagrams.dot import to_dot
        from mlcv_bench.report.files import save_picture

        diagram = drawing.diagram_of(Network.of(request))
        if not outputs:
            with writing_result() as stream:
                stream.write(to_dot(diagram))
        for path in outputs:
            save_picture(path, partial(drawing.save, diagram))

    return Asked(asked, None, run)
