"""`mlcv-bench env`: everything about this machine that decides a figure."""

from __future__ import annotations

from mlcv_bench.cli.options import Asked, Format, Output, Quiet, Sink


def env(*, form: Format = "table", output: Output = None, quiet: Quiet = False) -> Asked:
    """Show what decides a figure here: processor, quota, versions, BLAS, threads, GPU, flags."""
    sink = Sink.of(form, output, quiet)

    def run() -> None:
        from mlcv_bench.timing.machine import describe, settle

        settle()
        from mlcv_bench.report.machines import machine_report
        from mlcv_bench.timing.devices import resolve_device

        sink.emit(machine_report(describe(resolve_device("auto"))))

    return Asked(None, sink, run)
