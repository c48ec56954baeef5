"""`mlcv-bench env`: everything about this machine that decides a figure."""

from __future__ import annotations

from mlcv_bench.cli.options import Format, Output, Quiet


def env(*, form: Format = "table", output: Output = None, quiet: Quiet = False) -> None:
    """Show what decides a figure here: processor, quota, versions, BLAS, threads, GPU, flags."""
    from mlcv_bench.report import check_outputs, emit
    from mlcv_bench.timing import openmp

    check_outputs(output or [])
    openmp.settle()
    from mlcv_bench.report.machines import machine_report
    from mlcv_bench.timing.devices import resolve_device
    from mlcv_bench.timing.machine import describe

    emit(machine_report(describe(resolve_device("auto"))), form, output or [], quiet=quiet)
