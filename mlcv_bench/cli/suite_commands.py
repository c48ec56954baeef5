"""Checking a suite's commands before any runs: Typer reads their options, and the tables their names.

Neither torch nor anybody's own file is imported for that: what a specification names is checked in its entry's process.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

from mlcv_bench.errors import UsageError


def built_in(names: Sequence[str], table: Container[str] = ()) -> list[str]:
    """Return the names that no code outside this package decides on; `table` may take settings after a colon."""
    from mlcv_bench.names import is_specification

    return [name for name in names if not is_specification(name) or name.partition(":")[0] in table]


def check_race(given: dict[str, Any]) -> None:
    """Check the surface or the task of `optim-race`, its optimizers and its limits."""
    from mlcv_bench.cli.racing_options import check_engine
    from mlcv_bench.cli.task_race import refuse_other_race
    from mlcv_bench.optimizers import rule
    from mlcv_bench.surface_race.race import PROTOCOLS, check_limits
    from mlcv_bench.surfaces import catalog

    refuse_other_race(given["context"], on_task=bool(given["task"]))
    for name in built_in(given["optimizer"] or [], rule.RULES):
        rule.find(name)
    if given["task"]:
        check_task_race(given)
        return
    check_engine(given["engine"])
    options = ("condition", "dim", "batch_size", "rotate", "noise")
    for name in built_in([given["surface"]], catalog.SURFACES):
        catalog.find(name, **{option: given[option] for option in options})
    check_limits(given["steps"], given["target"], given["protocol"] or PROTOCOLS)


def check_task_race(given: dict[str, Any]) -> None:
    """Check a race on tasks."""
    from mlcv_bench.cli.task_race import check_store, check_workers, was_given
    from mlcv_bench.task_race.request import FIRST_ORDER, TASK_PROTOCOLS, TaskRaceRequest

    check_store(given["store"], resume=given["resume"])
    check_workers(given["workers"], given["scheduler"])
    TaskRaceRequest(
        tasks=tuple(given["task"]),
        optimizers=tuple(given["optimizer"] or FIRST_ORDER),
        models=tuple(given["model"] or ("mlp",)),
        data=given["data"],
        batch_size=32 if given["batch_size"] is None else given["batch_size"],
        target=given["target"] if was_given(given["context"], "target") else None,
        protocols=tuple(given["protocol"] or TASK_PROTOCOLS),
        **{name: given[name] for name in ("epochs", "seeds", "schedule", "rates", "image_size")},
    ).check()


def check_claims(given: dict[str, Any]) -> None:
    """Check the ids and sections of `claims`."""
    from mlcv_bench.claims.catalog import select

    if given["ids"] and given["sections"]:
        raise UsageError("give --id or --section, not both")
    select(given["ids"] or [], given["sections"] or [], everything=given["everything"])


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {"optim-race": check_race, "claims": check_claims}
