"""`mlcv-bench draw`: an architecture as a picture, traced from the built module."""

from __future__ import annotations

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
    outputs = Sink.of("table", output, quiet, (".svg", ".png"), texts=(".dot",)).outputs
    asked = networks([name], settings, inputs)
    asked.check_one("draw")

    def run() -> None:
        (request,) = asked.requests()
        from mlcv_bench.architectures.inputs import in_order
        from mlcv_bench.counting.network import Network
        from mlcv_bench.report.diagrams.dot import to_dot
        from mlcv_bench.report.diagrams.graph import diagram_of
        from mlcv_bench.report.files import save_picture, save_text

        network = Network.of(request)
        module = network.on_meta()
        diagram = diagram_of(
            module,
            in_order(network.inputs(module, 2, "meta"), module),
            title=request.label,
            depth=depth,
            training=training,
            merge=not every_layer,
        )
        if not outputs:
            with writing_result() as stream:
                stream.write(to_dot(diagram))
        for path in outputs:
            if path.suffix.lower() == ".dot":
                save_text(path, to_dot(diagram))
            else:
                from mlcv_bench.report.diagrams.paint import paint

                save_picture(path, lambda place: paint([diagram], place, columns=columns))

    return Asked(asked, None, run)
