"""Options that several commands share, each defined once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlcv_bench.architectures.request import parse_inputs
from mlcv_bench.architectures.request import parse_shape as parse_shape  # noqa: PLC0414 - for the commands
from mlcv_bench.errors import UsageError
from mlcv_bench.names import parse_settings

if TYPE_CHECKING:
    from mlcv_bench.architectures.request import Request

Form = Literal["table", "markdown", "csv", "json"]

Format = Annotated[Form, typer.Option("--format", help="How stdout shows the result; csv and json print the runs.")]
Output = Annotated[
    list[Path] | None,
    typer.Option("-o", "--output", help="Also save here; the suffix decides the form. Repeatable.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no warnings on stderr.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value for the builder, applied to all names. Repeatable.", show_default=False),
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Images in a batch.")]
Input = Annotated[
    str | None,
    typer.Option("--input", help="Shape of one image, as 3x224x224; by default the architecture's own."),
]

Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="Shape of one image, as 3x224x224, or a named tensor, as tokens:int64:1x128. Repeatable.",
        show_default=False,
    ),
]
Batches = Annotated[
    list[int] | None,
    typer.Option("--batch", min=1, help="Images in a batch; 1 if not given. Repeatable.", show_default=False),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="Check these weights against the network: .safetensors, .pth, .pt."),
]


def one_request(command: str, name: str, settings: list[str] | None, inputs: list[str] | None) -> Request:
    """Check what was asked of a command that shows one network with one input.

    Raises:
        UsageError: a family, several shapes, or what `resolve` refuses.

    """
    from mlcv_bench.architectures.request import resolve

    shapes, tensors = parse_inputs(inputs or [])
    if len(shapes) > 1:
        raise UsageError(f"{command} shows one input; give one shape, or named tensors")
    requests = resolve(
        [name], settings=parse_settings(settings or []), input=shapes[0] if shapes else None, tensors=tensors
    )
    if len(requests) > 1:
        members = ", ".join(request.name for request in requests)
        raise UsageError(f"{command} shows one network, and {name} is a family; choose one of {members}")
    return requests[0]


DEVICES = ("cpu", "cuda", "cuda:1", "mps")


def check_device(name: str, known: Sequence[str] = DEVICES) -> None:
    """Refuse what is no name of a device; whether it is here is known once torch is loaded.

    Raises:
        UsageError: no such device.

    """
    if name not in known and not re.fullmatch(r"cuda(:\d+)?", name):
        raise UsageError(f"--device has no {name}; choose from {', '.join(known)}")


def complete_architecture(incomplete: str) -> list[str]:
    """Return the architectures and families that begin so, for the shell."""
    from mlcv_bench.architectures.catalog import ARCHITECTURES, FAMILIES

    return [name for name in (*FAMILIES, *ARCHITECTURES) if name.startswith(incomplete)]


Names = Annotated[
    list[str],
    typer.Argument(
        help="Architectures, families (resnext, vgg ...), or specifications package.module:factory, file.py:factory.",
        autocompletion=complete_architecture,
        show_default=False,
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        help="An architecture, or a specification package.module:factory, file.py:factory.",
        autocompletion=complete_architecture,
        show_default=False,
    ),
]
