"""What `mlcv-bench flops` does under --audit, --reconcile and --training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.errors import CheckFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from mlcv_bench.architectures.request import Request
    from mlcv_bench.cli.options import Form


def run(
    what: str,
    requests: list[Request],
    batches: list[int],
    optimizer: str,
    memory: str | None,
    form: Form,
    output: list[Path],
    *,
    quiet: bool,
) -> None:
    """Count every request in the asked way, print and save.

    Raises:
        CheckFailedError: an audit leaves something unexplained.

    """
    from mlcv_bench.report import emit

    if what == "audit":
        audited(requests, batches, form, output, quiet=quiet)
    elif what == "reconcile":
        from mlcv_bench.counting.network import Network
        from mlcv_bench.counting.reconcile import reconcile
        from mlcv_bench.report.audits import reconcile_report

        emit(reconcile_report([reconcile(Network.of(request)) for request in requests]), form, output, quiet=quiet)
    else:
        trained(requests, batches, optimizer, memory, form, output, quiet=quiet)


def audited(requests: list[Request], batches: list[int], form: Form, output: list[Path], *, quiet: bool) -> None:
    """Audit every request; whatever no rule explains fails the check after everything is shown."""
    from mlcv_bench.counting.audit import audit
    from mlcv_bench.counting.network import Network
    from mlcv_bench.report import emit
    from mlcv_bench.report.audits import audit_report

    audits = [audit(Network.of(request), batch) for request in requests for batch in batches]
    emit(audit_report(audits), form, output, quiet=quiet)
    apart = [found for found in audits if found.leftover]
    if apart:
        names = ", ".join(f"{found.architecture} ({found.leftover:,})" for found in apart)
        raise CheckFailedError(f"the audit leaves something unexplained for {names}")


def trained(
    requests: list[Request],
    batches: list[int],
    optimizer: str,
    memory: str | None,
    form: Form,
    output: list[Path],
    *,
    quiet: bool,
) -> None:
    """Count a training step of every request; a wrong optimizer or amount is refused before torch is loaded."""
    from mlcv_bench.counting.budget import parse_memory, slots_of
    from mlcv_bench.report import emit

    slots_of(optimizer)
    limit = parse_memory(memory) if memory is not None else None
    from mlcv_bench.counting.network import Network
    from mlcv_bench.counting.training import training_cost
    from mlcv_bench.report.training import training_report

    costs = [
        training_cost(Network.of(request), batch, optimizer=optimizer, memory=limit)
        for request in requests
        for batch in batches
    ]
    emit(training_report(costs), form, output, quiet=quiet)
