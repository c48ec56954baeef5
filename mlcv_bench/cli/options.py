"""What the commands share: how one is asked and shows its result, options that several have, and how texts are read."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcv_bench import interruption
from mlcv_bench.errors import UsageError
from mlcv_bench.names import parse_settings, seconds_of, share_of, spelled
from mlcv_bench.report import formats
from mlcv_bench.report.formats import Form
from mlcv_bench.report.look import USUAL, Look, Theme, parse_size

if TYPE_CHECKING:
    from mlcv_bench.architectures.request import Networks
    from mlcv_bench.records import Report

PICTURES = formats.PICTURES
"""What a command that draws can draw."""


@dataclass(frozen=True)
class Asked:
    """A command with everything it was given read and checked; nothing of it has run.

    `request` is the study's; `sink` is where the result goes, None for a command that saves none. `run` measures, shows
    and saves, and returns the exit code, None for 0.
    """

    request: Any
    sink: Sink | None
    run: Callable[[], int | None]


@dataclass(frozen=True)
class Sink:
    """Where a command's result goes: to stdout in one form, and to files."""

    form: Form = "table"
    outputs: tuple[Path, ...] = ()
    quiet: bool = False
    look: Look = USUAL
    assets: Path | None = None

    @classmethod
    def of(
        cls,
        form: Form,
        output: list[Path] | None,
        quiet: bool,
        pictures: Sequence[str] = (),
        texts: Sequence[str] | None = None,
        look: Look = USUAL,
        assets: Path | None = None,
    ) -> Sink:
        """Check the files; `pictures` are the suffixes that the command draws, `texts` those it writes, if not all.

        Raises:
            UsageError: a file that could not be written afterwards, a look without a picture, or assets without a page.

        """
        from mlcv_bench.report.files import TEXT_SUFFIXES, check_outputs

        check_outputs(output or [], pictures=pictures, texts=TEXT_SUFFIXES if texts is None else texts)
        if look != USUAL and not any(path.suffix.lower() in pictures for path in output or []):
            raise UsageError(
                f"--theme, --font-size and --size are a picture's, and no -o names one; add -o FILE{pictures[0]}"
                if pictures
                else "--theme, --font-size and --size are a picture's, and this draws none"
            )
        if assets is not None and not any(path.suffix.lower() == formats.PAGE for path in output or []):
            raise UsageError(f"--assets is for a page, and no -o names one; add -o FILE{formats.PAGE}")
        return cls(form, tuple(output or ()), quiet, look, assets)

    def emit(self, report: Report, plot: str = "", of: object = None) -> None:
        """Show and save a report; `plot`, MODULE:FUNCTION in `report.plots`, draws it, or `of` where that is given.

        The function is imported, and matplotlib with it, only where a picture is asked for.
        """
        from mlcv_bench.report.emit import emit

        def draw(shown: Report, path: Path) -> None:
            module, _, function = plot.partition(":")
            paint = getattr(importlib.import_module(f"mlcv_bench.report.plots.{module}"), function)
            paint(shown if of is None else of, path)

        if not report.runs:
            interruption.check()
        with interruption.postponed():
            emit(
                report,
                self.form,
                self.outputs,
                draw=draw if plot else None,
                of=of,
                quiet=self.quiet,
                look=self.look,
                assets=self.assets,
            )


Format = Annotated[Form, typer.Option("--format", help="How stdout shows the result; csv and json print the runs.")]
Output = Annotated[
    list[Path] | None,
    typer.Option("-o", "--output", help="Also save here; the suffix decides the form. Repeatable.", show_default=False),
]
ThemeOption = Annotated[
    Theme, typer.Option("--theme", help="Page of the picture; transparent has the light one's colours.")
]
FontSize = Annotated[float, typer.Option("--font-size", help="Points of a picture's letters, those at its axes.")]
PictureSize = Annotated[
    str | None,
    typer.Option(
        "--size", help="Width and height of the picture in pixels, as 1600x900; .svg and .pdf take the shape alone."
    ),
]
Assets = Annotated[
    Path | None,
    typer.Option(
        "--assets", help="Folder for the script that a page draws with, for sites of many pages; else each holds it."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no warnings on stderr.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value for the builder, applied to all names. Repeatable.", show_default=False),
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Images in a batch.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="Shape of one image, as 3x224x224, or a named tensor, as tokens:int64:1x128. Repeatable.",
        show_default=False,
    ),
]
TurnSeed = Annotated[int, typer.Option("--seed", help="Seeds weights, images and the order of turns.")]
StorePath = Annotated[
    Path | None, typer.Option("--store", help="Append everything finished here at once, as JSON lines.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the --store where it was cut off.")]


def look_of(theme: Theme, font_size: float, size: str | None = None) -> Look:
    """Return the look that the options ask for.

    Raises:
        UsageError: what cannot be drawn.

    """
    look = Look(theme, font_size, None if size is None else parse_size(size))
    look.check()
    return look


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


def networks(names: Sequence[str], settings: list[str] | None, inputs: Sequence[str] | None) -> Networks:
    """Read the names, the --set and the --input of a command.

    Raises:
        UsageError: a text that is no setting, no shape and no tensor.

    """
    from mlcv_bench.architectures.request import Networks, parse_inputs

    shapes, tensors = parse_inputs(parts("--input", inputs or []))
    return Networks(tuple(names), settings_of(settings), tuple(shapes), tensors)


def settings_of(texts: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """Return what --set gave, in the order of its keys.

    Raises:
        UsageError: a text that sets nothing, or a key given twice.

    """
    return tuple(sorted(parse_settings(texts or []).items()))


def parts(option: str, texts: Sequence[str], comma: str = ",") -> list[str]:
    """Split what was given repeatedly or with commas; `comma` is the pattern of one that separates.

    Raises:
        UsageError: nothing stands before, between or after the commas.

    """
    found = [part.strip() for text in texts for part in re.split(comma, text)]
    if not all(found):
        raise UsageError(f"{option} '{','.join(texts)}' leaves a value out; give one on each side of a comma")
    return found


def listed(option: str, texts: list[str] | None, default: str = "", known: Iterable[str] = ()) -> list[str]:
    """Split as `parts`, each once, and spelled as `known` has it; without a default, nothing gives an empty list.

    Raises:
        UsageError: as `parts`.

    """
    given = texts or ([default] if default else [])
    names = list(known)
    return list(dict.fromkeys(spelled(part, names) for part in parts(option, given)))


BEFORE_NO_SETTING = r",(?!\s*\w+\s*=)(?![^(]*\))"
"""The comma between two optimizers, not that between the settings of one, as in sgd,adam:lr=0.1,beta1=0.9."""


def optimizers_of(texts: Sequence[str] | None) -> tuple[str, ...]:
    """Split the optimizers that were given repeatedly or with commas.

    Raises:
        UsageError: as `parts`.

    """
    return tuple(parts("--optimizer", texts or [], BEFORE_NO_SETTING))


def numbers(option: str, texts: list[str] | None, default: int | None = None) -> list[int]:
    """Return an option's whole numbers, each at least 1.

    Raises:
        UsageError: another value, or none between commas.

    """
    values = listed(option, texts, "" if default is None else str(default))
    for value in values:
        if not re.fullmatch(r"0*[1-9]\d{0,17}", value, re.ASCII):
            raise UsageError(
                f"{option} takes whole numbers: '{value:.40}' is no whole number from 1 on; for example {option} 1,8"
            )
    return [int(value) for value in values]


def parse_time(option: str, text: str) -> float:
    """Read 20ms, 500us or 0.02s as seconds.

    Raises:
        UsageError: it is no such time.

    """
    seconds = seconds_of(text)
    if seconds is None:
        raise UsageError(f"{option} takes a time with its unit, not '{text}'; write 20ms, 500us or 0.02s")
    return seconds


def parse_share(text: str, *, whole: bool = False) -> float:
    """Read 2% or 0.02 as a share above 0 and below 1, with `whole` 150% too.

    Raises:
        UsageError: it is no such share.

    """
    share = share_of(text, whole=whole)
    if share is None and whole:
        raise UsageError(f"'{text}' is no share above 0%; write 2%, 0.02 or 150%")
    if share is None:
        raise UsageError(f"'{text}' is no share between 0% and 100%; write 2% or 0.02")
    return share
