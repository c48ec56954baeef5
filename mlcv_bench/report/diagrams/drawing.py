"""What is asked of `draw`: how a network is drawn, checked without torch; and the drawing in any form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from mlcv_bench.counting.network import Network
    from mlcv_bench.report.diagrams.graph import Diagram

SUFFIXES = (".svg", ".png", ".pdf", ".dot")
"""Of the files that a drawing is saved as."""


@dataclass(frozen=True)
class DrawRequest:
    """How a network is drawn.

    `depth` levels of modules are opened, by default as many as stay readable; `training` draws the training pass, with
    auxiliary classifiers; with `every_layer` norms and activations have boxes of their own; the network is broken into
    `columns`. Of a network with a `module`, such as `features.0`, this part alone is drawn, on the input that it gets.
    """

    depth: int | None = None
    training: bool = False
    every_layer: bool = False
    columns: int | None = None
    module: str | None = None

    def check(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            UsageError: no level, or no column.

        """
        for option, value in (("--depth", self.depth), ("--columns", self.columns)):
            if value is not None and value < 1:
                raise UsageError(f"{option} takes at least 1, not {value}")

    def diagram_of(self, network: Network, few: int | None = None) -> Diagram:
        """Trace a network; `few` boxes may be drawn where no depth is given, by default as many as a page of paper has.

        Raises:
            UsageError: torch.fx cannot follow its forward pass, it cannot take the input, or has no such module.

        """
        from mlcv_bench.architectures.inputs import in_order  # noqa: PLC0415 - loads torch
        from mlcv_bench.report.diagrams.graph import FEW, diagram_of, part_of  # noqa: PLC0415 - as above

        module, title = network.on_meta(), network.request.label
        arguments = in_order(network.inputs(module, 2, "meta"), module)
        if self.module is not None:
            module, arguments = part_of(module.train(self.training), arguments, self.module)
            title += f", {self.module}"
        return diagram_of(
            module,
            arguments,
            title=title,
            depth=self.depth,
            training=self.training,
            merge=not self.every_layer,
            few=FEW if few is None else few,
        )

    def save(self, diagram: Diagram, path: Path) -> None:
        """Write a diagram into a file, whose suffix decides the form: Graphviz text, or a picture."""
        if path.suffix.lower() == ".dot":
            from mlcv_bench.report.diagrams.dot import to_dot  # noqa: PLC0415 - this form alone needs it

            path.write_text(to_dot(diagram), encoding="utf-8", errors="replace", newline="")
        else:
            from mlcv_bench.report.diagrams.paint import paint  # noqa: PLC0415 - loads matplotlib

            paint([diagram], path, columns=self.columns)
