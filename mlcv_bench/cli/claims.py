"""`mlcv-bench claims`: the remarks of the course notes, tested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
)
from mlcv_bench.errors import CheckFailedError, ExitCode, TrialsFailedError, UsageError
from mlcv_bench.report.look import LETTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.claims.claim import ClaimResult


def complete_claim(incomplete: str) -> list[str]:
    """Return the ids that begin so, for the shell."""
    from mlcv_bench.claims.claim import CLAIMS

    return [name for name in CLAIMS if name.startswith(incomplete)]


def claims(
    *,
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", help="Test this claim. Repeatable.", autocompletion=complete_claim, show_default=False),
    ] = None,
    sections: Annotated[
        list[str] | None,
        typer.Option("--section", help="Test the claims of this section of the notes. Repeatable.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also the long ones, which train networks.")] = False,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Also show every number behind the verdicts, as --id does.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Draw the claim that --id names: -o FILE.png or .svg, or ID.png here.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes to test in.")] = 1,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    picture_size: PictureSize = None,
    quiet: Quiet = False,
) -> Asked:
    """Test the course notes' remarks: an experiment, theory's prediction and a verdict for each."""
    from mlcv_bench.claims.claim import CLAIMS, ClaimsRequest
    from mlcv_bench.execution.processes import check_workers

    check_workers(workers, None)
    ids = listed("--id", ids, known=CLAIMS)
    output = with_picture(ids, output or []) if show else output
    sink = Sink.of(
        form, output, quiet, PICTURES if show else (), look=look_of(theme, font_size, picture_size), assets=assets
    )
    request = ClaimsRequest(tuple(ids), tuple(listed("--section", sections)), everything)
    request.check()

    def run() -> ExitCode:
        from mlcv_bench.claims.claim import examine
        from mlcv_bench.execution.processes import in_turn
        from mlcv_bench.execution.progress import Progress
        from mlcv_bench.report.claims import claims_report

        chosen = request.chosen()
        results: list[ClaimResult] = []
        interrupted = False
        with Progress(len(chosen), quiet=quiet) as progress:
            try:
                for result in in_turn(examine, chosen, workers):
                    results.append(result)
                    progress.show(f"{len(results)}/{len(chosen)} {result.id}", len(results))
            except KeyboardInterrupt:
                interrupted = True
        report = claims_report(results, explain=bool(ids), numbers=numbers or bool(ids), left_out=request.left_out())
        sink.emit(report, "claims:draw_first", results)
        return ExitCode.INTERRUPTED if interrupted else ending(results)

    return Asked(request, sink, run)


def ending(results: Sequence[ClaimResult]) -> ExitCode:
    """Return the exit code, or name the claims that failed and those whose verdict changed.

    Raises:
        TrialsFailedError: an experiment broke.
        CheckFailedError: a verdict is not the recorded one.

    """
    from mlcv_bench.report.claims import VERDICTS

    failed = [f"{result.id} failed: {result.reason}" for result in results if result.status == "failed"]
    changed = [
        f"{result.id}: recorded as '{VERDICTS[result.expected]}', this run says '{VERDICTS[result.verdict]}'"
        for result in results
        if result.changed
    ]
    if failed:
        raise TrialsFailedError("; ".join([*failed, *changed]))
    if changed:
        raise CheckFailedError("; ".join(changed))
    return ExitCode.DONE


def with_picture(ids: list[str], output: list[Path]) -> list[Path]:
    """Return the outputs with a picture among them, named as the claim where none was.

    Raises:
        UsageError: not one claim is named.

    """
    if len(ids) != 1:
        raise UsageError("--show draws one claim; name it with --id, for example --id 1.1-sphere --show")
    if any(path.suffix.lower() in PICTURES for path in output):
        return output
    return [*output, Path(f"{ids[0]}.png")]
