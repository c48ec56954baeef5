"""`mlcv-bench compare`: a saved file against another of the same study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlcv_bench.cli.options import Asked, Assets, Format, Output, Quiet, Sink, parse_share
from mlcv_bench.errors import BaselineError, ExitCode

Base = Annotated[Path, typer.Argument(help="The .json that an earlier run saved with -o.", show_default=False)]
New = Annotated[Path, typer.Argument(help="The .json of the run to judge.", show_default=False)]
FailAbove = Annotated[str, typer.Option("--fail-above", help="How much slower a median may get, intervals counted.")]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Exit with 4 if environments differ, 3 if a time is undecided."),
]


def compare(
    base: Base,
    new: New,
    *,
    fail_above: FailAbove = "5%",
    strict: Strict = False,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    quiet: Quiet = False,
) -> Asked:
    """Compare two saved files of one study or suite: costs, times, races, verifications, claims, ab or run."""
    sink = Sink.of(form, output, quiet, assets=assets)
    share = parse_share(fail_above, whole=True)

    def run() -> ExitCode:
        from mlcv_bench.comparing.differences import compare_saved
        from mlcv_bench.comparing.saved import load
        from mlcv_bench.report.comparisons import comparison_report

        verdict = compare_saved(load(base), load(new), share)
        sink.emit(comparison_report(verdict))
        if verdict.regressions:
            return ExitCode.CHECK_FAILED
        if strict and verdict.advisory:
            raise BaselineError(
                "the environments differ in what decides a time; measure both on one machine, or use `ab`"
            )
        if missing := dict.fromkeys(one.row for one in verdict.differences if one.change == "missing"):
            raise BaselineError(f"{new} lacks {'; '.join(missing)} of {base}; measure the same names and settings")
        undecided = any(one.change == "undecided" for one in verdict.differences)
        return ExitCode.INCONCLUSIVE if strict and undecided else ExitCode.DONE

    return Asked((base, new, share), sink, run)
