"""Everything that can be known to be wrong with a race on tasks before torch is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from mlcv_bench.errors import UsageError
from mlcv_bench.task_race.schedules import SCHEDULES
from mlcv_bench.tasks import catalog

TaskProtocol = Literal["default", "tuned"]
TASK_PROTOCOLS: tuple[TaskProtocol, ...] = get_args(TaskProtocol)


def check_request(  # noqa: C901, PLR0912, PLR0913 - one sentence for each thing that can be wrong
    tasks: Sequence[str],
    *,
    models: Sequence[str],
    batch_size: int,
    epochs: int | None,
    seeds: int,
    target: float | None,
    schedule: str,
    protocols: Sequence[str],
    rates: int,
    image_size: int,
) -> None:
    """Refuse impossible requests without loading torch.

    Raises:
        UsageError: one sentence on the first thing that is wrong.

    """
    for kind, names in (("--task", tasks), ("--model", models)):
        for name in names:
            if list(names).count(name) > 1:
                raise UsageError(f"{kind} gives {name} twice; keep one")
    for name in tasks:
        catalog.find(name)
    if batch_size < 1:
        raise UsageError(f"--batch-size is at least 1, not {batch_size}")
    if epochs is not None and epochs < 1:
        raise UsageError(f"--epochs is at least 1, not {epochs}")
    if seeds < 1:
        raise UsageError(f"--seeds is at least 1, not {seeds}")
    if target is not None and not 0 < target <= 1:
        raise UsageError(f"on a task --target is a validation accuracy above 0 and up to 1, not {target:g}")
    if schedule not in SCHEDULES:
        raise UsageError(f"unknown schedule '{schedule}'; choose from {', '.join(SCHEDULES)}")
    if not protocols:
        raise UsageError(f"name a protocol: {', '.join(TASK_PROTOCOLS)}")
    for protocol in protocols:
        if protocol not in TASK_PROTOCOLS:
            known = ", ".join(TASK_PROTOCOLS)
            why = "; no closed form gives a network's best rate" if protocol == "theory" else ""
            raise UsageError(f"on a task the protocol is one of {known}, not '{protocol}'{why}")
    if rates < 3:  # noqa: PLR2004 - an inner rate and two edges
        raise UsageError(f"the grid has at least 3 rates, not {rates}")
    if image_size < 4:  # noqa: PLR2004 - two poolings halve it twice
        raise UsageError(f"--image-size is at least 4, not {image_size}")


def check_data_of(tasks: Sequence[str], data: str | None) -> None:
    """Refuse tasks without their files, and files that no task takes.

    Raises:
        UsageError: --data is missing, superfluous, does not exist, or would have to serve two tasks.

    """
    needing = [task for task in tasks if catalog.find(task).needs_data]
    if len(needing) > 1:
        raise UsageError(f"--data belongs to one task, and {' and '.join(needing)} both need it; race them apart")
    for name in tasks:
        place = Path(data) if data is not None and (name in needing or not needing) else None
        catalog.check_data(catalog.find(name), place)
