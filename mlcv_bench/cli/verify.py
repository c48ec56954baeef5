"""`mlcv-bench verify`: are these the same function? With evidence that a sceptic accepts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.architectures.request import check_places, parse_inputs
from mlcv_bench.cli.options import (
    PICTURES,
    Asked,
    Assets,
    FontSize,
    Format,
    Output,
    PictureSize,
    Quiet,
    Sink,
    ThemeOption,
    listed,
    look_of,
    numbers,
    settings_of,
)
from mlcv_bench.equivalence.request import (
    DEFAULT_CHANNELS,
    DEFAULT_DTYPES,
    DEFAULT_GROUPS,
    DTYPES,
    MODES,
    VerifyRequest,
)
from mlcv_bench.equivalence.subject import SUBJECTS
from mlcv_bench.errors import CheckFailedError, ExitCode, TrialsFailedError, UsageError
from mlcv_bench.names import spelled
from mlcv_bench.report.look import LETTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.equivalence.study import Verification


def complete_subject(incomplete: str) -> list[str]:
    """Return the subjects that begin so, for the shell."""
    return [name for name in (*SUBJECTS, "all") if name.startswith(incomplete)]


def verify(
    subjects: Annotated[
        list[str],
        typer.Argument(
            help="Subjects (mlcv-bench list subjects), all, or two networks: catalogue names, package.module:factory, "
            "file.py:factory.",
            autocompletion=complete_subject,
            show_default=False,
        ),
    ],
    *,
    groups: Annotated[str, typer.Option("--groups", help="The notes' G, separated by commas.")] = ",".join(
        map(str, DEFAULT_GROUPS)
    ),
    width: Annotated[
        str | None,
        typer.Option("--width", help="The notes' d, separated by commas; by default the paper's for each G."),
    ] = None,
    channels: Annotated[str, typer.Option("--channels", help="The block's channels, separated by commas.")] = ",".join(
        map(str, DEFAULT_CHANNELS)
    ),
    dtype: Annotated[
        str, typer.Option("--dtype", help="Types of the checks to rounding: float64,float32,bfloat16,float16.")
    ] = ",".join(DEFAULT_DTYPES),
    mode: Annotated[
        str, typer.Option("--mode", help="train,eval, or one of them where the compared pair agrees in one alone.")
    ] = ",".join(MODES),
    device: Annotated[str, typer.Option("--device", help="Where to compute: cpu, cuda, cuda:1.")] = "cpu",
    seed: Annotated[int, typer.Option("--seed", help="Of all random numbers.")] = 0,
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many seeds, counted up from --seed.")] = 1,
    transplant: Annotated[
        str | None,
        typer.Option(
            "--transplant",
            help="For two networks: module:function that turns the first's state dict into the second's.",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="For two networks: shape of one input, as 3x64x64, or named tensors, tokens:int64:1x12. Repeatable.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="For two networks: key=value for the builders of both. Repeatable."),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            "--weights",
            help="For two networks: a file of weights, .safetensors or .pth: the first's, which the second takes over; "
            "given twice, one for each.",
        ),
    ] = None,
    keep_weights: Annotated[
        bool,
        typer.Option(
            "--keep-weights",
            help="For two networks: none are drawn; each keeps its own, or the second takes the first's by "
            "--transplant.",
        ),
    ] = False,
    fingerprint: Annotated[
        bool,
        typer.Option(
            "--fingerprint",
            help="What each network computes, as numbers that a file keeps: outputs and gradients, for its own weights "
            "and for drawn ones.",
        ),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="With --fingerprint: the .json of earlier ones; exit with 1 where they differ."),
    ] = None,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    picture_size: PictureSize = None,
    quiet: Quiet = False,
) -> Asked:
    """Prove numerically that formulations are one function, and that the proof can fail."""
    sink = Sink.of(form, output, quiet, PICTURES, look=look_of(theme, font_size, picture_size), assets=assets)
    subjects = [spelled(subject, (*SUBJECTS, "all")) for subject in subjects]
    shapes, tensors = parse_inputs(inputs or [])
    if len(shapes) > 1:
        raise UsageError("verify takes one input; give one shape, or named tensors")
    request = VerifyRequest(
        tuple(subjects),
        device.casefold(),
        tuple(listed("--dtype", [dtype], known=DTYPES)),
        seed,
        tuple(numbers("--groups", [groups])),
        tuple(numbers("--width", [width] if width is not None else None)),
        tuple(numbers("--channels", [channels])),
        tuple(listed("--mode", [mode], known=MODES)),
        trials,
        shapes[0] if shapes else None,
        transplant,
        tuple(weights or ()),
        keep_weights,
        tensors,
        settings_of(settings),
        fingerprint,
        against,
    )
    request.check()
    request.check_used()
    if fingerprint:
        return Asked(request, sink, lambda: take_fingerprints(request, sink))
    names = [] if request.compares_networks else request.names()
    drawn = any(path.suffix.lower() in PICTURES for path in sink.outputs)
    if drawn and "resnext" not in names:
        raise UsageError("the picture shows the cost of the three ResNeXt forms; name resnext among the subjects")

    def run() -> ExitCode:
        check_places(subjects)
        from mlcv_bench.equivalence.study import examine
        from mlcv_bench.execution.progress import Progress
        from mlcv_bench.report.equivalences import verification_report

        with Progress(quiet=quiet) as progress:
            found = examine(request, progress=progress.show)
        # Interrupted before the costs there is nothing to draw, and the picture there is stays.
        sink.emit(verification_report(found), "equivalences:draw" if found.forms else "")
        return verdict(found, required=() if "all" in subjects else names)

    return Asked(request, sink, run)


def take_fingerprints(request: VerifyRequest, sink: Sink) -> ExitCode:
    """Take the fingerprints of the networks and hold them against a file of earlier ones, where one is named.

    Raises:
        CheckFailedError: a network computes otherwise than in the file, or its weights are initialised otherwise.
        BaselineError: the file is missing, or holds something else.

    """
    from mlcv_bench import environment
    from mlcv_bench.comparing.saved import SavedResult, load

    base = load(request.against) if request.against is not None else None
    check_places(request.subjects)
    from mlcv_bench.equivalence.fingerprints import fingerprints
    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.report.fingerprints import fingerprint_report

    with Progress(quiet=sink.quiet) as progress:
        found = list(fingerprints(request, progress.show))
    if base is None:
        sink.emit(fingerprint_report(found))
        return ExitCode.DONE
    from mlcv_bench.comparing.differences import compare_saved
    from mlcv_bench.comparing.fingerprints import diagnoses
    from mlcv_bench.records import row_of

    new = SavedResult("this run", "fingerprint", list(map(row_of, found)), environment.capture().as_dict())
    compare_saved(base, new)  # refuses what cannot be compared
    told = diagnoses(base, new)
    sink.emit(fingerprint_report(found, told))
    if told:
        raise CheckFailedError("; ".join(f"{one.row} {one.reason or one.change}" for one in told))
    return ExitCode.DONE


def verdict(found: Verification, required: Sequence[str] = ()) -> ExitCode:
    """Return the exit code, or raise the one sentence that says what is wrong.

    Args:
        found: what was compared.
        required: subjects of which something must have been compared.

    """
    wrong = [record for record in found.failures if record.status == "done"]
    undetected = [record for record in wrong if record.control_detected is False]
    if wrong:
        counts = [
            f"{number} {words}"
            for number, words in (
                (len(wrong) - len(undetected), "comparisons failed"),
                (len(undetected), "negative controls were not detected"),
            )
            if number
        ]
        more = ""
        if found.agreeing_mode is not None:
            from mlcv_bench.report.equivalences import agreement

            more = f". {agreement(found.agreeing_mode)}"
        raise CheckFailedError(f"{' and '.join(counts)}; the first: {wrong[0].case}, {wrong[0].quantity}{more}")
    if found.failures:
        raise TrialsFailedError(
            f"{len(found.failures)} cases broke; the first: {found.failures[0].case}, {found.failures[0].reason}"
        )
    if found.interrupted:
        return ExitCode.INTERRUPTED
    for name in required:
        records = [record for record in found.records if record.subject == name]
        if records and all(record.status == "skipped" for record in records):
            raise UsageError(f"nothing of {name} was compared: {records[0].reason}")
    return ExitCode.DONE
